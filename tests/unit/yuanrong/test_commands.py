"""The words of `yr`: the guides' exactly, and what they leave open pinned."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from itertools import pairwise

import pytest

from pdinfra.yuanrong.commands import (
    CommandError,
    Dialect,
    Node,
    Ports,
    dialect,
    guide_words,
    health,
    members,
    problems,
    start,
    status,
    stop,
)

# Guide yuanrong-pd-disaggregation, "部署 openYuanrong", the master's line and the agent's.
GUIDE_MASTER = (
    "yr start --master -l DEBUG --runtime_direct_connection_enable=true "
    "--enable_separated_redirect_runtime_std=true --etcd_addr_list=${MASTER_IP} --etcd_port=22440 "
    "--etcd_peer_port=22441"
)
GUIDE_AGENT = (
    "yr start -l DEBUG --runtime_direct_connection_enable=true "
    "--enable_separated_redirect_runtime_std=true --etcd_addr_list=${MASTER_IP} --etcd_port=22440 "
    "--etcd_peer_port=22441"
)
GUIDE_STATUS = "yr status --etcd_endpoint ${MASTER_IP}:22440"

MASTER = Node("192.0.2.11", "192.0.2.11", "/var/lib/yuanrong", 8192)
AGENT = replace(MASTER, host_ip="192.0.2.12")
BOTH: tuple[Dialect, ...] = ("flags", "toml")


def filled(line: str) -> list[str]:
    return line.replace("${MASTER_IP}", "192.0.2.11").split()


@pytest.mark.parametrize(("node", "line"), [(MASTER, GUIDE_MASTER), (AGENT, GUIDE_AGENT)])
def test_flags_begin_with_the_guide_s_line(node: Node, line: str) -> None:
    assert list(guide_words(node)) == filled(line)
    assert list(start(node, "flags"))[: len(filled(line))] == filled(line)


def test_status_in_flags_is_the_guide_s_line() -> None:
    assert list(status(AGENT, "flags")) == filled(GUIDE_STATUS)


def test_what_the_guide_leaves_to_chance_is_pinned_in_flags() -> None:
    words = start(AGENT, "flags")
    pinned = {
        "--ip_address=192.0.2.12", "--master_ip=192.0.2.11", "--deploy_path=/var/lib/yuanrong",
        "--shared_memory_num=8192", "--port_policy=FIX", "--ds_master_port=12123",
        "--ds_worker_port=31501", "--global_scheduler_port=22770", "--ds_node_timeout_s=10",
    }  # fmt: skip
    assert pinned <= set(words)


def overrides(node: Node) -> dict[str, object]:
    """Read the words as yr does: all overrides together are one TOML document."""
    words = start(node, "toml")
    given = [value for name, value in pairwise(words) if name == "-s"]
    return tomllib.loads("\n".join(given))


@pytest.mark.parametrize("node", [MASTER, AGENT])
def test_toml_pins_the_same_node(node: Node) -> None:
    assert overrides(node) == {
        "values": {
            "host_ip": node.host_ip,
            "deploy_path": "/var/lib/yuanrong",
            "shared_memory_num": 8192,
            "log_level": "DEBUG",
            "etcd": {"address": [{"ip": "192.0.2.11", "port": "22440", "peer_port": "22441"}]},
            "ds_master": {"ip": "192.0.2.11", "port": "12123"},
            "ds_worker": {"port": "31501"},
            "function_master": {"ip": "192.0.2.11", "global_scheduler_port": "22770"},
            "function_proxy": {
                "port": "22772",
                "grpc_listen_port": "22773",
                "exec_grpc_port": "22774",
            },
            "function_agent": {"port": "58866"},
        },
        "function_agent": {
            "args": {
                "runtime_direct_connection_enable": True,
                "enable_separated_redirect_runtime_std": True,
                "runtime_initial_port": 21006,
            }
        },
        "ds_worker": {
            "args": {
                "node_timeout_s": 10,
                "node_dead_timeout_s": 30,
                "heartbeat_interval_ms": 3000,
            }
        },
    }


def test_only_the_master_is_started_as_one() -> None:
    assert all("--master" in start(MASTER, each) for each in BOTH)
    assert all("--master" not in start(AGENT, each) for each in BOTH)


def test_function_system_can_be_left_out_in_toml_alone() -> None:
    bare = replace(MASTER, functions=False)
    mode = overrides(bare)["mode"]
    left_out = {"function_master": False, "function_proxy": False, "function_agent": False}
    assert mode == {"master": left_out}
    assert overrides(replace(AGENT, functions=False))["mode"] == {
        "agent": {"function_proxy": False, "function_agent": False}
    }
    with pytest.raises(CommandError, match="cannot leave the function system out"):
        start(bare, "flags")


def test_session_is_named_by_path_as_latest_may_be_another_s() -> None:
    session = "/var/lib/yuanrong/session.json"
    for words in (health(MASTER, "toml"), status(MASTER, "toml"), stop(MASTER, "toml", force=True)):
        assert words is not None
        assert words[-2:] == ("-f", session)
    assert "--force" in stop(MASTER, "toml", force=True)
    assert health(MASTER, "flags") is None


def test_members_are_asked_of_the_cluster_s_etcd() -> None:
    assert members(AGENT) == (
        "etcdctl", "--endpoints", "http://192.0.2.11:22440",
        "get", "--prefix", "/datasystem/cluster",
    )  # fmt: skip


def test_all_that_is_wrong_with_a_node_is_said_at_once() -> None:
    bad = replace(
        MASTER,
        deploy_path="/tmp/yr_sessions/s1",
        shared_memory_mb=0,
        node_timeout_s=2,
        node_dead_timeout_s=1,
        ports=Ports(etcd=12123, ds_worker=70000),
    )
    said = "; ".join(problems(bad))
    for part in (
        "/tmp, which hosts clean",
        "shared_memory_mb is 0",
        "a heartbeat every 3000 ms, but dead after 2 s",
        "node_dead_timeout_s 1",
        "port 12123 is both etcd and ds_master",
        "port ds_worker is 70000",
    ):
        assert part in said
    with pytest.raises(CommandError, match=r"which hosts clean.*70000"):
        start(bad, "toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WARNING: Ignore register validator\nOptions:\n  -s, --set KEY=VALUE  Override", "toml"),
        ("General Options:\n     --etcd_addr_list    etcd cluster address list", "flags"),
    ],
)
def test_program_is_asked_for_its_dialect(text: str, expected: str) -> None:
    assert dialect(text) == expected


@pytest.mark.parametrize(
    "text", ["", "ImportError: libprotoc.so.25.5.0: cannot open shared object"]
)
def test_program_of_neither_dialect_is_refused_with_its_own_words(text: str) -> None:
    with pytest.raises(CommandError, match=r"neither .*0\.7\.0.*Fix: ") as caught:
        dialect(text)
    assert text in str(caught.value)
