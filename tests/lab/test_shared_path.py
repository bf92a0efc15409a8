"""A folder that is one on all hosts, and one that is not: proven and refused on real hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from pdinfra.lab.engine import execute
from pdinfra.lab.names import SHARED, Lab
from tests.commands import ROOT, Result, playbook
from tests.lab.labs import INVENTORY, NAME
from tests.unit.builders import plan

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("hosts")]

NODES = ("node1", "node2")
MARK = "/run/containers-would-start"
Try = Callable[..., Result]


@pytest.fixture
def on(engine: docker.DockerClient) -> Callable[..., str]:
    """Return how to run a command on a host."""

    def run(node: str, *words: str) -> str:
        code, said = execute(engine.containers.get(Lab(NAME).container(node)), words)
        assert code == 0, said
        return said

    return run


@pytest.fixture
def tried(tmp_path: Path) -> Try:
    """Return how to run what `up` runs for such a folder, and a play after it, as a plan would."""

    def run(folder: str, nodes: Sequence[str] = NODES, own: bool = False) -> Result:
        groups = {"prefill": ["node1"], "decode": ["node2"], "router": ["node1"]}
        of = plan(groups).model_copy(update={"shared_path": folder})
        probe = {"folder": folder, "uid": 1000, "hosts": list(nodes), "own": own}
        path = tmp_path / "play.yml"
        path.write_text(yaml.safe_dump(_plays(of.dump(), dict.fromkeys(nodes, probe))))
        return playbook(str(path), "-e", "shared_path_seconds=1", inventory=INVENTORY)

    return run


def _plays(planned: dict[str, Any], shared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the work order, the playbook, and what stands for the containers' play."""
    compared = {"facts": {}, "checks": [], "work": {}, "trial": {"links": [], "shared": shared}}
    order = [
        {"ansible.builtin.set_fact": {"pd_planned": {"plan": planned}, "pd_compared": compared}},
        {"ansible.builtin.group_by": {"key": "pd_todo_shared_path"}},
    ]
    start = [{"ansible.builtin.file": {"path": MARK, "state": "touch", "mode": "0644"}}]
    every = {"hosts": ",".join(shared), "gather_facts": False}
    return [
        {"name": "The work order of a test", **every, "tasks": order},
        {"import_playbook": str(ROOT / "playbooks" / "shared-path.yml")},
        {"name": "Containers", **every, "become": True, "tasks": start},
    ]


def test_folder_that_is_one_is_proven_and_nothing_stays_there(
    tried: Try, on: Callable[..., str]
) -> None:
    done = tried(SHARED)
    assert done.code == 0, done.text
    assert all(on(node, "ls", MARK) for node in NODES)
    assert on("node1", "ls", "-A", SHARED) == on("node2", "ls", "-A", SHARED) == ""
    for node in NODES:
        on(node, "rm", MARK)


def test_folder_of_one_machine_is_made_for_the_engines_user_and_nobody_elses(
    tried: Try, on: Callable[..., str]
) -> None:
    folder = "/var/lib/pdinfra/pd/kv"
    done = tried(folder, nodes=["node1"], own=True)
    assert done.code == 0, done.text
    for path, owner in ((folder, "1000"), ("/var/lib/pdinfra/pd", "0"), ("/var/lib/pdinfra", "0")):
        assert on("node1", "stat", "-c", "%u %a", path) == f"{owner} 755"
    again = tried(folder, nodes=["node1"], own=True)
    assert "changed=2" in again.out, "the group and the mark of this test, and nothing else"
    on("node1", "rm", MARK)


@pytest.mark.parametrize(
    ("mode", "found", "fix"),
    [
        (
            "1777",
            "node2: shared-path: found /srv/kv: does not see what node1 wrote there",
            "mount one NFS, Lustre or CephFS folder at /srv/kv on both",
        ),
        (
            "0755",
            "node1: shared-path: found /srv/kv: user 1000, as engines are, cannot write",
            "`chown 1000 /srv/kv` where it comes from",
        ),
    ],
)
def test_folder_that_is_not_one_is_refused_by_name_before_anything_starts(
    tried: Try, on: Callable[..., str], mode: str, found: str, fix: str
) -> None:
    for node in NODES:
        on(node, "install", "-d", "-m", mode, "/srv/kv")
    done = tried("/srv/kv")
    assert done.code != 0
    assert found in done.text
    assert fix in done.text
    for node in NODES:
        assert Path(MARK).name not in on(node, "ls", "/run")
        assert on(node, "ls", "-A", "/srv/kv") == ""
