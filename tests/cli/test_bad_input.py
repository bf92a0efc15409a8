"""Bad input through the command line: clear lines, the right exit code, nothing touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Result, changed_inventory, containers, pdinfra, playbook

INVALID = [
    pytest.param({"pd_router_port": 8100}, ["port 8100", "prefill-local-0"], id="port clash"),
    pytest.param(
        {
            "pd_accelerator": "nvidia",
            "pd_image": "vllm/vllm-openai:v0.11.0",
            "pd_prefill": {"devices": [0]},
            "pd_decode": {"devices": [0]},
        },
        ["device 0", "prefill-local-0 and decode-local-0"],
        id="device used twice",
    ),
    pytest.param(
        {"pd_connector": "NixelConnector"}, ["NixelConnector", "NixlConnector"], id="connector"
    ),
    pytest.param(
        {"pd_router_prot": 8001}, ["pd_router_prot", "did you mean pd_router_port?"], id="misspelt"
    ),
    pytest.param({"pd_twin": True}, ["pd_twin", "unknown variable"], id="ours to tell"),
    pytest.param({"pd_mode": "look"}, ["pd_mode", "unknown variable"], id="ours to set in plays"),
    pytest.param(
        {"pd_decode": {"max_len": 5}}, ["pd_decode.max_len", "max_model_len"], id="misspelt inside"
    ),
    pytest.param(
        {"pd_tensor_parallel_size": 3}, ["3 does not divide the 8 heads"], id="tensor parallel"
    ),
    pytest.param(
        {"pd_router_port": "high"}, ["pd_router_port", "'high' is not valid"], id="not a number"
    ),
    pytest.param(
        {"pd_service": "{{ nowhere }}"}, ["pd_service", "nowhere"], id="undefined template"
    ),
]


def refused(result: Result, code: int, words: list[str]) -> None:
    """Assert one clear line for each problem, the exit code, and no traceback."""
    assert result.code == code, result.text
    for word in words:
        assert word in result.err
    assert "Fix:" in result.err
    assert "Traceback" not in result.text


@pytest.mark.parametrize(("variables", "words"), INVALID)
def test_invalid_inventory_is_refused_with_2(
    tmp_path: Path, variables: dict[str, Any], words: list[str]
) -> None:
    before = containers()
    inventory = changed_inventory(tmp_path, **variables)
    refused(pdinfra("up", inventory=inventory), 2, words)
    assert containers() == before


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path, pd_router_prot=1, pd_port=80, pd_decode={"x": 1})
    result = pdinfra("plan", inventory=inventory)
    refused(result, 2, ["pd_router_prot", "pd_port", "pd_decode.x"])


def test_missing_group_is_refused(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path)
    hosts = inventory / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("    decode:", "    decod:"))
    refused(pdinfra("up", inventory=inventory), 2, ["group decode", "decod"])


def test_missing_inventory_is_refused(tmp_path: Path) -> None:
    refused(pdinfra("up", inventory=tmp_path / "nowhere"), 2, ["no such inventory"])


def test_hosts_file_that_is_not_yaml_is_an_error_not_an_empty_inventory(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path)
    (inventory / "hosts.yml").write_text("all: [unclosed\n")
    result = pdinfra("up", inventory=inventory)
    assert result.code != 0
    assert "hosts.yml" in result.err
    assert "Traceback" not in result.text


def test_unreachable_host_is_the_hosts_fault(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path)
    text = (inventory / "hosts.yml").read_text()
    text = text.replace(
        "ansible_connection: local", "ansible_host: 127.0.0.1\n      ansible_port: 1"
    )
    (inventory / "hosts.yml").write_text(text)
    refused(pdinfra("up", inventory=inventory), 1, ["local: unreachable"])


def test_missing_model_directory(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path, pd_model_path="/srv/no-such-model")
    refused(pdinfra("up", inventory=inventory), 1, ["/srv/no-such-model", "No such file"])


def test_incomplete_model_directory_names_everything_missing(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"num_attention_heads": 8}))
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    )
    (model / "model-1.safetensors").write_bytes(b"x")
    inventory = changed_inventory(tmp_path, pd_model_path=str(model))
    refused(pdinfra("up", inventory=inventory), 1, ["model-2.safetensors", "tokenizer"])


def test_tensor_parallel_size_that_does_not_divide_a_models_heads(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"num_attention_heads": 10}))
    (model / "model.safetensors").write_bytes(b"x")
    (model / "tokenizer.json").write_text("{}")
    inventory = changed_inventory(tmp_path, pd_model_path=str(model), pd_tensor_parallel_size=4)
    words = ["10 attention heads", "tensor_parallel_size 4"]
    refused(pdinfra("up", inventory=inventory), 2, words)
    refused(pdinfra("plan", inventory=inventory), 2, words)
    assert pdinfra("plan", "--detailed-exitcode", inventory=inventory).code == 1


def test_too_little_memory(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path, pd_kv_cache_gib=4000)
    refused(pdinfra("up", inventory=inventory), 1, ["memory", "pd_kv_cache_gib"])


def test_ansible_playbook_refuses_the_same_way(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path, pd_router_prot=1)
    result = playbook("site.yml", inventory=inventory)
    assert result.code != 0
    assert "did you mean pd_router_port?" in result.text


def test_stack_of_a_later_release_plans_and_refuses_to_converge(tmp_path: Path) -> None:
    inventory = changed_inventory(
        tmp_path,
        pd_stack="yuanrong",
        pd_connector="AscendStoreConnector",
        pd_accelerator="ascend",
        pd_image="quay.io/ascend/vllm-ascend:v0.23.0",
        pd_model_path="/srv/models/qwen",
        pd_address="192.0.2.11",
        pd_datasystem_port=19501,
        pd_shm_gib=1,
    )
    plan = pdinfra("plan", inventory=inventory)
    assert plan.code == 0, plan.text
    assert "later" in plan.err
    up = pdinfra("up", inventory=inventory)
    assert up.code == 1
    assert "nothing was touched" in up.err


def test_json_of_a_refusal_is_one_document(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path, pd_router_prot=1)
    result = pdinfra("plan", "--json", inventory=inventory)
    assert result.code == 2
    assert result.json["ok"] is False
    assert "pd_router_prot" in result.json["errors"][0]
