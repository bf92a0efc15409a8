"""What would change, and the reason that a person is given."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.changes import Change, FieldChange, document, summary
from pdinfra.model.facts import DockerFact, NvidiaFact
from pdinfra.model.plan import HostPlan
from pdinfra.model.problems import InvalidInventoryError
from pdinfra.planning.changes import host_changes, stages, unseen_changes
from pdinfra.reading.docker import container_fact
from tests.unit.builders import (
    NVIDIA,
    TWO_HOSTS,
    converged,
    facts,
    gpus,
    inspect,
    observed,
    plan,
)


def host(every: dict[str, Any] | None = None) -> HostPlan:
    return plan(every=every).host("a")


def changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Change]:
    """Return the changes by id when an inventory's variables become others."""
    found = host_changes(host(new), converged(host(old)))
    return {change.id: change for change in found}


def drifted(of: HostPlan, path: tuple[str, ...], value: object) -> Change:
    """Return the first container's change after one field of it was altered by hand."""
    first, *rest = of.containers
    document = inspect(first)
    at: Any = document
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    seen = facts(of, [container_fact(document), *(observed(c) for c in rest)])
    return host_changes(of, seen)[0]


def test_bare_host_gets_everything_created() -> None:
    bare = facts(host(), images={}, models=(), docker=DockerFact(state="absent"))
    found = host_changes(host(), bare)
    assert {c.action for c in found} == {"create"}
    assert [c.kind for c in found] == [
        "engine",
        "image",
        "image",
        "model",
        "instance",
        "instance",
        "router",
    ]
    assert found[0].reason == "no Docker engine answers: install and start it"
    assert found[1].reason == "not on the host: build it"
    assert found[4].reason == "no such container"


def test_stopped_docker_is_started_not_installed() -> None:
    found = host_changes(host(), facts(host(), docker=DockerFact(state="stopped")))
    assert found[0].reason == "no Docker engine answers: start it"


def test_second_run_changes_nothing() -> None:
    found = host_changes(host(), converged(host()))
    assert {(c.id, c.action, c.reason) for c in found} == {
        (name, "keep", "as planned") for name in ("prefill-a-0", "decode-a-0", "router")
    }


@pytest.mark.parametrize(
    "variables",
    [
        {"pd_env": {"A": "x=y,z", "B": ""}, "pd_engine_args": ["--a=b", "--flag"]},
        {"pd_memory_gib": 7.5, "pd_shm_gib": 2},
        {"pd_privileged": True},
        {**NVIDIA, "pd_tensor_parallel_size": 2},
    ],
    ids=["env", "memory", "privileged", "nvidia"],
)
def test_second_run_changes_nothing_whatever_is_set(variables: dict[str, Any]) -> None:
    found = host_changes(host(variables), converged(host(variables)))
    assert [c.reason for c in found] == ["as planned"] * 3


@pytest.mark.parametrize(
    ("old", "new", "field", "line"),
    [
        (
            {"pd_decode": {"env": {"LEVEL": "1"}}},
            {"pd_decode": {"env": {"LEVEL": "2"}}},
            "env LEVEL",
            "env LEVEL: 1 → 2",
        ),
        ({}, {"pd_decode": {"env": {"NEW": "1"}}}, "env NEW", "env NEW: (unset) → 1"),
        ({"pd_decode": {"env": {"OLD": "1"}}}, {}, "env OLD", "env OLD: 1 → (unset)"),
        (
            {},
            {"pd_decode": {"max_model_len": 4096}},
            "--max-model-len",
            "--max-model-len: 8192 → 4096",
        ),
        (
            {},
            {"pd_decode": {"enforce_eager": False}},
            "--enforce-eager",
            "--enforce-eager: set → (unset)",
        ),
        ({}, {"pd_decode": {"memory_gib": 2}}, "memory", "memory: 0 → 2147483648"),
        (
            {},
            {"pd_decode": {"engine_args": ["--seed=7"]}},
            "--seed",
            "--seed: (unset) → 7",
        ),
    ],
)
def test_change_names_each_field_with_old_and_new(
    old: dict[str, Any], new: dict[str, Any], field: str, line: str
) -> None:
    found = changed(old, new)
    assert found["prefill-a-0"].action == "keep"
    change = found["decode-a-0"]
    assert change.action == "replace"
    assert [f.field for f in change.fields] == [field]
    assert change.reason == line


def test_new_image_is_named_old_and_new() -> None:
    found = changed({"pd_image": "reg/v:1"}, {"pd_image": "reg/v:2"})
    assert found["decode-a-0"].fields == (FieldChange(field="image", old="reg/v:1", new="reg/v:2"),)
    assert found["router"].action == "keep"
    assert found["reg/v:2"].action == "create"


