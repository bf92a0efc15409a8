"""vLLM's own connectors: what engines and router are told, next to the guide's own commands."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from pdinfra.model.plan import Plan
from tests.unit.builders import (
    NVIDIA,
    ONE_HOST,
    TWO_HOSTS,
    lines,
    only,
    option,
    plan,
    problems,
    specs,
)

GUIDE_PYNCCL = """
CUDA_VISIBLE_DEVICES={card} vllm serve /data/dp7b/ --port {port} --max-model-len 65535
--gpu-memory-utilization 0.9 --trust-remote-code --tensor-parallel-size 1 --kv-transfer-config
'{{"kv_connector": "PyNcclConnector","kv_role": "{role}","kv_rank": {rank},
"kv_parallel_size": 2,"kv_ip": "10.0.14.112","kv_port": 14579}}'
"""
GUIDE_SHARED = """
CUDA_VISIBLE_DEVICES={card} vllm serve /data/dp7b/ --port {port} --max-model-len 4096
--gpu-memory-utilization 0.8 --trust-remote-code --kv-transfer-config
'{{"kv_connector":"SharedStorageConnector","kv_role":"{role}",
"kv_connector_extra_config":{{"shared_storage_path":"/data/models/pd_local_storage"}}}}'
"""
REGISTRY = "registry.cn-hangzhou.aliyuncs.com/lky-deploy/llm"
GUIDE: dict[str, Any] = {
    "pd_accelerator": "nvidia",
    "pd_address": "10.0.14.112",
    "pd_model_path": "/data/dp7b",
    "pd_devices": [0, 1],
    "pd_engine_args": ["--trust-remote-code"],
}
"""What the guide's two modes have in common."""
OURS = {"--served-model-name", "--host", "--dtype", "--tensor-parallel-size"}
"""Options that pdinfra always sets; the guide leaves them at vLLM's defaults."""


def guide_command(text: str, role: str) -> tuple[dict[str, str], list[str], dict[str, Any]]:
    """Return a guide's variables, its words, and its --kv-transfer-config."""
    prefill = role == "prefill"
    words = shlex.split(
        text.format(
            card=0 if prefill else 1,
            port=8100 if prefill else 8200,
            role="kv_producer" if prefill else "kv_consumer",
            rank=0 if prefill else 1,
        )
    )
    env = dict([words.pop(0).split("=")])
    at = words.index("--kv-transfer-config")
    return env, [word.rstrip("/") for word in words[:at]], json.loads(words[at + 1])


def ours(made: Plan, name: str) -> tuple[list[str], dict[str, Any]]:
    """Return the words of a planned engine without its --kv-transfer-config, and that."""
    command = list(specs(made)[name].command)
    at = command.index("--kv-transfer-config")
    config = json.loads(command[at + 1])
    del command[at : at + 2]
    return command, config


