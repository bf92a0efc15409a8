"""Full mode against a SIMULATED `yr` in both dialects, over a real etcd: what is done and noticed.

The workers here are stand-ins that keep no data; test_data.py has the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pdinfra.yuanrong.commands import Dialect, start
from pdinfra.yuanrong.runner import RunError
from pdinfra.yuanrong.status import members, membership_problems
from tests.commands import wait_until
from tests.yuanrong.clusters import AGENT_IP, MASTER_IP, PORTS, words_of
from tests.yuanrong.conftest import MakeHosts

BOTH: list[Dialect] = ["flags", "toml"]
PLANNED = [
    f"{MASTER_IP}:{PORTS.ds_master}",
    f"{MASTER_IP}:{PORTS.ds_worker}",
    f"{AGENT_IP}:{PORTS.ds_worker}",
]
SECRET = "hush-hush"


@pytest.mark.parametrize("dialect", BOTH)
def test_master_and_agent_come_up_once_and_go_down(make_hosts: MakeHosts, dialect: Dialect) -> None:
    master, agent = make_hosts(dialect)
    assert str(master.runner().start()).startswith("changed: openYuanrong started")
    assert agent.runner().start().changed
    assert str(master.runner(state=str(master.folder)).agents()) == "ok: 2 agents"
    assert (master.folder / "agents").read_text() == "2\n"
    seen = members(master.etcdctl("get", "--prefix", "/datasystem/cluster"))
    assert membership_problems(seen, PLANNED) == []

    before = sorted(master.processes() + agent.processes())
    assert not master.runner().start().changed
    assert not agent.runner().start().changed
    assert sorted(master.processes() + agent.processes()) == before

    assert agent.runner().stop().changed
    assert master.runner().stop().changed
    wait_until("nothing runs", 5, lambda: not master.processes() + agent.processes())
    assert not master.runner().stop().changed


@pytest.mark.parametrize("dialect", BOTH)
def test_state_survives_a_restart_of_the_master(make_hosts: MakeHosts, dialect: Dialect) -> None:
    master, _ = make_hosts(dialect)
    master.runner().start()
    master.etcdctl("put", "kept", "yes")
    master.runner().stop()
    assert master.runner().start().changed
    assert master.etcdctl("get", "kept").split() == ["kept", "yes"]


@pytest.mark.parametrize("dialect", BOTH)
def test_ports_that_nobody_pins_move(make_hosts: MakeHosts, dialect: Dialect) -> None:
    master, _ = make_hosts(dialect)
    master.runner().start()
    line = (master.sessions / "yr_current_master_info").read_text()
    assert f"ds_master_port:{PORTS.ds_master}," in line
    assert f"ds-worker:{PORTS.ds_worker}," in line
    master.runner().stop()
    where = f'values.deploy_path="{master.folder}/loose"'
    loose = {
        "flags": ("start", "--master", "-a", MASTER_IP, "-d", f"{master.folder}/loose"),
        "toml": (
            "start",
            "--master",
            *words_of([f'values.host_ip="{MASTER_IP}"', where, "values.shared_memory_num=256"]),
        ),
    }[dialect]
    done = master.yr(*loose)
    assert done.returncode == 0, done.stderr
    moved = (master.sessions / "yr_current_master_info").read_text()
    assert f"ds_master_port:{PORTS.ds_master}," not in moved


def test_agent_with_a_wrong_master_is_healthy_and_not_counted(make_hosts: MakeHosts) -> None:
    master, agent = make_hosts("toml")
    master.runner().start()
    wrong = replace(agent.node, ports=replace(PORTS, function_master=PORTS.function_master + 7))
    assert agent.runner(wrong).start().changed
    assert agent.yr("health").returncode == 0
    with pytest.raises(RunError, match="yr status counts 1 agents, the plan has 2"):
        master.runner().agents()


def test_agent_of_an_etcd_that_nobody_has_does_not_start(make_hosts: MakeHosts) -> None:
    _, agent = make_hosts("flags")
    with pytest.raises(RunError, match="yr start ended with 1"):
        agent.runner().start()
    wait_until("nothing is left", 5, lambda: not agent.processes())


def test_agents_are_counted_on_the_master_alone(make_hosts: MakeHosts) -> None:
    _, agent = make_hosts("toml")
    with pytest.raises(RunError, match=f"Fix: ask {MASTER_IP}"):
        agent.runner().agents()


def test_set_of_wheels_without_the_function_system_names_the_missing_program(
    make_hosts: MakeHosts,
) -> None:
    master, _ = make_hosts("toml", "--without-functions")
    with pytest.raises(RunError, match=r"FileNotFoundError.*functionsystem/bin/function_master"):
        master.runner().start()
    assert not master.processes()


@pytest.mark.parametrize("dialect", BOTH)
def test_secret_of_the_caller_reaches_no_file(make_hosts: MakeHosts, dialect: Dialect) -> None:
    master, _ = make_hosts(dialect)
    done = master.command("start")
    assert done.returncode == 0, done.stdout
    for path in master.folder.rglob("*"):
        if path.is_file():
            assert SECRET not in path.read_text(errors="replace"), path
    master.runner().stop()
    by_hand = master.yr(*start(master.node, dialect)[1:], HF_TOKEN=SECRET)
    assert by_hand.returncode == 0
    log = next(path for path in master.folder.rglob("yr_daemon.log"))
    assert SECRET in log.read_text(), "the simulated yr is to record its caller's environment"


def test_worker_that_is_killed_comes_back_and_start_waits_for_it(make_hosts: MakeHosts) -> None:
    master, _ = make_hosts("toml")
    master.runner().start()
    worker = master.pid(f"worker_address={MASTER_IP}:{PORTS.ds_worker}")
    os.kill(worker, signal.SIGKILL)
    assert not master.runner().start().changed
    session = json.loads(Path(master.node.session_file).read_text())
    assert session["components"]["ds_worker"]["restart_count"] == 1
    assert session["components"]["ds_worker"]["pid"] != worker


def test_node_whose_daemon_and_worker_were_killed_is_started_again(make_hosts: MakeHosts) -> None:
    master, agent = make_hosts("toml")
    master.runner().start()
    agent.runner().start()
    for pid in agent.processes():
        os.kill(pid, signal.SIGKILL)
    # Its files say that all is well.
    assert list(agent.folder.rglob("worker/health"))
    assert Path(agent.node.session_file).exists()
    assert agent.runner().start().changed
    assert str(master.runner().agents()) == "ok: 2 agents"


def test_orphans_of_a_killed_daemon_are_stopped(make_hosts: MakeHosts) -> None:
    master, _ = make_hosts("toml")
    master.runner().start()
    os.kill(master.pid("simulator.json daemon"), signal.SIGKILL)
    # The program itself says 0 and leaves them.
    assert master.yr("stop", "-f", master.node.session_file).returncode == 0
    assert master.processes()
    assert master.runner().stop().changed
    wait_until("nothing runs", 5, lambda: not master.processes())


def test_etcd_that_is_killed_comes_back_with_its_members(make_hosts: MakeHosts) -> None:
    master, agent = make_hosts("toml")
    master.runner().start()
    agent.runner().start()
    os.kill(master.pid("--data-dir"), signal.SIGKILL)

    def whole() -> bool:
        seen = members(master.etcdctl("get", "--prefix", "/datasystem/cluster"))
        return not membership_problems(seen, PLANNED)

    wait_until("all members are back", 10, whole)
    assert str(master.runner().agents()) == "ok: 2 agents"


def test_dead_host_is_noticed_in_seconds(make_hosts: MakeHosts) -> None:
    master, agent = make_hosts("toml")
    quick = replace(agent.node, node_timeout_s=4, node_dead_timeout_s=6)
    master.runner().start()
    agent.runner(quick).start()
    for pid in agent.processes():
        os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    wait_until(
        "the dead worker is out of etcd",
        10,
        lambda: AGENT_IP not in master.etcdctl("get", "--prefix", "/datasystem/cluster"),
    )
    assert time.monotonic() - started < 8


def test_host_without_openyuanrong_is_said_in_one_line(make_hosts: MakeHosts) -> None:
    master, _ = make_hosts("toml")
    (master.root / "bin" / "yr").unlink()
    done = master.command("start")
    assert done.returncode == 1
    assert done.stdout.startswith("failed: there is no yr. Fix: ")
    assert len(done.stdout.splitlines()) == 1
