"""Stack ray: which Ray and vLLM an image may have, and where it must be said."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.stacks.ray_versions import ray_version
from tests.unit.builders import inventory, lines, only, plan, problems

GROUPS = {"mixed": ["a", "b"], "router": ["a"]}
HOSTS = {"a": {"pd_address": "192.0.2.1"}, "b": {"pd_address": "192.0.2.2"}}
SERVE: dict[str, Any] = {"pd_stack": "ray"}
CARDS: dict[str, Any] = {
    "pd_stack": "ray",
    "pd_accelerator": "nvidia",
    "pd_model_path": "/srv/models/qwen",
    "pd_tensor_parallel_size": 2,
}
SPANNING: dict[str, Any] = {"pd_instances": [{"role": "mixed", "hosts": ["b"]}]}


def refused(every: dict[str, Any]) -> str:
    """Return the one reason why Ray Serve on two hosts is not accepted."""
    return str(only(problems(GROUPS, every, **HOSTS)))


def executor(**more: Any) -> dict[str, Any]:
    """Return the variables of one engine over a and b on vLLM's Ray executor."""
    return CARDS | {"pd_ray_mode": "executor"} | more


def accepted(every: dict[str, Any]) -> bool:
    """Tell that an engine over a and b is accepted."""
    groups = {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]}
    made = plan(groups, every, a=HOSTS["a"] | SPANNING, b=HOSTS["b"])
    return made.ray is not None


def not_accepted(every: dict[str, Any]) -> str:
    """Return the one reason why an engine over a and b is not accepted."""
    groups = {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]}
    return str(only(problems(groups, every, a=HOSTS["a"] | SPANNING, b=HOSTS["b"])))


def test_the_image_that_pdinfra_builds_is_a_pair_that_was_measured() -> None:
    assert plan(GROUPS, SERVE, **HOSTS).ray is not None


@pytest.mark.parametrize(
    ("given", "version"),
    [
        ({}, "2.60.0"),
        ({"pd_image": "rayproject/ray-llm:2.59.0-py311-cu128"}, "2.59.0"),
        ({"pd_image": "registry.example.com/serve:1", "pd_ray_version": "2.58.0"}, "2.58.0"),
        ({"pd_image": "registry.example.com/serve:1"}, None),
    ],
)
def test_ray_is_what_the_inventory_or_the_images_name_tells(
    given: dict[str, Any], version: str | None
) -> None:
    assert ray_version(inventory(GROUPS, SERVE | given, **HOSTS).service) == version


def test_rays_own_image_has_the_vllm_that_its_ray_is_made_for() -> None:
    image = {"pd_image": "rayproject/ray-llm:2.60.0-py311-cu128"}
    assert plan(GROUPS, CARDS | image, **HOSTS).ray is not None


def test_serve_with_another_vllm_than_its_ray_is_made_for_is_refused() -> None:
    image = {"pd_image": "registry.example.com/vllm:v0.28.0-ray-2.60.0"}
    said = refused(CARDS | image)
    assert "Ray 2.60.0 is made for vLLM 0.29.0" in said
    assert "this is 0.28.0" in said
    assert "Fix: use vLLM 0.29.0" in said


def test_what_was_measured_on_cpu_says_nothing_of_cards() -> None:
    image = {"pd_image": "registry.example.com/vllm:v0.32.0-ray-2.60.0"}
    assert "made for vLLM 0.29.0" in refused(CARDS | image)
    assert plan(GROUPS, SERVE | image | {"pd_model_path": "/srv/m"}, **HOSTS).ray is not None


def test_serve_by_an_image_of_which_nobody_says_its_ray_is_refused_with_how_to_find_out() -> None:
    said = refused(CARDS | {"pd_image": "registry.example.com/serve:1"})
    assert "nothing tells which Ray" in said
    assert "Fix: set pd_ray_version to what `ray --version` in it says" in said


def test_serve_by_a_ray_without_serve_llm_is_refused() -> None:
    said = refused(CARDS | {"pd_image": "rayproject/ray-llm:2.42.0-py311-cu128"})
    assert "Ray 2.42.0 has no Ray Serve LLM" in said


def test_a_version_that_contradicts_the_images_name_is_refused() -> None:
    image = "rayproject/ray-llm:2.60.0-py311-cu128"
    said = refused(CARDS | {"pd_image": image, "pd_ray_version": "2.59.0"})
    assert "Ray 2.60.0 is in the image" in said
    assert "Ray 2.60.0 is in the image: pdinfra builds it" in refused(
        SERVE | {"pd_ray_version": "2.59.0"}
    )


def test_vllm_that_brought_its_own_ray_needs_nothing_said() -> None:
    assert accepted(executor(pd_image="vllm/vllm-openai:v0.11.0"))


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.18.0", "registry.example.com/engine:1"])
def test_the_executor_needs_a_ray_that_somebody_put_into_the_image(image: str) -> None:
    assert "set pd_ray_version" in not_accepted(executor(pd_image=image))
    assert accepted(executor(pd_image=image, pd_ray_version="2.60.0"))


def test_the_executor_with_a_ray_too_old_for_vllm_is_refused() -> None:
    said = not_accepted(executor(pd_image="vllm/vllm-openai:v0.11.0", pd_ray_version="2.40.0"))
    assert "vLLM 0.11.0 cannot run its engines on Ray 2.40.0" in said
    assert "use Ray 2.48.0 or newer" in said


def test_hosts_of_one_service_cannot_have_two_rays() -> None:
    image = {"pd_image": "registry.example.com/serve:1"}
    mine = {
        name: HOSTS[name] | {"pd_ray_version": f"2.{n}.0"} for n, name in ((59, "a"), (60, "b"))
    }
    assert "pd_ray_version" in lines(problems(GROUPS, CARDS | image, **mine))
