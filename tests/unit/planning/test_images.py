"""Where images come from: built here, published once, pulled through a mirror."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import HostPlan, Image
from pdinfra.planning.changes import host_changes
from pdinfra.planning.work import HostWork, host_work, publications
from tests.unit.builders import TWO_HOSTS, converged, facts, only, plan, problems

REGISTRY = {"pd_image_registry": "quay.io/pdinfra", "pd_image_push": "127.0.0.1:5443/pdinfra"}
DIGEST = "sha256:" + "a" * 64
ENGINE = "vllm-cpu:0.32.0-" + "a" * 12
ROUTER = "vllm-router:0.1.17-" + "b" * 12


def engine_image(**variables: Any) -> Image:
    return plan(every=variables).host("a").images[0]


def work(of: HostPlan, seen: HostFacts) -> HostWork:
    return host_work(of, host_changes(of, seen), check=False)


def test_built_images_are_pulled_where_there_is_a_registry() -> None:
    images = plan(every=REGISTRY).host("a").images
    assert [(i.ref, i.source) for i in images] == [
        (f"quay.io/pdinfra/{ENGINE}", "pull"),
        (f"quay.io/pdinfra/{ROUTER}", "pull"),
    ]
    assert all(image.remote == image.ref for image in images)


def test_containers_use_the_name_that_was_pulled() -> None:
    specs = [c.spec.image for c in plan(every=REGISTRY).host("a").containers]
    assert set(specs) == {f"quay.io/pdinfra/{ENGINE}", f"quay.io/pdinfra/{ROUTER}"}


def test_controller_builds_under_the_local_name_and_pushes_as_it_reaches_the_registry() -> None:
    published = plan(every=REGISTRY).host("a").published
    image = published[f"quay.io/pdinfra/{ENGINE}"]
    assert (image.ref, image.source, image.definition) == (f"pdinfra/{ENGINE}", "build", "vllm-cpu")
    assert image.remote == f"127.0.0.1:5443/pdinfra/{ENGINE}"


def test_registry_is_pushed_to_by_its_own_name_unless_told_otherwise() -> None:
    published = plan(every={"pd_image_registry": "reg.example.com/x"}).host("a").published
    assert published[f"reg.example.com/x/{ENGINE}"].remote == f"reg.example.com/x/{ENGINE}"


def test_without_a_registry_nothing_is_published() -> None:
    assert plan().host("a").published == {}


@pytest.mark.parametrize(
    ("variables", "image"),
    [
        ({"pd_image": "v:1"}, ("v:1", "pull")),
        ({"pd_image_source": "build"}, (f"pdinfra/{ENGINE}", "build")),
        (
            {"pd_image": "v:1", "pd_image_source": "load", "pd_image_archive": "/v.tar"},
            ("v:1", "load"),
        ),
    ],
)
def test_what_the_inventory_says_of_an_image_is_stronger_than_the_registry(
    variables: dict[str, Any], image: tuple[str, str]
) -> None:
    host = plan(every={**REGISTRY, **variables}).host("a")
    assert (host.images[0].ref, host.images[0].source) == image
    assert list(host.published) == [f"quay.io/pdinfra/{ROUTER}"]


@pytest.mark.parametrize(
    ("name", "remote"),
    [
        ("quay.io/ascend/vllm-ascend:v1", "m.daocloud.io/quay.io/ascend/vllm-ascend:v1"),
        ("vllm/vllm-openai:v1", "m.daocloud.io/docker.io/vllm/vllm-openai:v1"),
        ("nginx:1", "m.daocloud.io/docker.io/library/nginx:1"),
        ("m.daocloud.io/quay.io/ascend/x:1", "m.daocloud.io/quay.io/ascend/x:1"),
    ],
)
def test_named_images_are_fetched_through_the_mirror_and_keep_their_names(
    name: str, remote: str
) -> None:
    image = engine_image(pd_image=name, pd_image_mirror="m.daocloud.io")
    assert (image.ref, image.remote) == (name, remote)


def test_digest_is_asked_for_through_a_mirror_as_well() -> None:
    named = {"pd_image": "quay.io:443/a/v:1", "pd_image_digest": DIGEST}
    assert engine_image(**named).remote == f"quay.io:443/a/v@{DIGEST}"
    mirrored = engine_image(**named, pd_image_mirror="mirror:5000/all")
    assert mirrored.remote == f"mirror:5000/all/quay.io:443/a/v@{DIGEST}"


def test_own_registry_is_not_asked_through_the_mirror() -> None:
    image = engine_image(**REGISTRY, pd_image_mirror="m.daocloud.io")
    assert image.remote == f"quay.io/pdinfra/{ENGINE}"


@pytest.mark.parametrize("registry", ["https://quay.io/x", "quay.io/x/", "quay.io/X", "a b", ""])
def test_registry_that_is_none_is_refused(registry: str) -> None:
    assert only(problems(every={"pd_image_registry": registry})).thing == "pd_image_registry"


def test_push_without_a_registry_to_pull_from_is_refused() -> None:
    problem = only(problems(every={"pd_image_push": "127.0.0.1:5443"}))
    assert problem.thing == "pd_image_push"
    assert "pd_image_registry" in problem.fix


def test_image_that_came_by_a_mirror_is_known_by_its_digest() -> None:
    named = {"pd_image": "quay.io/a/v:1", "pd_image_digest": DIGEST, "pd_image_mirror": "m.io"}
    of = plan(every=named).host("a")
    mirrored = {"quay.io/a/v:1": "sha256:1", f"m.io/quay.io/a/v@{DIGEST}": "sha256:1"}
    assert facts(of, images=mirrored).has_image(of.images[0])
    stale = {"quay.io/a/v:1": "sha256:2", f"m.io/quay.io/a/v@{DIGEST}": "sha256:1"}
    assert not facts(of, images=stale).has_image(of.images[0])


def test_each_image_is_published_once_for_all_hosts_that_miss_it() -> None:
    both = plan(TWO_HOSTS, REGISTRY)
    orders = [work(host, facts(host, images={})) for host in both.hosts]
    assert [i.ref for i in publications(orders)] == [f"pdinfra/{ENGINE}", f"pdinfra/{ROUTER}"]


def test_hosts_that_have_their_images_cause_no_publishing() -> None:
    of = plan(every=REGISTRY).host("a")
    assert publications([work(of, converged(of))]) == ()


def test_dry_run_publishes_nothing_for_a_host_without_an_engine() -> None:
    of = plan(every=REGISTRY).host("a")
    bare = facts(of, images={}).model_copy(
        update={"docker": facts(of).docker.model_copy(update={"state": "absent"})}
    )
    assert publications([host_work(of, host_changes(of, bare), check=True)]) == ()


def test_plan_says_how_images_come() -> None:
    of = plan(every=REGISTRY).host("a")
    published = next(c for c in host_changes(of, facts(of, images={})) if c.kind == "image")
    assert "controller builds and pushes it if the registry lacks it" in published.reason
    of = plan(every={"pd_image": "a/v:1", "pd_image_mirror": "m.io"}).host("a")
    pulled = next(c for c in host_changes(of, facts(of, images={})) if c.kind == "image")
    assert pulled.reason == "not on the host: pull it as m.io/docker.io/a/v:1"
