"""A Ray cluster as planned against what `ray status` counts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pdinfra.model.plan import RayCluster
from pdinfra.model.ray import ClusterSeen
from pdinfra.planning.ray_count import missing
from tests.unit.builders import plan

HOSTS = {name: {"pd_address": f"192.0.2.{n}"} for n, name in enumerate("abc", start=1)}


def cluster() -> RayCluster:
    """Return three nodes with a mixed replica each."""
    made = plan({"mixed": ["a", "b", "c"], "router": ["a"]}, {"pd_stack": "ray"}, **HOSTS).ray
    assert made is not None
    return made


def seen(other: Mapping[str, float] = MappingProxyType({}), nodes: int = 3) -> ClusterSeen:
    """Return all of it as planned; other: resources that are otherwise."""
    return ClusterSeen(nodes=nodes, resources={**cluster().resources, **other})


def test_nothing_is_missing_where_all_is_as_planned() -> None:
    assert missing(cluster(), seen()) == ""


def test_what_ray_has_besides_is_rays_business() -> None:
    assert missing(cluster(), seen({"accelerator_type:A10": 3.0})) == ""


def test_a_head_that_does_not_answer_is_named_by_its_address() -> None:
    assert missing(cluster(), None) == "the head of 192.0.2.1:6379 does not answer `ray status`"


def test_hosts_that_have_not_joined_are_named() -> None:
    there = {k: v for k, v in seen().resources.items() if k not in ("pd_host_b", "pd_host_c")}
    found = missing(cluster(), ClusterSeen(nodes=1, resources=there))
    assert found == ("1 of 3 nodes are in the cluster; missing: ray-b on b, ray-c on c")


def test_a_node_with_fewer_cards_than_planned_is_told_by_the_sum() -> None:
    assert missing(cluster(), seen({"pd_mixed": 2.0})) == "the cluster has pd_mixed 2 instead of 3"


def test_a_foreign_node_is_told() -> None:
    found = missing(cluster(), seen({"CPU": 19.0}, nodes=4))
    assert found == "the cluster has CPU 19 instead of 3"
    assert missing(cluster(), seen(nodes=4)) == "4 nodes are in the cluster, 3 are planned"
