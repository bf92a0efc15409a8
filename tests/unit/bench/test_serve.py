"""One load in a container, with a FAKE docker and a FAKE vllm in front of the real shell script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pdinfra.bench import serve as module
from pdinfra.bench.serve import Job, command, serve
from pdinfra.driver.look import FAILED, DriverError
from tests.unit.builders import plan, specs

SPEC = specs(plan())["prefill-a-0"]
JOB = Job(
    service="pd",
    host="a",
    url="http://10.0.0.1:8000",
    model="a model",
    tokenizer="/srv/models/tiny",
    spec=SPEC,
    image=SPEC.image,
    requests=12,
    concurrency=2,
    output_tokens=2,
    template=True,
    seconds=60,
)

DOCKER = """\
#!/bin/sh
# FAKE docker: runs the container's script here, with its own /tmp; notes what it is asked.
printf '%s\\n' "$*" | tr '\\n' ' ' >> "$FAKE/asked"; echo >> "$FAKE/asked"
[ "$1" = run ] || exit 0
for word in "$@"; do last=$word; done
exec sh -c "$(printf %s "$last" | sed "s,/tmp,$FAKE/tmp,g")"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the FAKES; ``asked`` in it is what docker was asked."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    executable(tmp_path / "bin" / "docker", DOCKER)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    return tmp_path


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def vllm(fake: Path, lines: str) -> None:
    executable(fake / "bin" / "vllm", f"#!/bin/sh\n# FAKE vllm\n{lines}\n")


def here(words: Sequence[str]) -> list[str]:
    return list(words)


def quiet(done: int, of: int) -> None:
    return


def failed(fake: Path, lines: str, job: Job = JOB) -> str:
    """Return the one line of a load that fails, after its container was removed."""
    vllm(fake, lines)
    with pytest.raises(DriverError) as caught:
        serve(job, "", here, quiet)
    assert caught.value.code == FAILED
    asked = (fake / "asked").read_text().splitlines()
    assert asked[-1].startswith("rm --force --volumes pd-bench-pd-")
    (line,) = caught.value.lines
    assert line.startswith("a: vllm bench serve: ")
    assert "Fix: " in line
    return line


def test_data_goes_in_the_result_comes_out_and_words_do_not_disturb_it(fake: Path) -> None:
    vllm(
        fake,
        'echo "$@" > "$FAKE/words"; echo a table; echo a warning >&2\n'
        'cp "$FAKE/tmp/dataset.jsonl" "$FAKE/seen"\n'
        'echo \'{"completed": 12}\' > "$FAKE/tmp/result.json"',
    )
    assert serve(JOB, '{"prompt": "量"}\n', here, quiet) == {"completed": 12}
    assert (fake / "seen").read_text() == '{"prompt": "量"}\n'
    words = (fake / "words").read_text()
    for option in ("--model=a model", "--max-concurrency=2", "--custom-output-len=2"):
        assert option in words
    assert "--skip-chat-template" not in words
    assert len((fake / "asked").read_text().splitlines()) == 1


def test_the_container_gets_the_engines_image_and_model_but_nothing_to_write_and_no_device() -> (
    None
):
    words = command(JOB, "pd-bench-x")
    assert words[:3] == ["docker", "run", "--rm"]
    assert SPEC.image in words
    assert {"--network=host", "--cap-drop=ALL", "--pull=never", "--name=pd-bench-x"} <= set(words)
    mounts = [word for word in words if word.startswith("--mount=")]
    assert len(mounts) == 1
    assert mounts[0].endswith(",readonly")
    assert not any(word.startswith(("--device", "--gpus", "--privileged")) for word in words)


def test_a_model_without_a_template_gets_none() -> None:
    assert "--skip-chat-template" in command(replace(JOB, template=False), "n")[-1]


def test_progress_is_told(fake: Path) -> None:
    vllm(
        fake,
        'printf " 50%%|#| 6/12 [00:01<00:01]\\r" >&2\n'
        'while [ ! -e "$FAKE/told" ]; do sleep 0.05; done\n'
        'echo "{}" > "$FAKE/tmp/result.json"',
    )
    seen = []

    def show(done: int, of: int) -> None:
        seen.append((done, of))
        (fake / "told").touch()

    assert serve(JOB, "", here, show) == {}
    assert seen[0] == (6, 12)


def test_the_load_stops_by_itself(fake: Path) -> None:
    line = failed(fake, "exec sleep 5", replace(JOB, seconds=1))
    assert "stopped after 0.017 minutes" in line
    assert "--max-minutes" in line


def test_a_host_that_hangs_is_not_waited_for(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", -59.5)
    assert "--max-minutes" in failed(fake, "exec sleep 5")


def test_ctrl_c_removes_the_container(fake: Path) -> None:
    vllm(fake, 'printf "1/12 [" >&2; exec sleep 5')

    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(JOB, "", here, interrupt)
    run, rm = (fake / "asked").read_text().splitlines()
    name = rm.split()[-1]
    assert rm.split() == ["rm", "--force", "--volumes", name]
    assert f"--name={name}" in run


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ImportError: Please install vllm[bench] for pandas support", "pip install 'vllm[bench]'"),
        ("docker: Error response from daemon: No such image: x:1.", "is not on the host"),
        (
            "Traceback\nValueError: Cannot connect to host",
            "ValueError: Cannot connect to host. Fix",
        ),
        ("bash: what?", "bash: what?"),
        ("", "exit code 3, and no word"),
    ],
)
def test_why_a_load_failed_is_one_line_with_a_fix(fake: Path, said: str, told: str) -> None:
    assert told in failed(fake, f"cat >&2 <<'END'\n{said}\nEND\nexit 3")


def test_a_result_that_is_none_is_not_taken_for_one(fake: Path) -> None:
    vllm(fake, 'echo "[]" > "$FAKE/tmp/result.json"')
    with pytest.raises(DriverError, match="left no result"):
        serve(JOB, "", here, quiet)


def test_no_docker_on_this_machine_is_one_line() -> None:
    with pytest.raises(DriverError, match=r"a: /nowhere/docker: No such file.*Fix: "):
        serve(JOB, "", lambda words: ["/nowhere/docker", *words[1:]], quiet)


def test_what_looks_like_a_result_among_the_words_is_none(fake: Path) -> None:
    vllm(
        fake, 'echo "{\\"completed\\": 99}"; echo "{\\"completed\\": 1}" > "$FAKE/tmp/result.json"'
    )
    assert serve(JOB, "", here, quiet) == {"completed": 1}
