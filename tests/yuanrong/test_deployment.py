"""The guides' run_vllm_on_yr.sh, SIMULATED: its real outcome is read, and it runs once."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pdinfra.yuanrong.commands import Dialect
from pdinfra.yuanrong.runner import RunError
from tests.commands import wait_until
from tests.yuanrong.clusters import MASTER_IP, SERVER_PORT, Host
from tests.yuanrong.conftest import MakeHosts

URL = f"http://{MASTER_IP}:{SERVER_PORT}"


def ask(path: str, *, post: bool = True) -> tuple[int, str]:
    request = urllib.request.Request(URL + path, data=b"{}" if post else None)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def started(make_hosts: MakeHosts, dialect: Dialect = "toml", *options: str) -> Host:
    master, _ = make_hosts(dialect, *options)
    master.runner().start()
    return master


def pid_of(host: Host) -> str:
    return (host.root / "deploy" / "deploy.pid").read_text().strip()


def kill_entry(host: Host) -> None:
    """Kill the process behind the entry, and wait until it has ended."""
    process = Path("/proc") / pid_of(host)
    os.kill(int(process.name), signal.SIGKILL)

    def ended() -> bool:
        try:
            return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until("the entry has ended", 5, ended)


@pytest.mark.parametrize("dialect", ["flags", "toml"])
def test_deployed_once_and_removed(make_hosts: MakeHosts, dialect: Dialect) -> None:
    master = started(make_hosts, dialect)
    assert str(master.runner().deploy()) == f"changed: deployed, serves at {URL}"
    assert "choices" in json.loads(ask("/v1/completions")[1])
    assert ask("/health", post=False)[0] == 405
    assert ask("/health") == (200, "healthy")

    before = pid_of(master)
    assert str(master.runner().deploy()) == f"ok: deployed already, serves at {URL}"
    assert pid_of(master) == before

    assert master.runner().clean().changed
    assert not master.runner().clean().changed
    with pytest.raises(urllib.error.URLError):
        ask("/health")


def test_script_alone_says_that_it_began_and_ends_with_0(make_hosts: MakeHosts) -> None:
    master, _ = make_hosts("toml")
    done = master.runner().run(("bash", "run_vllm_on_yr.sh", "deploy"), str(master.root / "deploy"))
    assert done.code == 0
    assert "部署已启动" in done.text
    with pytest.raises(RunError, match=r"Failed to connect YR cluster.*Fix: start openYuanrong"):
        master.runner().deploy()
    (master.root / "deploy" / "deploy.pid").unlink(missing_ok=True)
    with pytest.raises(RunError, match=r"cannot reach openYuanrong on this host.*Fix: start"):
        master.runner().deploy()


def test_changed_deployment_replaces_the_old_one(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    master.runner().deploy()
    before = pid_of(master)
    other = master.deployment(prefix_connector=False)
    assert master.runner(deployment=other).deploy().changed
    assert pid_of(master) != before


def test_entry_that_was_killed_is_deployed_again(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    master.runner().deploy()
    kill_entry(master)
    # The Controller outlives its entry, and would refuse the next one.
    assert (master.sessions / "simulated-controller.json").exists()
    assert master.runner().deploy().changed
    assert ask("/health")[0] == 200


def test_controller_that_somebody_left_is_cleaned_away(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    master.runner().deploy()
    kill_entry(master)
    for name in ("deploy.pid", "deploy.log"):
        (master.root / "deploy" / name).unlink()
    assert master.runner().deploy().changed


def test_port_of_somebody_else_is_named(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    old = f"INFO:     Uvicorn running on {URL} (Press CTRL+C to quit)\n"
    (master.root / "deploy" / "deploy.log").write_text(old)
    taken = pytest.raises(RunError, match=r"SERVER_PORT is taken .*Fix: free the port")
    with socket.create_server((MASTER_IP, SERVER_PORT)), taken:
        master.runner().deploy()
    assert master.runner().deploy().changed


def test_more_npus_than_there_are_is_said_after_the_limit(make_hosts: MakeHosts) -> None:
    master = started(make_hosts, "toml", "--npus", "4")
    with pytest.raises(RunError, match=r"not deployed within 8 s, and not failed. Fix: count free"):
        master.runner().deploy()


def test_clean_never_kills_a_process_that_is_not_the_deployment_s(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    (master.root / "deploy" / "deploy.pid").write_text(f"{os.getpid()}\n")
    assert master.runner().clean().changed
    # This line runs: the script's own `kill -9 $(cat deploy.pid)` found nothing to kill.
    assert not (master.root / "deploy" / "deploy.pid").exists()


def test_clean_without_openyuanrong_is_a_failure(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    master.runner().deploy()
    master.runner().stop()
    with pytest.raises(RunError, match="Failed to connect YR cluster"):
        master.runner().clean()


def test_caller_s_secret_reaches_no_instance(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    done = master.command("deploy")
    assert done.stdout.startswith("changed: deployed, serves at"), done.stdout
    out = next((master.sessions / "latest" / "logs").glob("runtime-*.out")).read_text()
    assert "USING_PREFIX_CONNECTOR" in out
    assert "HF_TOKEN" not in out


def test_longest_text_is_set_without_a_change_to_upstream_s_script(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    script = master.root / "deploy" / "run_vllm_on_yr.sh"
    before = script.read_text()
    assert master.runner(max_model_len=32768).deploy().changed
    assert script.read_text() == before
    line = Path(f"/proc/{pid_of(master)}/cmdline").read_text()
    assert "--max-model-len=32768" in line


def test_scale_out_waits_for_the_instance_that_the_answer_only_promises(
    make_hosts: MakeHosts,
) -> None:
    master = started(make_hosts)
    mixed = master.deployment(decode=0, dtp=0, ddp=0, ptp=2)
    runner = master.runner(deployment=mixed)
    runner.deploy()
    logs = master.sessions / "latest" / "logs"
    assert len(list(logs.glob("runtime-*.out"))) == 1
    assert ask("/scaleout")[0] == 200
    assert len(list(logs.glob("runtime-*.out"))) == 1, "the answer is to come before the instance"
    wait_until("it is there", 5, lambda: len(list(logs.glob("runtime-*.out"))) == 2)
    assert str(runner.scale_out()) == "changed: one more instance serves"
    assert len(list(logs.glob("runtime-*.out"))) == 3


def test_scale_out_that_has_no_npu_is_a_failure_whatever_the_answer(make_hosts: MakeHosts) -> None:
    master = started(make_hosts, "toml", "--npus", "2")
    runner = master.runner(deployment=master.deployment(decode=0, dtp=0, ddp=0, ptp=2))
    runner.deploy()
    with pytest.raises(RunError, match=r"answered 200, but no new instance serves. Fix: count"):
        runner.scale_out()


def test_scale_out_of_prefill_and_decode_apart_is_refused(make_hosts: MakeHosts) -> None:
    master = started(make_hosts)
    with pytest.raises(RunError, match="this deployment is disaggregated"):
        master.runner().scale_out()
