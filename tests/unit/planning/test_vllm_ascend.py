"""vllm-ascend's connectors are planned as its guides have them, image by image."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.model.plan import ContainerSpec
from tests.unit.builders import (
    ASCEND,
    ONE_HOST,
    TWO_HOSTS,
    lines,
    only,
    option,
    plan,
    problems,
    specs,
)

DIST = "LLMDataDistCMgrConnector"
P, D = "prefill-a-0", "decode-b-0"


def service(connector: str, tag: str, **more: Any) -> dict[str, Any]:
    image = f"quay.io/ascend/vllm-ascend:{tag}"
    return {**ASCEND, "pd_connector": connector, "pd_image": image, **more}


def dist(tag: str, **more: Any) -> dict[str, Any]:
    return service(DIST, tag, **more)


def mooncake(tag: str, **more: Any) -> dict[str, Any]:
    return service("MooncakeConnectorV1", tag, **more)


def config(spec: ContainerSpec) -> dict[str, Any]:
    found = json.loads(option(spec, "--kv-transfer-config"))
    assert isinstance(found, dict)
    return found


def test_llmdatadist_has_exactly_the_readmes_fields() -> None:
    made = plan(TWO_HOSTS, dist("v0.10.0rc1", pd_tensor_parallel_size=8))
    assert made.protocol == "nixl"
    assert made.convergeable
    assert config(specs(made)[P]) == {
        "kv_connector": DIST,
        "kv_buffer_device": "npu",
        "kv_role": "kv_producer",
        "kv_parallel_size": 1,
        "kv_port": "36000",
        "engine_id": P,
        "kv_connector_module_path": "vllm_ascend.distributed.llmdatadist_c_mgr_connector",
    }
    other = {"kv_role": "kv_consumer", "kv_port": "36200", "engine_id": D}
    assert config(specs(made)[D]) == config(specs(made)[P]) | other


def test_llmdatadist_has_the_readmes_environment() -> None:
    env = specs(plan(TWO_HOSTS, dist("v0.10.0rc1")))[P].env
    assert {
        "HCCL_IF_IP": "192.0.2.11",
        "VLLM_HOST_IP": "192.0.2.11",
        "VLLM_LLMDD_RPC_PORT": "36000",
        "VLLM_ASCEND_LLMDD_RPC_IP": "192.0.2.11",
        "VLLM_USE_V1": "1",
        "OMP_PROC_BIND": "false",
        "OMP_NUM_THREADS": "100",
        "ASCEND_RT_VISIBLE_DEVICES": "0",
    }.items() <= env.items()
    assert not [name for name in env if name.endswith("IFNAME")]


@pytest.mark.parametrize(
    ("tag", "mine", "other"),
    [
        ("v0.9.1", "VLLM_LLMDD_RPC_PORT", "VLLM_ASCEND_LLMDD_RPC_PORT"),
        ("v0.10.1rc1", "VLLM_ASCEND_LLMDD_RPC_PORT", "VLLM_LLMDD_RPC_PORT"),
    ],
)
def test_the_ports_variable_is_the_images_own_and_its_ports_are_planned(
    tag: str, mine: str, other: str
) -> None:
    made = plan(ONE_HOST, dist(tag, pd_tensor_parallel_size=2))
    env = {name: spec.env for name, spec in specs(made).items() if name != "router"}
    assert {name: e[mine] for name, e in env.items()} == {P: "36000", "decode-a-0": "36200"}
    assert not [name for name, e in env.items() if other in e]
    planned = {p.port: p.owner for p in made.host("a").ports}
    assert [planned[port] for port in (36000, 36001, 36200, 36201)] == [P, P, *["decode-a-0"] * 2]


def test_v0_11_turns_the_prefix_cache_of_llmdatadist_off() -> None:
    made = specs(plan(TWO_HOSTS, dist("v0.11.0")))
    assert all("--no-enable-prefix-caching" in made[name].command for name in (P, D))


def test_first_mooncake_has_exactly_the_guides_fields() -> None:
    made = plan(
        TWO_HOSTS,
        mooncake("v0.10.1rc1"),
        a={"pd_tensor_parallel_size": 4},
        b={"pd_tensor_parallel_size": 2, "pd_devices": [6, 7]},
    )
    sizes = {
        "prefill": {"dp_size": 1, "tp_size": 4},
        "decode": {"dp_size": 1, "tp_size": 2},
    }
    assert config(specs(made)[D]) == {
        "kv_connector": "MooncakeConnectorV1",
        "kv_buffer_device": "npu",
        "kv_role": "kv_consumer",
        "kv_parallel_size": 1,
        "kv_port": "36200",
        "engine_id": D,
        "kv_rank": 1,
        "kv_connector_module_path": "vllm_ascend.distributed.mooncake_connector",
        "kv_connector_extra_config": sizes,
    }
    first = config(specs(made)[P])
    assert (first["kv_rank"], first["kv_connector_extra_config"]) == (0, sizes)
    env = specs(made)[D].env
    assert {
        "HCCL_IF_IP": "192.0.2.12",
        "HCCL_EXEC_TIMEOUT": "204",
        "HCCL_CONNECT_TIMEOUT": "120",
        "PHYSICAL_DEVICES": "6,7",
    }.items() <= env.items()
    assert "HCCL_INTRA_ROCE_ENABLE" not in env


@pytest.mark.parametrize(("tag", "roce"), [("v0.11.0", "1"), ("v0.11.0-a3", None)])
def test_mooncake_over_ascend_direct(tag: str, roce: str | None) -> None:
    made = specs(plan(TWO_HOSTS, mooncake(tag)))
    assert config(made[P]) == {
        "kv_connector": "MooncakeConnectorV1",
        "kv_role": "kv_producer",
        "kv_port": "36000",
        "engine_id": P,
        "kv_connector_module_path": "vllm_ascend.distributed.mooncake_connector",
        "kv_connector_extra_config": {
            "use_ascend_direct": True,
            "prefill": {"dp_size": 1, "tp_size": 1},
            "decode": {"dp_size": 1, "tp_size": 1},
        },
    }
    assert made[P].env.get("HCCL_INTRA_ROCE_ENABLE") == roce


def test_newest_mooncake_is_registered_and_needs_no_module() -> None:
    made = specs(plan(TWO_HOSTS, mooncake("v0.23.0")))
    assert config(made[D]) == {
        "kv_connector": "MooncakeConnectorV1",
        "kv_role": "kv_consumer",
        "kv_port": "36200",
        "engine_id": D,
        "kv_connector_extra_config": {
            "prefill": {"dp_size": 1, "tp_size": 1},
            "decode": {"dp_size": 1, "tp_size": 1},
        },
    }
    assert made[D].env["HCCL_OP_EXPANSION_MODE"] == "AIV"
    assert made[D].env["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:True"


@pytest.mark.parametrize("tag", ["v0.10.1rc1", "v0.11.0", "v0.18.0", "v0.23.0"])
def test_only_mooncakes_decode_works_without_a_prefix_cache(tag: str) -> None:
    made = specs(plan(TWO_HOSTS, mooncake(tag)))
    assert "--no-enable-prefix-caching" in made[D].command
    assert "--no-enable-prefix-caching" not in made[P].command


def test_the_users_own_words_win() -> None:
    env = {"OMP_NUM_THREADS": "10", "HCCL_SOCKET_IFNAME": "eth1"}
    words = ["--enable-prefix-caching"]
    made = specs(plan(TWO_HOSTS, mooncake("v0.11.0", pd_env=env, pd_engine_args=words)))
    assert env.items() <= made[D].env.items()
    assert made[D].command[-1] == "--enable-prefix-caching"


def test_each_further_instance_of_a_machine_has_hccl_ports_of_its_own_on_the_cards() -> None:
    groups = {"prefill": ["a", "c"], "decode": ["b"], "router": ["a"]}
    one = {"pd_address": "10.0.0.1"}
    other = {**one, "pd_internal_port": 13000, "pd_devices": [1]}
    made = specs(plan(groups, mooncake("v0.11.0"), a=one, b=other, c={}))
    ports = {name: spec.env.get("HCCL_NPU_SOCKET_PORT_RANGE") for name, spec in made.items()}
    assert ports == {P: None, D: "16682-16697", "prefill-c-0": None, "router": None}


def test_mixed_engines_need_no_connector() -> None:
    made = plan({"mixed": ["a"], "router": ["a"]}, mooncake("v0.7.3"))
    assert "--kv-transfer-config" not in specs(made)["mixed-a-0"].command


@pytest.mark.parametrize(
    ("variables", "cause", "fix"),
    [
        (dist("v0.7.3"), f"v0.7.3 does not have {DIST}", "from v0.9.1 on, before v0.12.0rc1"),
        (dist("v0.12.0rc1"), f"v0.12.0rc1 removed {DIST}", "set pd_connector to MooncakeConn"),
        (mooncake("v0.10.0rc1"), "v0.10.0rc1 does not have MooncakeConn", "from v0.10.1rc1 on"),
        ({**ASCEND, "pd_image": "own:1"}, "tells no version of vllm-ascend", "vllm-ascend:VERSION"),
    ],
)
def test_an_image_without_the_connector_is_refused_on_every_host_with_the_right_one(
    variables: dict[str, Any], cause: str, fix: str
) -> None:
    found = problems(TWO_HOSTS, variables)
    assert [problem.host for problem in found] == ["a", "b"]
    assert found[0].thing == f"pd_image {variables['pd_image']}"
    assert cause in found[0].cause
    assert fix in found[0].fix


def test_layerwise_is_refused_because_its_requests_start_on_decode() -> None:
    problem = only(problems(TWO_HOSTS, service("MooncakeLayerwiseConnector", "v0.11.0")))
    assert "a request starts on decode" in problem.cause
    assert "MooncakeConnectorV1" in problem.fix


def test_hccl_is_told_addresses_not_names() -> None:
    found = problems(TWO_HOSTS, mooncake("v0.11.0"), b={"pd_address": "node-b"})
    problem = only(found)
    assert (problem.host, problem.thing) == ("b", "address node-b")
    assert problem.fix == "set pd_address to the host's IPv4 address"


@pytest.mark.parametrize("variables", [mooncake("v0.11.0"), dist("v0.10.1rc1")])
def test_decode_with_more_ranks_than_prefill_is_refused(variables: dict[str, Any]) -> None:
    found = problems(TWO_HOSTS, variables, b={"pd_tensor_parallel_size": 2})
    assert only(found).cause == "decode has 2 ranks, and prefill only 1 to read from"


def test_mooncake_is_told_one_size_for_each_role() -> None:
    groups = {"prefill": ["a", "c"], "decode": ["b"], "router": ["a"]}
    found = problems(groups, mooncake("v0.11.0"), a={"pd_tensor_parallel_size": 2})
    assert "tensor_parallel_size of prefill: instances have 2 and 1" in lines(found)
    assert plan(groups, dist("v0.11.0"), a={"pd_tensor_parallel_size": 2})
