"""What must be the same on all hosts."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor.fleet import fleet_checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import DockerFact, HostFacts
from pdinfra.model.plan import Plan
from tests.unit.builders import NOW, NVIDIA, TWO_HOSTS, facts, good_model, plan

THREE = {"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}
FILES = {"config.json": 600, "model.safetensors": 1000}


THREE_HOSTS = plan(THREE, NVIDIA)


def judged(name: str, of: Plan = THREE_HOSTS, **seen: Any) -> dict[str, Check]:
    """Return the checks of one name by host; keyword arguments are a host's own facts."""
    looks: dict[str, HostFacts] = {
        host.name: facts(host, **seen.get(host.name, {})) for host in of.hosts
    }
    return {c.host: c for c in fleet_checks(of, looks, NOW) if c.id == name}


def bad(checks: dict[str, Check]) -> dict[str, str]:
    return {host: check.found for host, check in checks.items() if check.status != "ok"}


def model(**files: int) -> dict[str, Any]:
    return {"models": (good_model("/srv/models/qwen", files={**FILES, **files}),)}


@pytest.mark.parametrize("late", ["a", "b", "c"])
def test_clock_that_is_off_is_found_on_its_host_alone(late: str) -> None:
    seen: dict[str, Any] = {late: {"clock": NOW - 3600}}
    found = judged("clock", **seen)
    assert bad(found) == {late: "3600 s apart"}
    assert found[late].status == "warn"


def test_one_host_is_compared_with_this_machine() -> None:
    alone = plan()
    assert bad(judged("clock", alone, a={"clock": NOW + 60})) == {"a": "60 s apart"}
    assert bad(judged("clock", alone, a={"clock": NOW + 2})) == {}


def test_slow_answer_is_not_taken_for_a_slow_clock() -> None:
    assert bad(judged("clock", b={"clock": NOW - 90, "asked_at": NOW - 91})) == {}


def test_this_machines_own_wrong_clock_is_no_fault_of_the_hosts() -> None:
    wrong: dict[str, Any] = {n: {"clock": NOW + 500, "asked_at": NOW - 1} for n in "abc"}
    assert bad(judged("clock", **wrong)) == {}


def test_older_docker_is_a_warning_on_its_host() -> None:
    old = {"docker": DockerFact(state="running", version="20.10.24", root="/var/lib/docker")}
    found = judged("docker-same", c=old)
    assert bad(found) == {"c": "20.10.24"}
    assert found["c"].status == "warn"
    assert found["c"].expected == "28, as on most hosts"


def test_other_content_under_the_same_tag_names_host_and_ids() -> None:
    ref = NVIDIA["pd_image"]
    found = judged("image-same", c={"images": {ref: "sha256:" + "2" * 64}})
    assert bad(found) == {"c": f"{ref} is 222222222222"}
    assert found["c"].expected == "111111111111, as on a, b"
    assert f"docker image rm -f {ref}" in found["c"].fix


def test_images_that_every_host_builds_itself_need_not_be_the_same() -> None:
    built = plan(THREE)
    other = {image.ref: "sha256:" + "2" * 64 for image in built.host("c").images}
    assert judged("image-same", built, c={"images": other}) == {}


def test_hosts_that_have_no_image_yet_have_nothing_to_compare() -> None:
    assert judged("image-same", a={"images": {}}, b={"images": {}}) == {}


def test_model_file_of_another_size_is_named_with_both_sizes() -> None:
    found = judged("model-files", a=model(), b=model(), c=model(**{"model.safetensors": 7}))
    assert bad(found) == {"c": "model.safetensors: 7 bytes"}
    assert found["c"].expected == "model.safetensors: 1000 bytes, as on the other hosts"


def test_model_file_that_only_one_host_lacks() -> None:
    lacking = {"models": (good_model("/srv/models/qwen", files={"config.json": 600}),)}
    found = judged("model-files", a=model(), b=lacking, c=model())
    assert bad(found) == {"b": "model.safetensors: not there"}


def test_incomplete_model_is_found_once_not_twice() -> None:
    gone = {"models": ({"path": "/srv/models/qwen", "error": "No such file or directory"},)}
    assert bad(judged("model-files", a=model(), b=gone, c=model())) == {}


def test_hosts_that_are_one_machine_are_not_compared_with_themselves() -> None:
    ports = {"port": 9300, "kv_port": 9310, "internal_port": 9320}
    one = plan(TWO_HOSTS, {"ansible_host": "10.0.0.1"}, b={"pd_decode": ports})
    assert judged("docker-same", one) == {}
    assert set(judged("docker-same")) == {"a", "b", "c"}