def test_moved_port_shows_in_every_place_that_it_is_in() -> None:
    found = changed({}, {"pd_decode": {"port": 8250}})
    assert "--port: 8200 → 8250" in found["decode-a-0"].reason
    assert found["router"].action == found["prefill-a-0"].action == "keep"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("HostConfig", "Memory"), 1024, "memory"),
        (("HostConfig", "Privileged"), True, "privileged"),
        (("HostConfig", "RestartPolicy"), {"Name": "no"}, "restart_policy"),
        (("HostConfig", "ShmSize"), 67108864, "shm_size"),
        (("HostConfig", "NetworkMode"), "bridge", "network_mode"),
        (("HostConfig", "CapDrop"), None, "cap_drop"),
        (("HostConfig", "Mounts"), [], "mounts"),
        (("Config", "Image"), "somebody/else:1", "image"),
        (("Config", "Healthcheck"), None, "healthcheck"),
    ],
)
def test_drift_by_hand_is_named_and_mended(
    path: tuple[str, ...], value: object, field: str
) -> None:
    change = drifted(host(), path, value)
    assert change.action == "replace"
    assert [f.field for f in change.fields] == [field]


def test_drifted_environment_is_found_beside_the_images_own() -> None:
    of = host({"pd_env": {"MINE": "1"}})
    env = [e for e in inspect(of.containers[0])["Config"]["Env"] if not e.startswith("MINE=")]
    change = drifted(of, ("Config", "Env"), [*env, "MINE=2", "IMAGES_OWN=1"])
    assert change.reason == "env MINE: 2 → 1"


def test_order_of_mounts_is_no_drift() -> None:
    ascend = {
        "pd_accelerator": "ascend",
        "pd_connector": "MooncakeConnectorV1",
        "pd_image": "quay.io/ascend/vllm-ascend:v0.23.0",
        "pd_model_path": "/srv/m",
        "pd_router_metrics_port": 9100,
    }
    of = host(ascend)
    mounts = inspect(of.containers[0])["HostConfig"]["Mounts"]
    assert drifted(of, ("HostConfig", "Mounts"), mounts[::-1]).action == "keep"


@pytest.mark.parametrize("state", ["exited", "created", "paused", "dead"])
def test_container_that_does_not_run_is_replaced_with_its_exit_code(state: str) -> None:
    of = host()
    containers = [
        observed(of.containers[0], Status=state, ExitCode=137),
        *(observed(c) for c in of.containers[1:]),
    ]
    found = host_changes(of, facts(of, containers))
    assert found[0].action == "replace"
    assert found[0].reason == f"is {state} (exit code 137), should run"
    assert {c.action for c in found[1:]} == {"keep"}


def test_unhealthy_container_is_replaced() -> None:
    of = host()
    sick = observed(of.containers[0], Health={"Status": "unhealthy"})
    assert host_changes(of, facts(of, [sick]))[0].reason == "is unhealthy"


def test_starting_container_is_left_to_start() -> None:
    of = host()
    young = observed(of.containers[0], Health={"Status": "starting"})
    assert host_changes(of, facts(of, [young]))[0].action == "keep"


def test_removed_container_is_created_again_alone() -> None:
    of = host()
    found = host_changes(of, facts(of, [observed(c) for c in of.containers[1:]]))
    assert [(c.id, c.action) for c in found] == [
        ("prefill-a-0", "create"),
        ("decode-a-0", "keep"),
        ("router", "keep"),
    ]


def test_rebuilt_image_under_the_same_name_replaces_its_containers() -> None:
    of = host()
    images = {of.images[0].ref: "sha256:" + "2" * 64, of.images[1].ref: "sha256:" + "1" * 64}
    found = host_changes(of, converged(of, images=images))
    assert [c.action for c in found] == ["replace", "replace", "keep"]
    assert found[0].reason == f"{of.images[0].ref} is another image now"
    assert found[0].fields[0].field == "image id"


def test_container_of_another_release_is_replaced() -> None:
    change = drifted(
        host(),
        ("Config", "Labels"),
        {**inspect(host().containers[0])["Config"]["Labels"], "pdinfra.spec": "0" * 16},
    )
    assert (change.action, change.reason) == ("replace", "made by another release of pdinfra")


def test_unknown_containers_of_the_service_are_removed() -> None:
    old = plan(every={"pd_instances": [{"role": "prefill"}, {"role": "decode", "name": "old"}]})
    found = host_changes(host(), converged(old.host("a")))
    removed = [c for c in found if c.action == "remove"]
    assert [(c.id, c.kind, c.reason) for c in removed] == [("old", "instance", "not in the plan")]
    assert {c.id for c in found if c.action == "create"} == {"decode-a-0"}


