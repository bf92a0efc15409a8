"""`ranktable` as a user calls it, in the guide's own words."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from pdinfra.cli import npu_cards
from pdinfra.cli.app import app
from plugins.module_utils import pd_ascend

GOLDEN = Path(__file__).parents[1] / "ranktable" / "golden"
ADDRESSES = {4: "29.81.3.22", 5: "29.81.3.23", 6: "29.81.3.56", 7: "29.81.3.72"}


@pytest.fixture(autouse=True)
def _bare_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without Ascend's tools: hccn.conf alone tells addresses."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(pd_ascend, "HCCN_TOOL", ())
    monkeypatch.setattr(npu_cards, "own_address", lambda: "10.0.0.18")


def call(words: str) -> Result:
    return CliRunner().invoke(app, ["ranktable", *words.split()])


def conf(folder: Path, addresses: dict[int, str]) -> Path:
    """Write a hccn.conf."""
    path = folder / "hccn.conf"
    path.write_text("".join(f"address_{n}={ip}\n" for n, ip in addresses.items()))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def one(tmp_path: Path, more: str = "") -> Result:
    """Generate the guide's 1p1d."""
    return call(
        "--mode gen --prefill-server-list 4,5 --decode-server-list 6,7 --api-server "
        f"--save-dir {tmp_path}/save_dir --hccn-conf {conf(tmp_path, ADDRESSES)} {more}"
    )


def test_gen_1p1d(tmp_path: Path) -> None:
    done = one(tmp_path)
    assert done.exit_code == 0, done.output
    assert files(tmp_path / "save_dir") == files(GOLDEN / "1p1d")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "save_dir").iterdir()}
    assert modes == {0o644}


def test_gen_2p2d(tmp_path: Path) -> None:
    done = call(
        "gen --prefill-server-list 0,1 2,3 --decode-server-list 4,5 6,7 --api-server --save-dir "
        f"{tmp_path}/d --hccn-conf {conf(tmp_path, {n: f'29.81.3.1{n}' for n in range(8)})}"
    )
    assert done.exit_code == 0, done.output
    assert files(tmp_path / "d") == files(GOLDEN / "2p2d")


def test_merge_two_hosts(tmp_path: Path) -> None:
    parts = [GOLDEN / "merge" / f"global_ranktable_10.0.0.{n}.json" for n in (18, 19)]
    done = call(f"--mode merge --global-ranktable-list {parts[0]} {parts[1]} --save-dir {tmp_path}")
    assert done.exit_code == 0, done.output
    name = "global_ranktable_merge.json"
    assert files(tmp_path) == {name: (GOLDEN / "merge" / name).read_bytes()}


def test_gen_as_json_names_files_and_notes(tmp_path: Path) -> None:
    document = json.loads(one(tmp_path, "--json").stdout)
    assert document["ok"]
    assert [Path(path).name for path in document["files"]] == [
        "global_ranktable_10.0.0.18.json",
        "local_ranktable_10.0.0.18_45.json",
        "local_ranktable_10.0.0.18_67.json",
        "local_ranktable_10.0.0.18_host.json",
    ]
    assert len(document["notes"]) == 4


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ("gen", 2, "gen: nothing to write. Fix: name --prefill-server-list"),
        ("gen --prefill-server-list 4,a", 2, "--prefill-server-list 4,a: not device ids."),
        ("gen --api-server --ip host1", 2, "--ip host1: not an IPv4 address."),
        ("gen --api-server --ip 127.0.0.1", 2, "127.0.0.1: address: only the host itself"),
        (
            "gen --prefill-server-list 4,5 --decode-server-list 5,6",
            2,
            "10.0.0.18: device 5: it is used 2 times: prefill 4,5 and decode 5,6.",
        ),
        (
            "gen --prefill-server-list 4,5 6",
            2,
            "prefill instance on devices 6: 1 cards, the other prefill instances have 2.",
        ),
        ("gen --prefill-server-list 3", 1, "device 3: this host has no hccn_tool, and "),
        (
            "gen --api-server --image quay.io/ascend/vllm-ascend:v0.13.0",
            2,
            "it reads no rank table (vllm-ascend PR 4780",
        ),
        (
            "gen --api-server --image x/vllm-ascend:v0.11.0 --format ascendcloud",
            2,
            "it reads vllm-ascend. Fix: leave --format ascendcloud out",
        ),
    ],
)
def test_gen_refuses(tmp_path: Path, words: str, code: int, line: str) -> None:
    done = call(f"{words} --save-dir {tmp_path}/d --hccn-conf {conf(tmp_path, ADDRESSES)} --json")
    assert done.exit_code == code, done.output
    errors = json.loads(done.stdout)["errors"]
    assert any(line in each for each in errors), errors
    assert all("Fix: " in each for each in errors)
    assert not (tmp_path / "d").exists()


