"""The simulated `yr` refuses what the real one does, with its words and codes; without etcd."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pdinfra.yuanrong.commands import dialect
from tests.commands import ROOT

LAUNCHER = ROOT / "tests" / "sim" / "yuanrong" / "yr"


class Program:
    """An installed simulator."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.sessions = folder / "sessions"
        self.path = folder / "installed" / "bin" / "yr"
        words = [
            sys.executable, str(LAUNCHER), "install", "--into", str(folder / "installed"),
            "--dialect", kind, "--sessions", str(self.sessions), "--etcd", "/nowhere",
        ]  # fmt: skip
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    def run(self, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*before, str(self.path), *words], capture_output=True, text=True)


@pytest.fixture
def toml(tmp_path: Path) -> Program:
    return Program(tmp_path, "toml")


@pytest.fixture
def flags(tmp_path: Path) -> Program:
    return Program(tmp_path, "flags")


def test_it_says_that_it_is_a_simulator() -> None:
    said = subprocess.run([sys.executable, str(LAUNCHER), "--help"], capture_output=True, text=True)
    assert "SIMULATOR" in said.stdout


def test_each_answers_for_its_dialect(toml: Program, tmp_path: Path) -> None:
    flags = Program(tmp_path / "other", "flags")
    assert dialect(toml.run("start", "--help").stdout) == "toml"
    assert dialect(flags.run("start", "--help").stdout) == "flags"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("start --master -l DEBUG --etcd_addr_list=1.2.3.4", "Error: No such option: -l"),
        ("start --master --etcd_addr_list=1.2.3.4", "Error: No such option: --etcd_addr_list"),
        ("status --etcd_endpoint 1.2.3.4:22440", "Error: No such option: --etcd_endpoint"),
        ("version", "Error: No such command 'version'."),
        ("start -s", "Error: Option '-s' requires an argument."),
        (
            "health -f /nowhere/x",
            "Error: Invalid value for '-f' / '--file': File '/nowhere/x' does not exist.",
        ),
    ],
)
def test_guides_words_are_refused_by_the_newer_program(
    toml: Program, words: str, error: str
) -> None:
    done = toml.run(*words.split())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == error


def test_newer_program_has_its_noise_on_every_call(toml: Program) -> None:
    done = toml.run("--version")
    assert (done.returncode, done.stdout) == (0, "yr version: 9.9.9\n")
    assert done.stderr.count("WARNING: Ignore register validator for flag: no flag found") == 2


def test_nothing_runs_in_the_newer_program(toml: Program) -> None:
    for verb, said in (("health", "System Status: STOPPED"), ("status", "No session file found")):
        done = toml.run(verb)
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
    assert toml.run("stop").returncode == 1


def test_host_without_a_default_route_cannot_start(toml: Program) -> None:
    own = 'values.host_ip="127.0.0.1"'
    done = toml.run("start", "--master", "-s", own, before=("unshare", "--map-root-user", "--net"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "OSError: [Errno 101] Network is unreachable"


def test_value_that_is_no_toml_is_a_traceback(toml: Program) -> None:
    done = toml.run("start", "--master", "-s", "values.host_ip=127.0.0.1")
    assert done.returncode == 1
    assert "TOMLDecodeError" in done.stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["start", "--master", "--set", "x"], "unrecognized option '--set'"),
        (["start", "--master_address", "http://x"], "unrecognized option '--master_address'"),
        # The newer dialect's -s is this one's memory.
        (
            ["start", "--master", "-s", 'values.host_ip="x"'],
            "shared_memory_num should greater than",
        ),
        (["start", "--master", "--ds_master_port=0"], "ds_master_port should in range [1-65535]"),
        (["start"], "none of --master, --etcd_addr_list or --master_info is specified"),
    ],
)
def test_newer_words_are_refused_by_the_older_program(
    flags: Program, words: list[str], error: str
) -> None:
    done = flags.run(*words)
    assert done.returncode == 1
    assert error in done.stderr
    assert "Deploy OpenYuanrong failed." in done.stderr


def test_older_program_has_no_health_and_its_status_is_green_without_a_cluster(
    flags: Program,
) -> None:
    health = flags.run("health")
    assert health.returncode == 1
    assert 'unknown command "health"' in health.stdout
    status = flags.run("status", "--etcd_endpoint", "127.0.0.1:1")
    assert status.returncode == 0
    assert "there seems no running yuanrong cluster" in status.stdout
    stop = flags.run("stop")
    assert (stop.returncode, stop.stdout) == (0, "Did not find any active Yuanrong processes.\n")


def test_health_and_stop_believe_a_stale_session(toml: Program) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    row = {"pid": ended.pid, "restart_count": 0}
    join = {"function_master.ip": None}
    document = {
        "components": {"ds_worker": row},
        "mode": "master",
        "cluster_info": {"daemon": {"pid": ended.pid}, "for-join": join},
    }
    session = toml.sessions / "latest" / "session.json"
    session.parent.mkdir(parents=True)
    session.write_text(json.dumps(document))
    assert "System Status: STOPPED" in toml.run("health").stdout
    # False greens: a master without function_master, and a daemon that is gone.
    status = toml.run("status")
    assert (status.returncode, status.stdout) == (0, "")
    stop = toml.run("stop")
    assert stop.returncode == 0
    assert f"Daemon process (PID: {ended.pid}) not found" in stop.stderr
