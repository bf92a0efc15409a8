"""The suite as a whole: a host as planned passes; one thing altered fails exactly its test."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pdinfra.hosttests import judge
from pdinfra.hosttests.judge import ASPECTS
from pdinfra.hosttests.run import run_suite
from pdinfra.hosttests.seen import Seen, Socket
from pdinfra.model.hosttests import HostTest, document
from pdinfra.model.plan import HostPlan, ListenPort
from tests.unit.builders import ASCEND, NVIDIA, TWO_HOSTS, plan
from tests.unit.hosttests.hosts import as_planned, entry

NODE = plan().host("a")
MODEL = NODE.models[0].path
PREFILL = "prefill-a-0"
ROUTER_IMAGE = next(c.spec.image for c in NODE.containers if c.kind == "router")
Alter = Callable[[Seen], Seen]


def run(seen: Seen, node: HostPlan = NODE) -> list[HostTest]:
    return run_suite([node], lambda host: seen)


def failed(seen: Seen, node: HostPlan = NODE) -> list[HostTest]:
    return [test for test in run(seen, node) if test.outcome == "failed"]


def drift(path: tuple[str, ...], value: object, of: str = PREFILL) -> Alter:
    """Return what alters one field of a container's inspect document."""

    def alter(seen: Seen) -> Seen:
        changed: Any = copy.deepcopy(dict(seen.containers))
        at = changed[of]
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
        return replace(seen, containers=changed)

    return alter


def environment(seen: Seen) -> Seen:
    env = [*seen.containers[PREFILL]["Config"]["Env"], "HF_TOKEN=secret"]
    return drift(("Config", "Env"), env)(seen)


def without(seen: Seen) -> Seen:
    return replace(seen, containers={k: v for k, v in seen.containers.items() if k != PREFILL})


def surplus(seen: Seen) -> Seen:
    return replace(seen, containers={**seen.containers, "decode-a-9": {}})


def writable(seen: Seen) -> Seen:
    open_file = entry(f"{MODEL}/model.safetensors", 0o666)
    return replace(seen, trees={MODEL: (*seen.trees[MODEL][:2], open_file)})


def private(seen: Seen) -> Seen:
    mine = entry(f"{MODEL}/config.json", 0o600)
    return replace(seen, trees={MODEL: (*seen.trees[MODEL], mine)})


def other_image(seen: Seen) -> Seen:
    images = dict(seen.images)
    images[ROUTER_IMAGE] = {**images[ROUTER_IMAGE], "Id": "sha256:" + "2" * 64}
    return replace(seen, images=images)


def no_image(seen: Seen) -> Seen:
    return replace(seen, images={k: v for k, v in seen.images.items() if k != ROUTER_IMAGE})


def squatter(seen: Seen) -> Seen:
    return replace(seen, sockets=(*seen.sockets, Socket("10.0.0.9", 8100, "nginx (pid 9)", "")))


def everywhere(seen: Seen) -> Seen:
    moved = [replace(s, address="0.0.0.0") if s.port == 8000 else s for s in seen.sockets]
    return replace(seen, sockets=tuple(moved))


def deaf(seen: Seen) -> Seen:
    return replace(seen, sockets=tuple(s for s in seen.sockets if s.port != 5600))


def no_rotation(seen: Seen) -> Seen:
    return replace(seen, daemon="{}")


def loose_daemon(seen: Seen) -> Seen:
    path = "/etc/docker/daemon.json"
    return replace(seen, paths={**seen.paths, path: entry(path, 0o664)})


def test_host_as_planned_passes_and_every_thing_is_a_test_of_its_own() -> None:
    tests = run(as_planned(NODE))
    assert [test.message for test in tests if test.outcome != "passed"] == []
    names = [test.test for test in tests]
    assert len(set(names)) == len(names)
    for each in (c.id for c in NODE.containers):
        assert f"test_container_runs[a-{each}]" in names
        for aspect in ASPECTS:
            assert f"test_container_is_as_planned[a-{each}-{aspect}]" in names
    for port in (8000, 8100, 8200, 9001, 5600, 5700):
        assert f"test_port_is_its_owner_s_alone[a-{port}]" in names
    assert document(tests)["ok"] is True


