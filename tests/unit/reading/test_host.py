"""One host's raw observations → facts. The texts are captured from real hosts."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.facts import HostFacts
from pdinfra.reading.host import container_facts, host_facts
from tests.unit.builders import NOW, inspect, plan

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 020200C0:C1BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 66843 1
   1: 0100007F:1FA4 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 74514 1
   2: 0100007F:1F40 0100007F:82E7 01 00000000:00000000 00:00000000 00000000  1000  0 66603 1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:0
   1: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 00000000:0
"""
MEMINFO = "MemTotal:       24684092 kB\nMemFree:        17582684 kB\nMemAvailable:   19452504 kB\n"
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n'


def raw(**more: Any) -> dict[str, Any]:
    return {
        "hostname": "node1",
        "time": NOW,
        "files": {
            "/etc/os-release": OS_RELEASE,
            "/proc/meminfo": MEMINFO,
            "/proc/net/tcp": TCP,
            "/proc/net/tcp6": TCP6,
        },
        "disk_free": {"/": 1000, "/var/lib/docker": None},
        "models": {},
        "processes": {"8100": {"pid": 7, "command": "vllm\n"}},
        "docker": {"error": {"kind": "absent", "text": "no socket"}},
        **more,
    }


def read(**more: Any) -> HostFacts:
    return host_facts("a", raw(**more))


def test_memory_is_in_bytes() -> None:
    assert read().memory_total == 24684092 * 1024
    assert read().memory_available == 19452504 * 1024


def test_operating_system_is_named() -> None:
    assert read().os == "Debian GNU/Linux 12 (bookworm)"


def test_folders_that_are_not_there_have_no_free_space() -> None:
    assert read().disk_free == {"/": 1000}


def test_listening_ports_have_address_and_process_and_connections_are_none() -> None:
    found = {fact.port: fact for fact in read().listening}
    assert set(found) == {0xC1BB, 8100, 22, 631}
    assert found[8100].address == "127.0.0.1"
    assert found[8100].process == "vllm (pid 7)"
    assert found[0xC1BB].address == "192.0.2.2"
    assert found[0xC1BB].process is None
    assert found[22].address == "::"
    assert found[631].address == "::1"


def test_host_without_ipv6_can_be_read() -> None:
    files = {**raw()["files"], "/proc/net/tcp6": None}
    assert {fact.port for fact in read(files=files).listening} == {0xC1BB, 8100}


def test_host_that_shows_nothing_can_be_read() -> None:
    facts = read(files={}, processes={})
    assert (facts.os, facts.memory_available, facts.listening) == ("unknown", 0, ())


def test_host_without_docker_has_no_container_and_no_image() -> None:
    facts = read()
    assert (facts.docker.state, facts.containers, facts.images) == ("absent", (), {})


def test_containers_and_models_are_found_by_plan_id_and_path() -> None:
    of = plan().host("a")
    docker = {"error": None, "containers": [inspect(c) for c in of.containers], "images": []}
    models = {"/srv/m": {"error": "No such file or directory"}}
    facts = read(docker=docker, models=models)
    container = facts.container("decode-a-0")
    assert container is not None
    assert container.role == "decode"
    assert facts.container("nobody") is None
    model = facts.model("/srv/m")
    assert model is not None
    assert model.error == "No such file or directory"
    assert facts.model("/srv/other") is None


@pytest.mark.parametrize("containers", [None, []])
def test_waiting_on_a_host_without_containers_is_no_crash(containers: list[Any] | None) -> None:
    assert container_facts({"docker": {"containers": containers}}) == ()


def test_rank_tables_are_read_by_path() -> None:
    file = {"text": "{}", "mode": 0o644, "uid": 0, "gid": 0, "changed": NOW}
    facts = read(rank_tables={"/var/lib/pdinfra/pd/ranktables/0/x.json": file})
    assert facts.rank_tables["/var/lib/pdinfra/pd/ranktables/0/x.json"].mode == 0o644
    assert HostFacts.model_validate(facts.model_dump(mode="json")) == facts
    assert read().rank_tables == {}


def test_facts_survive_their_way_through_ansible() -> None:
    facts = read()
    assert HostFacts.model_validate(facts.model_dump(mode="json")) == facts
