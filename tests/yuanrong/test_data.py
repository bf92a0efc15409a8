"""Real workers of the data system under a SIMULATED `yr`: a key from host to host, both ways."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from pdinfra.yuanrong.commands import Dialect
from pdinfra.yuanrong.members import listed
from pdinfra.yuanrong.status import members, membership_problems
from tests.commands import ROOT, wait_until
from tests.yuanrong.clusters import AGENT_IP, MASTER_IP, PORTS
from tests.yuanrong.conftest import MakeHosts
from tests.yuanrong.programs import datasystem, datasystem_folder

WORKERS = (f"{MASTER_IP}:{PORTS.ds_worker}", f"{AGENT_IP}:{PORTS.ds_worker}")


def kv(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the driver's verb with the interpreter that has the client."""
    return subprocess.run(
        [str(datasystem() / "bin" / "python"), "-m", "pdinfra.yuanrong", "key", *words],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("dialect", ["flags", "toml"])
def test_key_written_on_one_host_is_read_on_the_other_both_ways(
    make_hosts: MakeHosts, dialect: Dialect
) -> None:
    master, agent = make_hosts(dialect, "--datasystem", str(datasystem_folder()), "--health", "20")
    master.runner().start()
    agent.runner().start()
    planned = [f"{MASTER_IP}:{PORTS.ds_master}", *WORKERS]

    def whole() -> bool:
        seen = members(master.etcdctl("get", "--prefix", "/datasystem/cluster"))
        return not membership_problems(seen, planned)

    wait_until("all members are ready", 10, whole)
    for here, there in (WORKERS, WORKERS[::-1]):
        key = f"from-{WORKERS.index(here)}"
        written = kv(here, "put", key, "a value")
        assert written.returncode == 0, written.stdout
        assert kv(there, "get", key).stdout == "a value\n"
    # The same list as etcdctl's, without etcdctl.
    assert members(listed(master.node.etcd_endpoint)) == members(
        master.etcdctl("get", "--prefix", "/datasystem/cluster/")
    )


def test_agent_with_a_wrong_data_master_is_green_everywhere_but_in_the_data(
    make_hosts: MakeHosts,
) -> None:
    master, agent = make_hosts("toml", "--datasystem", str(datasystem_folder()), "--health", "20")
    master.runner().start()
    wrong = replace(agent.node, ports=replace(PORTS, ds_master=PORTS.ds_master + 7))
    assert agent.runner(wrong).start().changed
    assert agent.yr("health").returncode == 0
    assert str(master.runner().agents()) == "ok: 2 agents"
    wait_until(
        "etcd says ready",
        10,
        lambda: (
            not membership_problems(
                members(master.etcdctl("get", "--prefix", f"/datasystem/cluster/{AGENT_IP}")),
                [WORKERS[1]],
            )
        ),
    )
    written = kv(WORKERS[1], "put", "key", "value")
    assert written.returncode == 1
    assert written.stdout.startswith(f"failed: worker {WORKERS[1]} does not take a key: ")
    assert "Fix: compare its master's address" in written.stdout
    assert len(written.stdout.splitlines()) == 1