def options(words: list[str]) -> dict[str, str]:
    """Return options with their values; "" for flags."""
    found = {}
    for number, word in enumerate(words):
        if word.startswith("--"):
            value = words[number + 1] if number + 1 < len(words) else ""
            found[word] = "" if value.startswith("--") else value
    return found


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_the_guides_pynccl_mode_is_planned_as_the_guide_has_it(role: str) -> None:
    made = plan(
        ONE_HOST,
        {
            **GUIDE,
            "pd_image": f"{REGISTRY}:vllm-server-0.7.2",
            "pd_connector": "nccl",
            "pd_prefill": {"kv_port": 14579},
            "pd_max_model_len": 65535,
            "pd_gpu_memory_utilization": 0.9,
        },
    )
    name = f"{role}-a-0"
    env, words, config = guide_command(GUIDE_PYNCCL, role)
    command, mine = ours(made, name)
    assert mine == config
    assert command[:3] == words[:3]
    added = {n: v for n, v in options(command).items() if n not in options(words)}
    assert options(words).items() <= options(command).items()
    # Beyond the guide, on purpose: chunked prefill, which V0 turns on above 32768 tokens and this
    # connector does not support (docs/connectors.md).
    assert added.keys() - OURS == {"--enable-chunked-prefill=False"}
    spec = specs(made)[name]
    assert spec.gpus == (env["CUDA_VISIBLE_DEVICES"],)
    assert spec.env["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_the_guides_shared_storage_mode_is_planned_as_the_guide_has_it(role: str) -> None:
    made = plan(
        ONE_HOST,
        {
            **GUIDE,
            "pd_image": f"{REGISTRY}:vllm-server-0.8.5-pytorch2.7-cu128",
            "pd_connector": "shared-storage",
            "pd_kv_path": "/data/models/pd_local_storage",
            "pd_max_model_len": 4096,
            "pd_gpu_memory_utilization": 0.8,
        },
    )
    name = f"{role}-a-0"
    _, words, config = guide_command(GUIDE_SHARED, role)
    command, mine = ours(made, name)
    assert mine == config
    assert options(words).items() <= options(command).items()
    # On purpose: a prompt that is computed in several steps is lost (vLLM issue 16928).
    added = options(command).keys() - options(words).keys() - OURS
    assert added == {"--max-num-batched-tokens"}
    assert option(specs(made)[name], "--max-num-batched-tokens") == "4096"
    folder = next(
        m for m in specs(made)[name].mounts if m.source == "/data/models/pd_local_storage"
    )
    assert (folder.target, folder.read_only) == (folder.source, False)


def test_the_guides_container_is_planned_without_more_rights_than_it_needs() -> None:
    image = f"{REGISTRY}:vllm-server-0.8.5"
    spec = specs(plan(ONE_HOST, {**GUIDE, "pd_image": image, "pd_connector": "nccl"}))[
        "prefill-a-0"
    ]
    assert (spec.ipc_mode, spec.network_mode, spec.privileged) == ("host", "host", False)
    assert spec.ulimits == ("memlock:-1:-1", "stack:67108864:67108864")


def test_a_privileged_engine_sees_all_cards_and_is_told_its_own() -> None:
    made = plan(ONE_HOST, {**NVIDIA, "pd_devices": [3, 5], "pd_privileged": True})
    assert specs(made)["decode-a-0"].env["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize(
    ("word", "version", "name"),
    [
        ("nccl", "0.7.2", "PyNcclConnector"),
        ("nccl", "0.8.5", "PyNcclConnector"),
        ("nccl", "0.11.0", "P2pNcclConnector"),
        ("nccl", "0.20.1", "P2pNcclConnector"),
        ("shared-storage", "0.8.5", "SharedStorageConnector"),
        ("shared-storage", "0.12.0", "SharedStorageConnector"),
        ("shared-storage", "0.32.0", "ExampleConnector"),
        ("nixl", "0.9.0", "NixlConnector"),
        ("lmcache", "0.8.5", "LMCacheConnectorV1"),
        ("lmcache", "0.32.0", "LMCacheConnectorV1"),
        ("mooncake", "0.13.0", "MooncakeConnector"),
        ("mooncake", "0.32.0", "MooncakeConnector"),
        ("multi", "0.32.0", "MultiConnector"),
    ],
)
def test_a_family_becomes_the_class_of_the_images_version(
    word: str, version: str, name: str
) -> None:
    every = {
        **NVIDIA,
        "pd_image": f"registry.example.com/vllm/vllm-openai:v{version}",
        "pd_connector": word,
        "pd_kv_path": "/srv/kv",
        "pd_max_model_len": 4096,
    }
    made = plan(TWO_HOSTS, every)
    assert made.connector == name
    assert ours(made, "decode-b-0")[1]["kv_connector"] == name


@pytest.mark.parametrize(
    ("image", "version"),
    [
        (f"{REGISTRY}:vllm-server-0.7.2", "0.7.2"),
        (f"{REGISTRY}:vllm-server-0.8.5-pytorch2.7-cu128", "0.8.5"),
        ("vllm/vllm-openai:v0.8.5.post1", "0.8.5"),
        ("quay.io/mirror/vllm-openai:0.11.2-cu129", "0.11.2"),
    ],
)
def test_what_an_image_has_not_is_refused_with_what_it_has(image: str, version: str) -> None:
    found = only(problems(TWO_HOSTS, {**NVIDIA, "pd_image": image, "pd_connector": "mooncake"}))
    assert f"vLLM {version} does not have MooncakeConnector" in found.cause
    assert found.fix.startswith("use an image of vLLM from 0.13.0 on, or one of: ")
    assert ("PyNcclConnector" in found.fix) == (version in ("0.7.2", "0.8.5"))


@pytest.mark.parametrize(
    ("connector", "version", "said"),
    [
        ("PyNcclConnector", "0.11.0", "set pd_connector to P2pNcclConnector"),
        ("P2pNcclConnector", "0.8.5", "or one of: LMCacheConnectorV1, PyNcclConnector"),
        ("P2pNcclConnector", "0.15.0", "gives a request another id in each engine"),
        ("P2pNcclConnector", "0.32.0", "vLLM 0.24.0 removed it, this is 0.32.0"),
        ("SharedStorageConnector", "0.32.0", "set pd_connector to ExampleConnector"),
        ("ExampleConnector", "0.8.5", "or one of: LMCacheConnectorV1, PyNcclConnector, Shared"),
        ("LMCacheConnectorV1", "0.12.0", "set pd_connector to NixlConnector"),
        ("NixlConnector", "0.8.5", "from 0.9.0 on"),
        ("nccl", "0.32.0", "none of PyNcclConnector, P2pNcclConnector"),
    ],
)
def test_a_class_of_another_version_is_refused_with_the_name_that_works(
    connector: str, version: str, said: str
) -> None:
    every = {**NVIDIA, "pd_image": f"vllm/vllm-openai:v{version}", "pd_connector": connector}
    assert said in lines(problems(TWO_HOSTS, every))


def test_an_image_that_tells_no_version_is_taken_as_the_newest_and_the_refusal_says_so() -> None:
    every = {**NVIDIA, "pd_image": "registry.example.com/llm:1"}
    assert plan(TWO_HOSTS, every).connector == "NixlConnector"
    found = only(problems(TWO_HOSTS, {**every, "pd_connector": "P2pNcclConnector"}))
    assert "pd_vllm_version can" in found.fix
    made = plan(TWO_HOSTS, {**every, "pd_connector": "nccl", "pd_vllm_version": "0.11.0"})
    assert made.connector == "P2pNcclConnector"


def test_two_words_for_the_version_must_agree() -> None:
    every = {**NVIDIA, "pd_vllm_version": "0.8.5"}
    found = only(problems(TWO_HOSTS, every))
    assert "pd_vllm_version 0.8.5" in found.thing
    assert "tells 0.32.0" in found.cause


def test_pynccl_joins_one_prefill_and_one_decode() -> None:
    every = {**NVIDIA, "pd_image": f"{REGISTRY}:vllm-server-0.7.2", "pd_connector": "nccl"}
    found = only(problems({"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}, every))
    assert "kv_parallel_size 2" in found.cause
    assert "1 and 2" in found.cause


def test_ranks_of_pynccl_count_prefill_first_wherever_the_hosts_are() -> None:
    every = {**NVIDIA, "pd_image": f"{REGISTRY}:vllm-server-0.8.5", "pd_connector": "nccl"}
    made = plan({"decode": ["a"], "prefill": ["b"], "router": ["a"]}, every)
    prefill, decode = ours(made, "prefill-b-0")[1], ours(made, "decode-a-0")[1]
    assert (prefill["kv_rank"], decode["kv_rank"]) == (0, 1)
    assert prefill["kv_ip"] == decode["kv_ip"] == "b"
    assert prefill["kv_port"] == decode["kv_port"] == 5600
    assert specs(made)["decode-a-0"].env["VLLM_USE_V1"] == "0"


@pytest.mark.parametrize("connector", ["nccl"])
@pytest.mark.parametrize("version", ["0.8.5", "0.11.0"])
def test_engines_of_nccl_have_one_size(connector: str, version: str) -> None:
    every = {**NVIDIA, "pd_image": f"vllm/vllm-openai:v{version}", "pd_connector": connector}
    found = only(problems(TWO_HOSTS, every, a={"pd_tensor_parallel_size": 2}))
    assert "1 and 2" in found.cause


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            '{"kv_connector":"NixlConnector","kv_parallel_size":3}',
            "kv_parallel_size is 3, there are 2",
        ),
        ('{"kv_rank":0}', "kv_rank is 0, the rank of prefill-a-0; this one's is 1"),
        ('{"kv_connector":"PyNcclConnector"}', "kv_connector is PyNcclConnector"),
        ("{", "it is no JSON"),
        ("[1]", "pdinfra derives it"),
    ],
)
@pytest.mark.parametrize("form", [" ", "="])
def test_a_config_of_the_users_own_is_refused_with_what_is_wrong_in_it(
    given: str, said: str, form: str
) -> None:
    words = ["--kv-transfer-config", given] if form == " " else [f"--kv-transfer-config={given}"]
    found = only(problems(TWO_HOSTS, NVIDIA, b={"pd_engine_args": words}))
    assert found.host == "b"
    assert said in found.cause
    assert found.fix.startswith("remove it")


def test_p2p_names_each_engine_and_gives_the_router_their_addresses() -> None:
    every = {
        **NVIDIA, "pd_image": "vllm/vllm-openai:v0.20.0", "pd_connector": "nccl",
        "pd_tensor_parallel_size": 2,
    }  # fmt: skip
    made = plan({"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}, every)
    assert {m.id: m.kv for m in made.router.members} == {
        "prefill-a-0": "a:5600",
        "decode-b-0": "b:5700",
        "decode-c-0": "c:5700",
    }
    _, config = ours(made, "decode-b-0")
    extra = config["kv_connector_extra_config"]
    # Texts: the connector joins them with ":" (vLLM v0.9.2 to v0.23.0, p2p_nccl_engine.py).
    assert (extra["proxy_ip"], extra["proxy_port"]) == ("", "")
    assert extra["http_port"] == 8200
    assert {p.port for p in made.host("b").ports if p.purpose == "KV side channel"} == {5700, 5701}
    assert specs(made)["decode-b-0"].env["VLLM_DISABLE_REQUEST_ID_RANDOMIZATION"] == "1"
    command = specs(made)["router"].command
    assert "vllm-router" not in command
    assert option(specs(made)["router"], "--protocol") == "p2p"


def test_mooncake_on_cpu_moves_by_tcp_and_prefill_tells_where_to_ask() -> None:
    made = plan(TWO_HOSTS, {"pd_connector": "mooncake"})
    _, config = ours(made, "prefill-a-0")
    extra = config["kv_connector_extra_config"]
    assert extra == {"mooncake_protocol": "tcp", "side_channel_port": 5601}
    prefill, decode = specs(made)["prefill-a-0"].env, specs(made)["decode-b-0"].env
    assert prefill["VLLM_MOONCAKE_BOOTSTRAP_PORT"] == "5600"
    assert (prefill["MC_MIN_RPC_PORT"], prefill["MC_MAX_RPC_PORT"]) == ("5602", "5609")
    assert "VLLM_MOONCAKE_BOOTSTRAP_PORT" not in decode
    planned = {p.port for p in made.host("b").ports if p.owner == "decode-b-0"}
    assert set(range(int(decode["MC_MIN_RPC_PORT"]), 5710)) <= planned
    assert {m.id: m.kv for m in made.router.members}["prefill-a-0"] == "http://a:5600"
    assert made.protocol == "mooncake"


def test_shared_storage_on_cpu_has_small_blocks_and_no_ports() -> None:
    made = plan(ONE_HOST, {"pd_connector": "shared-storage"})
    spec = specs(made)["decode-a-0"]
    assert option(spec, "--block-size") == "32"
    assert not [p for p in made.host("a").ports if p.purpose == "KV side channel"]
    assert ours(made, "decode-a-0")[1]["kv_connector_extra_config"] == {
        "shared_storage_path": "/var/lib/pdinfra/pd/kv"
    }
    assert option(specs(made)["router"], "--policy") == "round_robin"
    assert "--min-prompt-tokens" not in specs(made)["router"].command


def test_the_router_refuses_what_would_kill_a_stock_image() -> None:
    every = {
        **NVIDIA,
        "pd_connector": "shared-storage",
        "pd_kv_path": "/srv/kv",
        "pd_max_model_len": 4096,
    }
    assert option(specs(plan(TWO_HOSTS, every))["router"], "--min-prompt-tokens") == "2"


def test_engines_that_share_a_folder_are_alike() -> None:
    every = {"pd_connector": "shared-storage", "pd_kv_path": "/srv/kv"}
    for name, value in (("max_model_len", 4096), ("block_size", 64), ("tensor_parallel_size", 2)):
        found = problems(TWO_HOSTS, every, b={f"pd_{name}": value})
        assert f"pd_{name}" in {p.thing for p in found}


def test_a_stock_engine_of_shared_storage_has_one_card() -> None:
    every = {**NVIDIA, "pd_connector": "shared-storage", "pd_kv_path": "/srv/kv"}
    found = problems(TWO_HOSTS, {**every, "pd_max_model_len": 99, "pd_tensor_parallel_size": 2})
    assert "writes every rank's KV to one file" in only(found).cause


def test_a_stock_engine_computes_a_prompt_whole() -> None:
    every = {
        **NVIDIA,
        "pd_connector": "shared-storage",
        "pd_kv_path": "/srv/kv",
        "pd_max_model_len": 4096,
    }
    spec = specs(plan(TWO_HOSTS, every))["decode-b-0"]
    assert option(spec, "--max-num-batched-tokens") == "4096"
    assert "--no-enable-chunked-prefill" in spec.command


def test_a_stock_engine_of_shared_storage_needs_to_know_its_longest_prompt() -> None:
    every = {**NVIDIA, "pd_connector": "shared-storage", "pd_kv_path": "/srv/kv"}
    found = problems(TWO_HOSTS, every)
    assert {p.thing for p in found} == {"prefill-a-0", "decode-b-0"}
    assert {p.fix for p in found} == {"set pd_max_model_len"}
    short = {**every, "pd_max_model_len": 4096, "pd_max_num_batched_tokens": 2048}
    assert "max_num_batched_tokens is 2048" in lines(problems(TWO_HOSTS, short))


def test_multi_has_its_connectors_inside_and_speaks_as_the_first_of_them() -> None:
    made = plan(ONE_HOST, {"pd_connector": "multi"})
    _, config = ours(made, "decode-a-0")
    assert config["kv_load_failure_policy"] == "recompute"
    inner = config["kv_connector_extra_config"]["connectors"]
    assert [each["kv_connector"] for each in inner] == ["NixlConnector", "ExampleConnector"]
    assert all(each["kv_role"] == "kv_consumer" for each in inner)
    assert made.protocol == "nixl"
    assert "vllm-router" in specs(made)["router"].command
    assert specs(made)["decode-a-0"].env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5700"


def test_offload_goes_beside_another_one_only() -> None:
    assert (
        "use MultiConnector" in only(problems(TWO_HOSTS, {**NVIDIA, "pd_connector": "offload"})).fix
    )
    made = plan(
        TWO_HOSTS,
        {
            **NVIDIA,
            "pd_connector": "multi",
            "pd_multi_connectors": ["nixl", "offload"],
            "pd_offload_gib": 4,
        },
    )
    inner = ours(made, "decode-b-0")[1]["kv_connector_extra_config"]["connectors"]
    assert inner[1]["kv_connector_extra_config"] == {"cpu_bytes_to_use": 4 << 30}


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (["nixl", "mooncake"], "want their requests in different ways"),
        (["nixl", "nixl"], "listed 2 times"),
        (["nixl", "multi"], "can be inside another"),
        (["nixl", "Nonsense"], "can be inside another"),
    ],
)
def test_what_cannot_be_inside_multi_is_refused(inside: list[str], said: str) -> None:
    every = {"pd_connector": "multi", "pd_multi_connectors": inside}
    assert said in lines(problems(ONE_HOST, every))


def test_lmcache_of_each_time_is_told_in_its_own_words() -> None:
    old = plan(
        TWO_HOSTS, {**NVIDIA, "pd_image": "vllm/vllm-openai:v0.8.5", "pd_connector": "lmcache"}
    )
    sender = specs(old)["prefill-a-0"].env
    assert sender["LMCACHE_NIXL_ROLE"] == "sender"
    assert (sender["LMCACHE_NIXL_PEER_HOST"], sender["LMCACHE_NIXL_PEER_PORT"]) == ("b", "5700")
    assert old.protocol == "sequential"
    new = plan(TWO_HOSTS, {**NVIDIA, "pd_connector": "lmcache", "pd_tensor_parallel_size": 2})
    receiver = specs(new)["decode-b-0"].env
    assert receiver["LMCACHE_PD_PEER_INIT_PORT"] == "5700,5701"
    assert receiver["LMCACHE_PD_PEER_ALLOC_PORT"] == "5702,5703"
    assert {m.id: m.kv for m in new.router.members}["decode-b-0"] == "b|5700,5701|5702,5703"
    assert new.protocol == "lmcache"


def test_another_policy_than_the_proxys_is_refused_where_the_proxy_answers() -> None:
    every = {"pd_connector": "shared-storage", "pd_router_policy": "cache_aware"}
    found = only(problems(ONE_HOST, every))
    assert found.thing == "pd_router_policy cache_aware"
    assert "round_robin, least_busy" in found.fix
    plan(ONE_HOST, {"pd_connector": "shared-storage", "pd_router_policy": "least_busy"})
    assert "vllm-router" in only(problems(ONE_HOST, {"pd_router_policy": "least_busy"})).cause
