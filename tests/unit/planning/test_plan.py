"""The plan: wiring, images, models, connectors, stability."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.assets import load as load_assets
from pdinfra.model.plan import Plan
from pdinfra.planning.plan import build
from tests.unit.builders import (
    ASCEND,
    ASSETS,
    GIB,
    NVIDIA,
    ONE_HOST,
    TWO_HOSTS,
    inventory,
    lines,
    only,
    option,
    plan,
    problems,
    specs,
)


def kv_config(made: Plan, name: str) -> dict[str, Any]:
    found = json.loads(option(specs(made)[name], "--kv-transfer-config"))
    assert isinstance(found, dict)
    return found


def test_newcomers_plan_needs_no_variable() -> None:
    made = build(inventory(), load_assets())
    assert made.router.url == "http://a:8000"
    assert [c.name for c in made.host("a").containers] == [
        "pd-pd-prefill-a-0",
        "pd-pd-decode-a-0",
        "pd-pd-router",
    ]
    assert made.convergeable


def test_prefill_produces_and_decode_consumes() -> None:
    made = plan()
    assert kv_config(made, "prefill-a-0")["kv_role"] == "kv_producer"
    assert kv_config(made, "decode-a-0")["kv_role"] == "kv_consumer"
    assert kv_config(made, "decode-a-0")["kv_connector"] == "NixlConnector"


def test_side_channel_is_told_to_the_engine() -> None:
    env = specs(plan(TWO_HOSTS, b={"pd_address": "10.0.0.2"}))["decode-b-0"].env
    assert env["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "10.0.0.2"
    assert env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5700"


def test_router_knows_every_instance_by_role() -> None:
    groups = {"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}
    assert [(m.id, m.role, m.url) for m in plan(groups).router.members] == [
        ("prefill-a-0", "prefill", "http://a:8100"),
        ("decode-b-0", "decode", "http://b:8200"),
        ("decode-c-0", "decode", "http://c:8200"),
    ]


def test_router_reads_its_members_from_a_folder_of_its_host() -> None:
    made = plan(every={"pd_service": "chat"})
    spec = specs(made)["router"]
    assert option(spec, "--members") == "/var/lib/pdinfra/chat/router/members.json"
    assert [mount.source for mount in spec.mounts] == ["/var/lib/pdinfra/chat/router"]
    assert made.host("a").observe.router == made.router.url


def test_host_in_no_group_is_planned_to_run_nothing() -> None:
    made = plan({**TWO_HOSTS, "all": ["a", "b", "c"]})
    spare = made.host("c")
    assert spare.spare
    assert (spare.containers, spare.images, spare.ports) == ((), (), ())
    assert plan(TWO_HOSTS).hosts == made.hosts[:2]


def test_mixed_engines_have_no_kv_transfer_and_a_plain_router() -> None:
    made = plan({"mixed": ["a", "b"], "router": ["a"]})
    assert "--kv-transfer-config" not in specs(made)["mixed-a-0"].command
    assert {(m.role, m.url) for m in made.router.members} == {
        ("mixed", "http://a:8300"),
        ("mixed", "http://b:8300"),
    }


def test_unknown_connector_lists_what_can_be_used() -> None:
    problem = only(problems(every={"pd_connector": "NixelConnector"}))
    assert problem.thing == "pd_connector NixelConnector"
    assert problem.cause == "vLLM has no connector of this name"
    assert problem.fix == (
        "use one of: nixl (NixlConnector), shared-storage (ExampleConnector), "
        "mooncake (MooncakeConnector), multi (MultiConnector)"
    )


@pytest.mark.parametrize(
    ("variables", "accelerator"),
    [
        ({"pd_connector": "P2pNcclConnector"}, "cpu"),
        ({"pd_connector": "LMCacheConnectorV1"}, "cpu"),
        ({"pd_connector": "MooncakeConnectorV1"}, "cpu"),
        ({**NVIDIA, "pd_connector": "YuanRongConnector"}, "nvidia"),
        ({**ASCEND, "pd_connector": "NixlConnector"}, "ascend"),
    ],
)
def test_connector_of_another_accelerator_says_where_we_know_that_from(
    variables: dict[str, Any], accelerator: str
) -> None:
    problem = only(problems(every=variables))
    assert f"pdinfra cannot use it on {accelerator} with stack native (" in problem.cause
    assert problem.fix.startswith("use one of: ")


def test_adding_a_host_leaves_all_other_containers_alone() -> None:
    small = plan(TWO_HOSTS)
    large = plan({"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]})
    before, after = specs(small), specs(large)
    assert set(after) - set(before) == {"decode-c-0"}
    assert {name: after[name] for name in before} == before


def test_adding_a_host_in_front_changes_no_id_either() -> None:
    names = {
        i.id for i in plan({"prefill": ["z", "a"], "decode": ["b"], "router": ["a"]}).instances
    }
    assert {i.id for i in plan(TWO_HOSTS).instances} < names


def test_cpu_images_are_built_from_definitions_that_are_part_of_the_name() -> None:
    refs = [image.ref for image in plan().host("a").images]
    assert refs == [
        "pdinfra/vllm-cpu:0.32.0-aaaaaaaaaaaa",
        "pdinfra/vllm-router:0.1.17-bbbbbbbbbbbb",
    ]
    assert {image.source for image in plan().host("a").images} == {"build"}


def test_host_without_router_needs_no_router_image() -> None:
    assert [i.definition for i in plan(TWO_HOSTS).host("b").images] == ["vllm-cpu"]


def test_named_image_is_pulled_with_its_digest() -> None:
    digest = "sha256:" + "d" * 64
    image = plan(every={"pd_image": "reg/vllm:1", "pd_image_digest": digest}).host("a").images[0]
    assert (image.ref, image.source, image.digest) == ("reg/vllm:1", "pull", digest)


def test_image_is_loaded_from_an_archive() -> None:
    variables = {"pd_image": "v:1", "pd_image_source": "load", "pd_image_archive": "/srv/v.tar"}
    image = plan(every=variables).host("a").images[0]
    assert (image.source, image.archive) == ("load", "/srv/v.tar")


@pytest.mark.parametrize(
    ("variables", "thing"),
    [
        ({"pd_image_source": "pull"}, "pd_image"),
        ({"pd_image": "v:1", "pd_image_source": "load"}, "pd_image_archive"),
        ({"pd_router_image_source": "pull"}, "pd_router_image"),
        ({"pd_router_image": "r:1", "pd_router_image_source": "load"}, "pd_router_image_archive"),
    ],
)
def test_image_that_cannot_be_got_is_refused(variables: dict[str, Any], thing: str) -> None:
    problem = only(problems(every=variables))
    assert problem.thing == thing
    assert problem.fix.startswith(f"set {thing}")


def test_vendor_image_must_be_named_for_accelerators() -> None:
    variables = {"pd_accelerator": "nvidia", "pd_model_path": "/srv/models/qwen"}
    problem = only(problems(every=variables))
    assert problem.thing == "pd_image"
    assert "for CPU only" in problem.cause


def test_model_is_the_tiny_one_unless_a_directory_is_named() -> None:
    tiny = plan().host("a").models[0]
    assert (tiny.source, tiny.path) == (
        "tiny",
        "/var/lib/pdinfra/models/tiny-qwen2-cccccccccccc",
    )
    own = plan(every={"pd_model_path": "/srv/models/Qwen2.5-0.5B/"})
    assert own.host("a").models[0].source == "directory"
    assert own.model_name == "Qwen2.5-0.5B"
    assert option(specs(own)["decode-a-0"], "--served-model-name") == "Qwen2.5-0.5B"


def test_model_is_mounted_read_only() -> None:
    mount = specs(plan(every={"pd_model_path": "/srv/m"}))["decode-a-0"].mounts[0]
    assert (mount.source, mount.target, mount.read_only) == ("/srv/m", "/srv/m", True)


def test_router_only_host_needs_no_model_and_does_not_name_it() -> None:
    groups = {"router": ["r"], "prefill": ["a"], "decode": ["b"]}
    model = {"pd_model_path": "/srv/models/qwen"}
    made = plan(groups, r={}, a=model, b=model)
    assert made.host("r").models == ()
    assert made.model_name == "qwen"


def test_engines_that_would_serve_different_model_names_are_refused() -> None:
    found = problems(
        TWO_HOSTS, a={"pd_model_path": "/srv/qwen-7b"}, b={"pd_model_path": "/data/llama-8b"}
    )
    assert "pd_model" in lines(found)


def test_one_model_may_have_different_paths_with_one_name() -> None:
    made = plan(
        TWO_HOSTS,
        {"pd_model_name": "m"},
        a={"pd_model_path": "/srv/x"},
        b={"pd_model_path": "/data/y"},
    )
    assert made.model_name == "m"
    assert option(specs(made)["decode-b-0"], "vllm") == "serve"
    assert specs(made)["decode-b-0"].command[2] == "/data/y"


def test_loopback_address_among_several_machines_is_refused() -> None:
    found = problems(TWO_HOSTS, a={"pd_address": "127.0.0.1"}, b={"pd_address": "10.0.0.2"})
    problem = only(found)
    assert (problem.host, problem.thing) == ("a", "address 127.0.0.1")
    assert problem.fix.startswith("set pd_address")


@pytest.mark.parametrize("address", ["localhost", "::1"])
def test_other_spellings_of_loopback_are_refused_as_well(address: str) -> None:
    found = problems(TWO_HOSTS, a={"pd_address": address}, b={"pd_address": "10.0.0.2"})
    assert only(found).thing == f"address {address}"


def test_ipv6_address_is_bracketed_in_urls() -> None:
    made = plan(every={"pd_address": "fd00::7"})
    assert made.router.url == "http://[fd00::7]:8000"
    assert made.instances[0].url == "http://[fd00::7]:8100"


@pytest.mark.parametrize(
    ("bind", "url"),
    [("0.0.0.0", "http://10.0.0.1:8000"), ("192.168.1.1", "http://192.168.1.1:8000")],
)
def test_clients_are_told_an_address_that_they_can_use(bind: str, url: str) -> None:
    made = plan(every={"pd_address": "10.0.0.1", "pd_router_bind": bind})
    assert made.router.url == url
    assert option(specs(made)["router"], "--host") == bind


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "0"),
        ({"pd_env": {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}}, "1"),
        # vLLM binds threads of a worker's own process alone.
        ({"pd_env": {"VLLM_CPU_OMP_THREADS_BIND": "auto"}}, None),
        ({"pd_tensor_parallel_size": 2}, None),
        (NVIDIA, None),
    ],
)
def test_only_worker_of_a_cpu_engine_runs_in_its_core(
    more: dict[str, Any], told: str | None
) -> None:
    env = specs(plan(every=more))["decode-a-0"].env
    assert env.get("VLLM_ENABLE_V1_MULTIPROCESSING") == told


def test_memory_of_a_host_is_the_sum_of_its_cpu_engines_and_the_router() -> None:
    host = plan(every={"pd_kv_cache_gib": 4}).host("a")
    assert host.memory > 2 * 4 * GIB
    assert plan(every=NVIDIA).host("a").memory < GIB


def test_every_rank_of_a_cpu_engine_has_kv_memory_of_its_own() -> None:
    more = {"pd_kv_cache_gib": 4, "pd_tensor_parallel_size": 2}
    assert plan(every=more).host("a").memory > 2 * 2 * 4 * GIB


def test_labels_let_a_container_be_found_again() -> None:
    container = plan().host("a").containers[0]
    assert container.labels["pdinfra.service"] == "pd"
    assert container.labels["pdinfra.instance"] == "prefill-a-0"
    assert container.labels["pdinfra.role"] == "prefill"
    assert container.labels["pdinfra.spec"] == container.spec.digest


def test_problems_of_planning_are_told_at_once() -> None:
    found = problems(
        every={
            "pd_connector": "Nope",
            "pd_prefill": {"port": 8200, "tensor_parallel_size": 3},
            "pd_image_source": "pull",
            "pd_devices": [0],
        }
    )
    things = {p.thing for p in found}
    assert things == {"pd_connector Nope", "port 8200", "prefill-a-0", "pd_image", "devices"}


def test_plan_survives_its_way_through_ansible() -> None:
    made = plan(TWO_HOSTS)
    assert Plan.model_validate(json.loads(json.dumps(made.dump()))) == made


def test_same_inventory_gives_the_same_plan() -> None:
    assert build(inventory(ONE_HOST), ASSETS) == build(inventory(ONE_HOST), ASSETS)


def test_facts_module_is_told_what_the_host_is_to_have_of_its_accelerator() -> None:
    seen = plan(TWO_HOSTS, {**ASCEND, "pd_devices": [4, 2]}).host("b").observe
    assert (seen.accelerator, seen.devices) == ("ascend", (4,))
    assert "/etc/hccn.conf" in seen.mounts
    assert "/srv/models/qwen" not in seen.mounts


def test_router_mounts_nothing_of_a_driver() -> None:
    groups = {"prefill": ["a"], "decode": ["b"], "router": ["c"]}
    assert plan(groups, ASCEND).host("c").observe.mounts == ()
    assert plan(groups, ASCEND).host("c").observe.devices == ()
