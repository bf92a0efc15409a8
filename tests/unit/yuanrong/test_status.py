"""What programs say, as captured or as their sources print it → data."""

from __future__ import annotations

from pdinfra.yuanrong.status import (
    Member,
    agents,
    health,
    last_words,
    master_info,
    members,
    membership_problems,
)

NOISE = "WARNING: Ignore register validator for flag: no flag found\n" * 2
FLAGS = """\
YuanRong is running normally,

YuanRong cluster addresses:
                     bus: 172.17.0.25:23426
                  worker: 172.17.0.25:39113

YuanRong cluster status:
  current running agents: 2
"""
TOML = """\
Cluster Status:
  Endpoints:
    function_master: 10.77.0.1:22770
    meta_store: 10.77.0.1:22440
  ReadyAgentsCount: 2
"""
ETCD = """\
/datasystem/cluster/10.77.0.1:12123
1795252304860872214;ready
/datasystem/cluster/10.77.0.1:31501
1795252305860872214;ready
/datasystem/cluster/10.77.0.2:31501
1795252306860872214;recover
"""
HEALTH = """\
System Status: RUNNING
Started at: Sat Nov 21 09:11:31 2026
Session ID: 20261121_091128
Components:
  etcd                 RUNNING (PID: 29646) (Restart Count: 0)
  ds_master            RUNNING (PID: 29663) (Restart Count: 0)
  ds_worker            RUNNING (PID: 30234) (Restart Count: 1)
"""
CURRENT = (
    "local_ip:None,master_ip:None,etcd_ip:10.77.0.1,etcd_port:22440,etcd_peer_port:22441,"
    "global_scheduler_port:None,ds_master_port:41217,bus-proxy:None,bus:None,ds-worker:31501,"
)


def test_agents_are_counted_in_both_dialects() -> None:
    assert agents(NOISE + FLAGS) == 2
    assert agents(NOISE + TOML) == 2


def test_success_without_a_number_is_no_number() -> None:
    assert agents("") is None
    assert agents(NOISE) is None
    assert agents("there seems no running yuanrong cluster.\nopen: no such file.\n") is None
    assert agents("Cluster Status:\n  Failed to fetch http://x/queryagentcount\n") is None


def test_colours_do_not_matter() -> None:
    assert agents("\x1b[32m  current running agents: 3\x1b[0m\n") == 3


def test_members_with_their_states() -> None:
    assert members(NOISE + ETCD) == (
        Member("10.77.0.1:12123", "ready"),
        Member("10.77.0.1:31501", "ready"),
        Member("10.77.0.2:31501", "recover"),
    )
    assert members("") == ()


def test_all_differences_from_the_plan_are_named() -> None:
    wrong = membership_problems(
        members(ETCD), ["10.77.0.1:12123", "10.77.0.2:31501", "10.77.0.3:31501"]
    )
    assert wrong == [
        "10.77.0.3:31501 is not in etcd",
        "10.77.0.1:31501 is in etcd, but not planned",
        "10.77.0.2:31501 is 'recover', not 'ready'",
    ]


def test_health_reads_every_component() -> None:
    seen = health(NOISE + HEALTH)
    assert seen.running
    assert [part.name for part in seen.components] == ["etcd", "ds_master", "ds_worker"]
    assert seen.components[2].restarts == 1
    assert seen.problems == []


def test_health_that_says_running_while_etcd_never_comes_up_is_a_problem() -> None:
    text = HEALTH.replace("29646) (Restart Count: 0)", "29646) (Restart Count: 7)")
    assert any("etcd was restarted 7 times" in problem for problem in health(text).problems)


def test_stopped_component_and_stopped_system() -> None:
    text = HEALTH.replace("RUNNING (PID: 30234)", "STOPPED (PID: 30234)")
    assert health(text).problems == ["ds_worker has stopped"]
    for stopped in ("System Status: STOPPED\n", "", "Error: File 'x' does not exist."):
        assert health(stopped).problems == ["no openYuanrong runs here"]


def test_addresses_of_a_start_s_output_and_of_its_file() -> None:
    started = (
        "Yuanrong deployed succeed\nCluster master info:\n    " + CURRENT + "\n\nNext Steps:\n"
    )
    for text in (CURRENT, started):
        found = master_info(text)
        assert found["ds_master_port"] == "41217"
        assert found["ds-worker"] == "31501"
        assert "master_ip" not in found
    assert master_info("Succeeded to start!") == {}


def test_last_words_pass_over_noise() -> None:
    assert last_words("Error: No such option: -l\n" + NOISE) == "Error: No such option: -l"
    assert last_words(NOISE) == ""
