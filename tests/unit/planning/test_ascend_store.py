"""vllm-ascend's AscendStoreConnector is planned as its guide has it, for images that have it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.builders import FULL_HOSTS, TWO_HOSTS, lines, plan, problems

POOL: dict[str, Any] = {
    "pd_stack": "yuanrong",
    "pd_connector": "AscendStoreConnector",
    "pd_accelerator": "ascend",
    "pd_image": "quay.io/ascend/vllm-ascend:v0.23.0",
    "pd_model_path": "/srv/models/qwen",
    "pd_router_metrics_port": 9100,
    "pd_datasystem_port": 19501,
}


def test_each_instance_gets_the_guides_words_and_the_worker_of_its_host() -> None:
    made = plan(TWO_HOSTS, POOL, **FULL_HOSTS)
    assert not made.convergeable
    ports = set()
    for host in made.hosts:
        (engine,) = (c for c in host.containers if c.kind == "instance")
        words = engine.spec.command
        config = json.loads(words[words.index("--kv-transfer-config") + 1])
        extra = config.pop("kv_connector_extra_config")
        assert config == {
            "kv_connector": "AscendStoreConnector",
            "kv_role": "kv_both",
            "kv_load_failure_policy": "recompute",
        }
        assert extra.pop("backend") == "yuanrong"
        ports.add((host.name, extra["lookup_rpc_port"]))
        assert engine.spec.env["DS_WORKER_ADDR"] == f"{host.address}:19501"
        assert engine.spec.env["PYTHONHASHSEED"] == "0"
    assert len(ports) == 2


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("v0.18.0", "has no connector for openYuanrong"),
        ("v0.10.0rc1", "its connector for openYuanrong is YuanRongConnector"),
        ("v0.13.0rc1", "knows openYuanrong only by a patch"),
        ("main", "calls what openyuanrong-datasystem 0.8.1 does not have"),
    ],
)
def test_an_image_without_it_is_refused_with_the_right_one(tag: str, said: str) -> None:
    image = f"quay.io/ascend/vllm-ascend:{tag}"
    found = lines(problems(TWO_HOSTS, POOL | {"pd_image": image}, **FULL_HOSTS))
    assert said in found
    assert "v0.22.1rc1" in found


def test_a_port_among_ascends_own_is_refused_with_the_variable_that_moves_it() -> None:
    found = lines(problems(TWO_HOSTS, POOL | {"pd_datasystem_port": 31501}, **FULL_HOSTS))
    assert "give datasystem-a a pd_datasystem_port outside of it" in found