def test_gen_for_an_image(tmp_path: Path) -> None:
    done = one(tmp_path, "--image quay.io/ascend/vllm-ascend:v0.11.0")
    assert done.exit_code == 0, done.output
    (name,) = files(tmp_path / "save_dir")
    assert name == "ranktable.json"


def test_gen_names_what_an_earlier_call_left(tmp_path: Path) -> None:
    one(tmp_path)
    done = call(
        f"gen --prefill-server-list 4,5 --save-dir {tmp_path}/save_dir --json "
        f"--hccn-conf {conf(tmp_path, ADDRESSES)}"
    )
    notes = json.loads(done.stdout)["notes"]
    assert sum("of an earlier call" in note for note in notes) == 2


@pytest.mark.parametrize(
    ("names", "code", "line"),
    [
        (["merge/global_ranktable_10.0.0.18.json"], 2, "one table. Fix: name the global tables"),
        (
            ["merge/global_ranktable_10.0.0.18.json"] * 2,
            1,
            "found 2 schedulers (10.0.0.18, 10.0.0.18), expected exactly one.",
        ),
        (["merge/global_ranktable_10.0.0.19.json"] * 2, 1, 'found no group "0"'),
        (
            ["merge/global_ranktable_10.0.0.18.json", "1p1d/local_ranktable_10.0.0.18_45.json"],
            1,
            "a local table, which belongs to one instance.",
        ),
        (
            ["merge/global_ranktable_10.0.0.18.json", "vllm-ascend/ranktable.json"],
            1,
            "vllm-ascend beside ascendcloud of ",
        ),
        (["merge/global_ranktable_10.0.0.18.json", "nowhere.json"], 2, "No such file"),
    ],
)
def test_merge_refuses(tmp_path: Path, names: list[str], code: int, line: str) -> None:
    paths = " ".join(str(GOLDEN / name) for name in names)
    done = call(f"merge --global-ranktable-list {paths} --save-dir {tmp_path} --json")
    assert done.exit_code == code, done.output
    assert any(line in each for each in json.loads(done.stdout)["errors"]), done.stdout
    assert files(tmp_path) == {}


def test_lint_is_clean_then_finds(tmp_path: Path) -> None:
    one(tmp_path)
    folder = tmp_path / "save_dir"
    paths = " ".join(map(str, sorted(folder.iterdir())))
    live = f"--live --hccn-conf {conf(tmp_path, ADDRESSES)}"
    ports = "--node-ports 8088,8089 --port 10.0.0.18_45=8088 10.0.0.18_67=8089"
    done = call(f"lint {paths} --uid 1000 --format ascendcloud {ports} --json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"ok": True, "findings": []})

    (folder / "local_ranktable_10.0.0.18_45.json").chmod(0o600)
    conf(tmp_path, {**ADDRESSES, 7: "29.81.3.99"})
    swapped = ports.replace("8088,8089", "8089,8088")
    done = call(f"lint {paths} --uid 1000 {live} {swapped} --json")
    assert done.exit_code == 1
    rules = [each["rule"] for each in json.loads(done.stdout)["findings"]]
    # The global and the local table both name the card.
    assert sorted(rules) == ["live"] * 2 + ["ports"] * 2 + ["readable"]


def test_lint_of_one_hosts_part() -> None:
    path = GOLDEN / "merge" / "global_ranktable_10.0.0.19.json"
    assert call(f"lint {path} --part").exit_code == 0
    done = call(f"lint {path} --json")
    assert [each["rule"] for each in json.loads(done.stdout)["findings"]] == ["groups"]


def test_lint_refuses_a_port_without_a_name() -> None:
    done = call(f"lint {GOLDEN}/merge/global_ranktable_merge.json --port 8088 --json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["errors"] == [
        "--port 8088: not NAME=PORT. Fix: as 10.0.0.18_45=8088"
    ]


def test_show(tmp_path: Path) -> None:
    paths = " ".join(map(str, sorted((GOLDEN / "merge").iterdir())))
    done = call(f"show {paths} --svg {tmp_path}/p.svg")
    assert done.exit_code == 0, done.output
    for words in ("host 10.0.0.18", "host 10.0.0.19", "scheduler", "prefill 1", "29.81.4.13"):
        assert words in done.stdout
    text = "".join(ElementTree.parse(tmp_path / "p.svg").getroot().itertext())
    assert "device 3, rank 1, 29.81.4.13" in text
    document = json.loads(call(f"show {paths} --json").stdout)
    assert [each["host"] for each in document["servers"]] == ["10.0.0.18", "10.0.0.19"]
    assert [each["role"] for each in document["servers"][1]["members"]] == ["prefill", "decode"]


def test_show_refuses_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    done = call(f"show {tmp_path}/a.json --json")
    assert done.exit_code == 2
    assert "no rank table. Fix: `ranktable lint` says" in json.loads(done.stdout)["errors"][0]
