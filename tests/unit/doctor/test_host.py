"""What the doctor tells about one host, before a container starts."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor import failures
from pdinfra.doctor.host import host_checks
from pdinfra.model.checks import Check, document
from pdinfra.model.facts import DockerFact, HostFacts, NetworkFact
from pdinfra.model.plan import HostPlan
from tests.unit.builders import (
    GIB,
    NVIDIA,
    TWO_HOSTS,
    converged,
    facts,
    good_model,
    listening,
    observed,
    plan,
)

OWN_MODEL = {"pd_model_path": "/srv/m"}


def host(every: dict[str, Any] | None = None) -> HostPlan:
    return plan(every=every).host("a")


def check(name: str, of: HostPlan, seen: HostFacts) -> Check:
    """Return the first check of this name that is not well, else the first."""
    mine = [c for c in host_checks(of, seen) if c.id == name]
    return next((c for c in mine if c.status != "ok"), mine[0])


def test_good_host_fails_nothing_and_warns_of_nothing() -> None:
    checks = list(host_checks(host(), converged(host())))
    assert {c.status for c in checks} == {"ok"}
    assert {c.id for c in checks} >= {"docker", "memory", "disk", "shm", "ports", "model"}
    assert document(checks)["ok"] is True


def test_what_up_itself_brings_is_well_and_says_so() -> None:
    bare = facts(
        host(),
        images={},
        models=({"path": host().models[0].path, "error": "No such file or directory"},),
        docker=DockerFact(state="absent", detail="no socket"),
    )
    checks = list(host_checks(host(), bare))
    assert {c.status for c in checks} == {"ok"}
    told = {c.id: c.found for c in checks}
    assert told["docker"] == "absent (no socket): `up` installs and starts it"
    assert told["image"] == "not there yet: `up` builds it"
    assert told["model"] == "not on the host: `up` will copy the tiny model"


def test_docker_that_was_never_started_is_started_by_up() -> None:
    seen = facts(host(), docker=DockerFact(state="stopped", detail="no socket"))
    assert check("docker", host(), seen).found == "stopped (no socket): `up` starts it"


def test_docker_that_should_run_since_boot_and_does_not_is_worth_a_look() -> None:
    docker = DockerFact(state="stopped", detail="Connection refused", at_boot=True)
    seen = facts(host(), docker=docker)
    found = check("docker", host(), seen)
    assert (found.status, found.found) == ("warn", "stopped (Connection refused)")
    assert "journalctl -u docker" in found.fix


def test_no_permission_for_docker_tells_both_ways_out() -> None:
    seen = facts(host(), docker=DockerFact(state="denied", detail="[Errno 13] Permission denied"))
    found = check("docker", host(), seen)
    assert found.status == "fail"
    assert "Permission denied" in found.found
    assert "ansible_become" in found.fix
    assert "group docker" in found.fix


def test_too_little_memory_says_what_is_free_and_what_is_needed() -> None:
    of = host({"pd_kv_cache_gib": 8})
    found = check("memory", of, facts(of, memory_available=4 * GIB))
    assert found.status == "fail"
    assert found.found == "4.0 GiB free"
    assert found.expected == "18.9 GiB for containers to start"
    assert "pd_kv_cache_gib" in found.fix


def test_running_containers_have_their_memory_already() -> None:
    of = host()
    assert check("memory", of, converged(of, memory_available=GIB // 10)).status == "ok"


def test_memory_for_containers_that_are_stopped_is_needed_again() -> None:
    of = host()
    stopped = [observed(c, Status="exited") for c in of.containers]
    assert check("memory", of, facts(of, stopped, memory_available=GIB)).status == "fail"


def test_memory_for_the_weights_counts() -> None:
    of = host(OWN_MODEL)
    model = good_model("/srv/m", weight_bytes=14 * GIB)
    seen = facts(of, memory_available=12 * GIB, models=(model,))
    assert check("memory", of, seen).status == "fail"


def test_too_little_disk_to_build_says_where() -> None:
    of = host()
    disk = {"/": 90 * GIB, "/var/lib/docker": 5 * GIB}
    found = check("disk", of, facts(of, images={}, disk_free=disk))
    assert found.status == "fail"
    assert found.found == "5.0 GiB free at /var/lib/docker"
    assert "docker system df" in found.fix


def test_disk_that_is_enough_to_run_need_not_be_enough_to_build() -> None:
    of = host()
    assert check("disk", of, facts(of, disk_free={"/": 5 * GIB})).status == "ok"
    assert check("disk", of, facts(of, disk_free={"/": GIB})).status == "fail"


def test_disk_is_looked_at_where_docker_keeps_its_data() -> None:
    of = host()
    docker = DockerFact(state="running", root="/data/docker")
    disk = {"/": 900 * GIB, "/data/docker": GIB}
    found = check("disk", of, facts(of, docker=docker, disk_free=disk))
    assert found.found == "1.0 GiB free at /data/docker"


def test_port_of_a_foreign_process_is_named_with_its_taker() -> None:
    of = host()
    found = check("ports", of, facts(of, listening=(listening(8100), listening(22, "sshd"))))
    assert found.status == "fail"
    assert found.found == "8100 taken by nginx (pid 42) (wanted by prefill-a-0)"
    assert found.fix


def test_port_of_a_process_that_cannot_be_seen_is_taken_all_the_same() -> None:
    of = host()
    found = check("ports", of, facts(of, listening=(listening(8000, None),)))
    assert found.found == "8000 taken by another process (wanted by router)"


def test_every_taken_port_is_named_once() -> None:
    of = host()
    taken = (listening(8100), listening(8200), listening(8200, "nginx (pid 43)"))
    found = check("ports", of, facts(of, listening=taken)).found
    assert found.count("8100 taken") == found.count("8200 taken") == 1


def test_ports_of_our_own_running_containers_are_not_taken() -> None:
    assert check("ports", host(), converged(host())).status == "ok"


def test_port_that_a_stopped_container_of_ours_wants_back_may_be_taken() -> None:
    of = host()
    stopped = [observed(c, Status="exited") for c in of.containers]
    found = check("ports", of, facts(of, stopped, listening=(listening(8200),)))
    assert found.status == "fail"


def test_port_that_a_running_container_is_to_move_to_may_be_taken() -> None:
    of = host({"pd_decode": {"port": 8250}})
    seen = converged(host())
    taken = (*seen.listening, listening(8250))
    found = check("ports", of, seen.model_copy(update={"listening": taken}))
    assert found.status == "fail"
    assert "8250 taken by nginx" in found.found


def test_port_of_our_container_that_will_be_removed_is_not_taken() -> None:
    entries = [{"role": "prefill", "name": "renamed"}, {"role": "decode"}]
    of = host({"pd_instances": entries})
    assert check("ports", of, converged(host())).status == "ok"


def test_ports_may_be_swapped_between_our_own_containers() -> None:
    of = host({"pd_prefill": {"port": 8200}, "pd_decode": {"port": 8100}})
    assert check("ports", of, converged(host())).status == "ok"


def test_too_few_inodes_to_hold_an_image() -> None:
    of = host()
    found = check("inodes", of, facts(of, inodes_free={"/": 500, "/var/lib/docker": 10}))
    assert (found.status, found.found) == ("fail", "10 free at /var/lib/docker")
    assert check("inodes", of, facts(of, inodes_free={"/": 10**6})).status == "ok"


def test_file_system_without_inodes_is_not_judged_by_them() -> None:
    assert "inodes" not in {c.id for c in host_checks(host(), facts(host()))}


@pytest.mark.parametrize(("size", "status"), [(0.0625, "fail"), (1, "ok"), (64, "fail")])
def test_shared_memory_that_vllm_dies_with_or_that_no_host_has(size: float, status: str) -> None:
    of = host({"pd_shm_gib": size})
    found = check("shm", of, facts(of, memory_total=32 * GIB))
    assert (found.status, found.invalid) == (status, status == "fail")
    assert found.expected == "1.0 GiB to 32.0 GiB"


def test_planned_port_that_an_outgoing_connection_may_take_is_a_warning() -> None:
    of = host({"pd_decode": {"port": 40000}})
    found = check("port-range", of, facts(of))
    assert (found.status, found.found) == (
        "warn",
        "40000 (decode-a-0) inside 32768-60999, not reserved",
    )
    assert "ip_local_reserved_ports" in found.fix
    reserved = facts(of, network=NetworkFact(reserved=frozenset({40000})))
    assert check("port-range", of, reserved).status == "ok"


def test_port_that_up_reserves_itself_is_no_warning() -> None:
    of = plan(TWO_HOSTS, {"pd_port": 40000}).host("a")
    assert check("port-range", of, facts(of)).found == "1 to reserve: `up` does"
    off = plan(TWO_HOSTS, {"pd_port": 40000, "pd_manage_ports": False}).host("a")
    assert check("port-range", off, facts(off)).status == "warn"


def test_image_that_is_to_be_loaded_needs_its_archive() -> None:
    of = host({"pd_image": "v:1", "pd_image_source": "load", "pd_image_archive": "/srv/v.tar"})
    found = check("image", of, facts(of, images={}))
    assert (found.status, found.found) == ("fail", "neither v:1 nor its archive /srv/v.tar")
    there = facts(of, images={}, files={"/srv/v.tar"})
    assert check("image", of, there).status == "ok"


def test_model_directory_that_is_not_there_is_named_with_its_host() -> None:
    of = host(OWN_MODEL)
    model = {"path": "/srv/m", "error": "No such file or directory"}
    found = check("model", of, facts(of, models=(model,)))
    assert found.status == "fail"
    assert found.found == "/srv/m: No such file or directory"
    assert found.fix == "put the model there (on a), or correct pd_model_path"


def test_incomplete_model_directory_names_everything_that_is_missing() -> None:
    of = host(OWN_MODEL)
    model = {"path": "/srv/m", "missing": ("config.json", "model-2.safetensors")}
    found = check("model", of, facts(of, models=(model,)))
    assert found.status == "fail"
    assert found.found == "no config.json, no model-2.safetensors"


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "status"),
    [(28, 4, 4, "ok"), (28, 4, 3, "fail"), (14, 2, 2, "ok"), (14, 2, 7, "fail"), (0, 0, 3, "ok")],
)
def test_tensor_parallel_size_must_fit_the_models_heads(
    heads: int, kv_heads: int, size: int, status: str
) -> None:
    of = host({**NVIDIA, **OWN_MODEL, "pd_tensor_parallel_size": size})
    seen = facts(of, models=(good_model("/srv/m", heads=heads, kv_heads=kv_heads),))
    assert check("model", of, seen).status == status


def test_size_that_does_not_divide_the_heads_is_a_fault_of_the_inventory() -> None:
    of = host({**NVIDIA, **OWN_MODEL, "pd_decode": {"tensor_parallel_size": 3}})
    found = check("model", of, facts(of, models=(good_model("/srv/m", heads=28, kv_heads=4),)))
    assert found.invalid
    assert found.found == "28 attention heads, 4 KV heads"
    assert found.expected == "heads divisible by tensor_parallel_size 3"
    assert found.fix == "set pd_tensor_parallel_size to a divisor of 28 that fits the KV heads"


def test_faults_of_a_host_are_not_the_inventorys() -> None:
    of = host(OWN_MODEL)
    seen = facts(
        of,
        memory_available=0,
        disk_free={"/": 0},
        docker=DockerFact(state="denied"),
        models=({"path": "/srv/m", "error": "Permission denied"},),
        listening=(listening(8100),),
    )
    bad = failures(list(host_checks(of, seen)))
    assert {c.id for c in bad} == {"docker", "memory", "disk", "model", "ports"}
    assert not any(c.invalid for c in bad)
    assert all(c.host == "a" and c.found and c.expected and c.fix for c in bad)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({}, "ok"),
        ({"Health": {"Status": "starting"}}, "ok"),
        ({"Health": {"Status": "unhealthy"}}, "warn"),
        ({"Status": "exited"}, "warn"),
    ],
)
def test_sick_container_is_a_warning_with_the_command_that_shows_why(
    state: dict[str, Any], status: str
) -> None:
    of = host()
    found = check("container", of, facts(of, [observed(of.containers[0], **state)]))
    assert found.status == status
    assert (status == "ok") == (found.fix == "")
    if status == "warn":
        assert "pdinfra logs prefill-a-0" in found.fix