def test_a_port_of_all_addresses_is_open_at_those_of_either_kind() -> None:
    planned = ListenPort(port=29600, address="0.0.0.0", owner=PREFILL, purpose="parts")
    for address, good in (("::", True), ("0.0.0.0", True), ("10.0.0.9", False)):
        seen = as_planned(NODE)
        owner = str(seen.containers[PREFILL]["Id"])
        here = replace(seen, sockets=(Socket(address, 29600, "vllm (pid 7)", owner),))
        assert judge.port(here, planned).ok is good


CASES: list[tuple[Alter, str, str]] = [
    (drift(("State", "Health", "Status"), "unhealthy"), "container_runs[prefill-a-0", "unhealthy"),
    (drift(("Config", "Cmd"), ["sh"]), "container_is_as_planned[prefill-a-0-command", "command sh"),
    (environment, "container_is_as_planned[prefill-a-0-environment", "also HF_TOKEN"),
    (
        drift(("HostConfig", "Privileged"), True),
        "container_is_as_planned[prefill-a-0-privileges",
        "privileged true",
    ),
    (
        drift(("HostConfig", "CapDrop"), []),
        "container_is_as_planned[prefill-a-0-privileges",
        "cap_drop []",
    ),
    (
        drift(("HostConfig", "CapAdd"), ["SYS_ADMIN"]),
        "container_is_as_planned[prefill-a-0-privileges",
        "SYS_ADMIN",
    ),
    (
        drift(("HostConfig", "Init"), False),
        "container_is_as_planned[prefill-a-0-lifecycle",
        "init false",
    ),
    (
        drift(("HostConfig", "RestartPolicy"), {"Name": "no"}),
        "container_is_as_planned[prefill-a-0-lifecycle",
        "policy no",
    ),
    (
        drift(("HostConfig", "LogConfig", "Type"), "syslog"),
        "container_is_as_planned[prefill-a-0-logs",
        "syslog",
    ),
    (
        drift(("HostConfig", "ShmSize"), 64 << 20),
        "container_is_as_planned[prefill-a-0-limits",
        "shm_size 67108864",
    ),
    (
        drift(("HostConfig", "Devices"), [{"PathOnHost": "/dev/kvm"}]),
        "container_is_as_planned[prefill-a-0-devices",
        "/dev/kvm",
    ),
    (
        drift(("Mounts",), [{"Type": "bind", "Destination": MODEL, "RW": True}]),
        "container_is_as_planned[prefill-a-0-mounts",
        "writable",
    ),
    (
        drift(("Config", "Labels", "pdinfra.role"), "decode"),
        "container_is_as_planned[prefill-a-0-labels",
        "role decode",
    ),
    (other_image, "container_is_as_planned[router-image", "made of sha256:111"),
    (no_image, f"image_is_present[{ROUTER_IMAGE}", "no such image"),
    (surplus, "no_container_besides_the_planned[", "decode-a-9"),
    (writable, f"file_has_its_mode[{MODEL}", "model.safetensors 0666"),
    (squatter, "port_is_its_owner_s_alone[8100", "nginx (pid 9) at 10.0.0.9"),
    (everywhere, "port_is_its_owner_s_alone[8000", "router at 0.0.0.0"),
    (deaf, "port_is_its_owner_s_alone[5600", "none"),
    (no_rotation, "engine_rotates_logs[", "without a max-size"),
    (loose_daemon, "file_has_its_mode[/etc/docker/daemon.json", "0664"),
    (lambda seen: Seen(error="Permission denied"), "host_answers[", "Permission"),
    (lambda seen: replace(seen, engine_error="Cannot connect"), "engine_answers[", "Cannot"),
]
"""What is altered, the one test that it fails, and what that test finds."""