def test_router_that_moved_to_another_host_is_removed_here() -> None:
    moved = plan({"prefill": ["a"], "decode": ["a"], "router": ["b"]}).host("a")
    found = host_changes(moved, converged(host()))
    assert [(c.kind, c.id) for c in found if c.action == "remove"] == [("router", "router")]


def test_two_inventory_hosts_of_one_machine_do_not_remove_each_others_containers() -> None:
    own = {"pd_port": 8250, "pd_kv_port": 5750, "pd_internal_port": 12100}
    try:
        made = plan(TWO_HOSTS, {"pd_address": "127.0.0.1"}, b=own)
    except InvalidInventoryError:
        return  # Refusing such an inventory is right as well.
    everything = [observed(c) for h in made.hosts for c in h.containers]
    for one in made.hosts:
        found = host_changes(one, facts(one, everything))
        assert [c.id for c in found if c.action == "remove"] == []


def test_changed_digest_of_a_pulled_image_pulls_it_again() -> None:
    old, new = ("sha256:" + letter * 64 for letter in "de")
    of = host({"pd_image": "reg/v:1", "pd_image_digest": new})
    ids = {image.ref: "sha256:" + "1" * 64 for image in of.images}
    seen = converged(of, images={**ids, f"reg/v@{old}": "sha256:" + "1" * 64})
    assert ("image", "create") in {(c.kind, c.action) for c in host_changes(of, seen)}


@pytest.mark.parametrize("damage", [{"error": "No such file or directory"}, {"missing": ("x",)}])
def test_tiny_model_is_copied_where_it_is_not_whole(damage: dict[str, Any]) -> None:
    of = host()
    model = {"path": of.models[0].path, **damage}
    found = host_changes(of, converged(of, models=(model,)))
    assert [c.kind for c in found if c.action == "create"] == ["model"]


def test_users_model_directory_is_never_touched() -> None:
    of = host({"pd_model_path": "/srv/m"})
    seen = converged(of, models=({"path": "/srv/m", "error": "No such file or directory"},))
    assert "model" not in {c.kind for c in host_changes(of, seen)}


def test_summary_counts_every_action_even_those_that_are_not_there() -> None:
    found = host_changes(host(), converged(host()))
    assert summary(found) == {"create": 0, "replace": 0, "keep": 3, "remove": 0}
    assert set(document(found)) == {"changes", "summary"}
    assert document(found)["changes"][0]["action"] == "keep"


def test_check_mode_on_a_bare_host_looks_at_the_engine_only() -> None:
    of = host({"pd_model_path": "/srv/m"})
    bare = facts(of, images={}, docker=DockerFact(state="absent"))
    found = host_changes(of, bare)
    assert stages(found, check=True) == ["engine"]
    assert stages(found, check=False) == ["engine", "image", "instance", "router"]


def test_check_mode_without_images_stops_before_the_containers() -> None:
    of = host()
    found = host_changes(of, facts(of, images={}, models=()))
    assert stages(found, check=True) == ["image", "model"]
    assert stages(found, check=False) == ["image", "model", "instance", "router"]


def test_check_mode_with_all_images_looks_at_the_containers() -> None:
    found = host_changes(host(), facts(host()))
    assert stages(found, check=True) == ["instance", "router"]


@pytest.mark.parametrize("check", [True, False])
def test_nothing_to_do_has_no_stage(check: bool) -> None:
    assert stages(host_changes(host(), converged(host())), check=check) == []


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"nvidia": NvidiaFact(gpus=gpus(2))}, "container toolkit is not on the host"),
        ({"docker": DockerFact(state="running")}, "Docker does not know NVIDIA's runtime"),
    ],
    ids=["no toolkit", "no runtime"],
)
def test_gpu_host_gets_its_runtime_before_its_images(seen: dict[str, Any], reason: str) -> None:
    of = host(NVIDIA)
    found = host_changes(of, facts(of, images={}, **seen))
    assert [c.kind for c in found] == ["runtime", "image", "image", *["instance"] * 2, "router"]
    assert (found[0].id, found[0].action) == ("nvidia", "create")
    assert reason in found[0].reason


def test_runtime_is_left_alone_where_the_operator_sees_to_it() -> None:
    of = host({**NVIDIA, "pd_nvidia_runtime": False})
    found = host_changes(of, facts(of, nvidia=NvidiaFact(gpus=gpus(2))))
    assert "runtime" not in {change.kind for change in found}


def test_host_that_was_not_looked_at_is_to_have_its_runtime() -> None:
    kinds = [change.kind for change in unseen_changes(host(NVIDIA))]
    assert kinds[0] == "runtime"
    assert "runtime" not in {change.kind for change in unseen_changes(host())}
