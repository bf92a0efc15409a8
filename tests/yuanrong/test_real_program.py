"""The real `yr` of PyPI (9.9.9, without function system): what is said to it, and what it does.

Everything here is real: the program, its etcd, the data system's workers.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pdinfra.yuanrong.commands import Node, dialect, start
from pdinfra.yuanrong.runner import SESSIONS, Limits, RunError, Runner, Settings
from pdinfra.yuanrong.status import agents, health, lines
from tests.commands import wait_until
from tests.yuanrong.clusters import AGENT_IP, MASTER_IP, PORTS
from tests.yuanrong.conftest import MakeHosts
from tests.yuanrong.programs import real_yr

AGENT = Node(AGENT_IP, MASTER_IP, "/var/lib/yuanrong", 512, PORTS)
REFUSED = [
    "start --master -l DEBUG --etcd_addr_list=1.2.3.4",
    "start --master --etcd_addr_list=1.2.3.4",
    "start -s",
    "start extra",
    "status --etcd_endpoint 1.2.3.4:22440",
    "health -f /nowhere/session.json",
    "version",
]


def yr(*words: str) -> subprocess.CompletedProcess[str]:
    program, env = real_yr()
    return subprocess.run([str(program), *words], env=env, capture_output=True, text=True)


def test_program_is_asked_and_answers_for_its_dialect() -> None:
    assert dialect(yr("start", "--help").stdout) == "toml"


def test_every_word_of_a_start_arrives_where_it_is_meant() -> None:
    # The same overrides, only that the program shows what it would run instead of running it.
    words = [word for word in start(AGENT, "toml")[2:] if word != "--master"]
    done = yr("config", "dump", *words)
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = tomllib.loads("\n".join(lines(done.stdout)))
    worker, agent = config["ds_worker"]["args"], config["function_agent"]["args"]
    assert worker["worker_address"] == AGENT.worker_address
    assert worker["master_address"] == f"{MASTER_IP}:{PORTS.ds_master}"
    assert worker["etcd_address"] == AGENT.etcd_endpoint
    assert worker["shared_memory_size_mb"] == 512
    assert (worker["node_timeout_s"], worker["heartbeat_interval_ms"]) == (10, 3000)
    assert config["etcd"]["args"]["listen-peer-urls"] == f"http://{MASTER_IP}:{PORTS.etcd_peer}"
    proxy = config["function_proxy"]["args"]
    assert proxy["global_scheduler_address"] == f"{MASTER_IP}:{PORTS.function_master}"
    assert proxy["address"] == f"{AGENT_IP}:{PORTS.function_proxy}"
    assert proxy["grpc_listen_port"] == PORTS.function_proxy_grpc
    assert proxy["session_grpc_port"] == PORTS.function_proxy_exec
    assert agent["agent_listen_port"] == PORTS.function_agent
    assert agent["runtime_initial_port"] == PORTS.runtime_init
    assert agent["runtime_direct_connection_enable"] is True
    assert agent["enable_separated_redirect_runtime_std"] is True
    assert config["values"]["deploy_path"] == "/var/lib/yuanrong"


@pytest.mark.parametrize("words", REFUSED)
def test_simulated_program_refuses_as_the_real_one(make_hosts: MakeHosts, words: str) -> None:
    simulated, _ = make_hosts("toml")
    real, same = yr(*words.split()), simulated.yr(*words.split())
    assert same.returncode == real.returncode == 2
    assert lines(same.stderr) == lines(real.stderr)


@pytest.fixture
def master() -> Iterator[Callable[[], Runner]]:
    """A master of the real program on this machine, driven as in a container."""
    program, env = real_yr()
    folder = Path(tempfile.mkdtemp(prefix="pdy-", dir="/var/tmp"))
    node = Node(MASTER_IP, MASTER_IP, str(folder / "deploy"), 512, PORTS, functions=False)
    limits = Limits(command=60, agents=10, poll=0.2)
    settings = Settings(node=node, agents=1, home=str(folder), limits=limits)
    yield lambda: Runner(settings, env)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/" in line or (str(program) in line and str(folder) in line):
            os.kill(int(entry.name), signal.SIGKILL)
    shutil.rmtree(folder)
    # The program's own folder is fixed; only what points to this test is removed.
    latest = Path(SESSIONS) / "latest"
    if latest.is_symlink() and not latest.exists():
        latest.unlink()
        (latest.parent / "yr_current_master_info").unlink(missing_ok=True)


def test_real_program_is_started_once_and_stopped(master: Callable[[], Runner]) -> None:
    node = master().node
    assert str(master().start()).startswith("changed: openYuanrong started")
    seen = health(yr("health", "-f", node.session_file).stdout)
    assert [part.name for part in seen.components] == ["etcd", "ds_master", "ds_worker"]
    assert not master().start().changed
    assert health(yr("health", "-f", node.session_file).stdout) == seen
    # Without function_master its status is empty, and says 0.
    status = yr("status", "-f", node.session_file)
    assert (status.returncode, agents(status.stdout)) == (0, None)
    with pytest.raises(RunError, match="names no number of agents"):
        master().agents()
    assert master().stop().changed
    assert not master().stop().changed


def test_second_start_of_the_real_program_is_green_and_mended(
    master: Callable[[], Runner],
) -> None:
    runner = master()
    runner.start()
    again = runner.run(start(runner.node, "toml"))
    assert again.code == 0
    assert "All components are healthy" in again.text
    session = Path(runner.node.session_file)
    wait_until("the failed second start has removed the session", 20, lambda: not session.exists())
    assert master().start().changed
    assert not master().start().changed
    assert master().stop().changed


def test_whole_mode_without_its_function_system_names_what_is_missing(
    master: Callable[[], Runner],
) -> None:
    runner = master()
    whole = Runner(
        replace(runner.settings, node=replace(runner.node, functions=True)), real_yr()[1]
    )
    with pytest.raises(RunError, match=r"FileNotFoundError.*functionsystem/bin/function_master"):
        whole.start()