@pytest.fixture(scope="module")
def altered() -> list[list[HostTest]]:
    """What fails of each case: all in one run of the suite, each on a host of its own."""
    hosts = [NODE.model_copy(update={"name": f"host{n}"}) for n in range(len(CASES))]
    seen = {
        host.name: alter(as_planned(host)) for host, (alter, _, _) in zip(hosts, CASES, strict=True)
    }
    tests = run_suite(hosts, lambda host: seen[host.name])
    return [[t for t in tests if t.host == h.name and t.outcome == "failed"] for h in hosts]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[test for _, test, _ in CASES])
def test_one_thing_altered_fails_exactly_its_test_with_host_found_and_expected(
    altered: list[list[HostTest]], number: int
) -> None:
    _, test, found = CASES[number]
    (failure,) = altered[number]
    host = f"host{number}"
    name, _, thing = test.partition("[")
    assert failure.test.startswith(f"test_{name}[{host}")
    assert failure.test.endswith(f"{thing}]")
    assert found in failure.found
    assert failure.message.startswith(f"{host}: {failure.test}: found ")
    assert ", expected " in failure.message


def test_stopped_container_fails_once_and_skips_what_cannot_be_known() -> None:
    alter = drift(("State",), {"Status": "exited", "ExitCode": 137})
    seen = alter(as_planned(NODE))
    seen = replace(seen, processes={})
    tests = run(seen)
    (failure,) = [test for test in tests if test.outcome == "failed"]
    assert failure.message == (
        "a: test_container_runs[a-prefill-a-0]: "
        "found exited (exit code 137), expected running, healthy"
    )
    skipped = {test.test for test in tests if test.outcome == "skipped"}
    assert "test_port_is_its_owner_s_alone[a-8100]" in skipped
    assert document(tests)["ok"] is False


def test_missing_container_fails_as_missing_and_as_not_running() -> None:
    found = {test.test: test.found for test in failed(without(as_planned(NODE)))}
    assert found == {
        "test_container_runs[a-prefill-a-0]": "no such container",
        "test_no_container_besides_the_planned[a]": "decode-a-0, router",
    }


def test_model_that_only_root_can_read_fails_for_each_engine() -> None:
    failures = failed(private(as_planned(NODE)))
    readers = [test for test in failures if test.test.startswith("test_container_can_read")]
    assert len(readers) == 2
    assert "config.json 0600 of 0:0" in readers[0].found
    assert "uid 1000" in readers[0].expected


def test_ascend_host_has_its_device_nodes_tested() -> None:
    node = plan(every=ASCEND).host("a")
    seen = as_planned(node)
    assert failed(seen, node) == []
    gone = {path: e for path, e in seen.paths.items() if path != "/dev/davinci1"}
    (failure,) = failed(replace(seen, paths=gone), node)
    assert failure.test == "test_device_exists[a-/dev/davinci1]"
    assert failure.found == "nothing there"


def test_gpus_of_a_container_are_exactly_the_planned_ones() -> None:
    node = plan(every=NVIDIA).host("a")
    assert failed(as_planned(node), node) == []
    requests = [{"Driver": "nvidia", "Count": -1, "DeviceIDs": None}]
    alter = drift(("HostConfig", "DeviceRequests"), requests)
    (failure,) = failed(alter(as_planned(node)), node)
    assert failure.test == "test_container_is_as_planned[a-prefill-a-0-devices]"


def test_each_host_is_looked_at_once_and_reported_by_its_name() -> None:
    hosts = plan(TWO_HOSTS).hosts
    looked: list[str] = []

    def look(node: HostPlan) -> Seen:
        looked.append(node.name)
        return as_planned(node) if node.name == "a" else Seen(error="no route to host")

    tests = run_suite(hosts, look)
    assert sorted(looked) == ["a", "b"]
    assert [t.message for t in tests if t.outcome == "failed"] == [
        "b: test_host_answers[b]: found no route to host, expected it answers"
    ]
    assert {t.outcome for t in tests if t.host == "a"} == {"passed"}
