"""The hosts of a Ray cluster, and Ray Serve as its head tells of it."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor import examine, failures
from pdinfra.doctor.ray import MOST_CHARACTERS
from pdinfra.doctor.spans import span_checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import ServeFact
from pdinfra.model.plan import Plan
from tests.unit.builders import NOW, facts, plan

GROUPS = {"mixed": ["a", "b"], "router": ["a"]}
HOSTS: dict[str, Any] = {"a": {"pd_address": "192.0.2.1"}, "b": {"pd_address": "192.0.2.2"}}
SERVE: dict[str, Any] = {"pd_stack": "ray"}
CARDS: dict[str, Any] = {
    "pd_stack": "ray",
    "pd_accelerator": "nvidia",
    "pd_image": "rayproject/ray-llm:2.60.0-py311-cu128",
    "pd_model_path": "/srv/models/qwen",
}


def examined(made: Plan, **seen: dict[str, Any]) -> list[Check]:
    """Return all checks; keyword arguments are a host's own facts."""
    looks = {host.name: facts(host, **seen.get(host.name, {})) for host in made.hosts}
    return examine(made, looks, NOW)


def of_serve(status: str, message: str = "", host: str = "a") -> list[Check]:
    """Return what is said of one application."""
    fact = ServeFact(statuses={"pd": status}, messages={"pd": message}, replicas=())
    checks = examined(plan(GROUPS, SERVE, **HOSTS), **{host: {"serve": fact}})
    return [check for check in checks if check.id == "ray-serve"]


@pytest.mark.parametrize("status", ["DEPLOYING", "RUNNING"])
def test_an_application_that_runs_or_starts_is_well(status: str) -> None:
    (check,) = of_serve(status)
    assert (check.host, check.status) == ("a", "ok")


@pytest.mark.parametrize("status", ["DEPLOY_FAILED", "UNHEALTHY"])
def test_what_ray_could_not_start_is_told_in_its_own_words(status: str) -> None:
    (check,) = of_serve(status, "The deployment failed:\n  no room for KV")
    assert check.status == "warn"
    assert check.found == f"pd is {status}: The deployment failed: no room for KV"


def test_a_whole_traceback_is_cut() -> None:
    (check,) = of_serve("DEPLOY_FAILED", "x" * 5000)
    assert check.found.count("x") == MOST_CHARACTERS


def test_up_may_mend_what_ray_could_not_start() -> None:
    assert not failures(of_serve("DEPLOY_FAILED"))


def test_nothing_is_said_where_no_head_answers() -> None:
    made = plan(GROUPS, SERVE, **HOSTS)
    assert "ray-serve" not in {check.id for check in examined(made)}
    assert not of_serve("RUNNING", host="b")


def test_one_tag_that_is_two_images_is_found() -> None:
    made = plan(GROUPS, CARDS, **HOSTS)
    name = CARDS["pd_image"]
    other = {image.ref: "sha256:" + "1" * 64 for image in made.host("b").images}
    other[name] = "sha256:" + "2" * 64
    bad = [
        check
        for check in examined(made, b={"images": other})
        if check.id == "image-same" and check.status == "fail"
    ]
    assert [check.host for check in bad] == ["b"]
    assert "pd_image_digest" in bad[0].fix


@pytest.mark.parametrize(("tensor", "pipeline", "status"), [(2, 1, "warn"), (1, 2, "ok")])
def test_rays_executor_over_hosts_is_warned_of_as_any_other(
    tensor: int, pipeline: int, status: str
) -> None:
    entry = {
        "role": "mixed",
        "hosts": ["b"],
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": pipeline,
    }
    every = CARDS | {"pd_ray_mode": "executor"}
    groups = {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]}
    made = plan(groups, every, a=HOSTS["a"] | {"pd_instances": [entry]}, b=HOSTS["b"])
    assert [check.status for check in span_checks(made)] == [status]
