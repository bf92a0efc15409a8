"""Which connections between machines the service needs, and who tries them."""

from __future__ import annotations

from typing import Any

from pdinfra.model.changes import Change
from pdinfra.model.plan import Plan
from pdinfra.planning.reach import Link, links, links_of, probes
from tests.unit.builders import facts, listening, plan

GROUPS = {"prefill": ["a"], "decode": ["b", "c"], "router": ["b"]}
ADDRESSES = {name: {"ansible_host": f"10.0.0.{n}"} for n, name in enumerate("abc", start=1)}


def three(**more: Any) -> Plan:
    return plan(GROUPS, more, **ADDRESSES)


def told(found: tuple[Link, ...]) -> set[tuple[str, str, str]]:
    return {(link.source, link.endpoint, link.purpose) for link in found}


def change(host: str, kind: str, name: str, action: str = "create") -> Change:
    row = {"host": host, "kind": kind, "id": name, "action": action, "reason": "test"}
    return Change.model_validate(row)


def test_router_asks_engines_and_decode_asks_prefill() -> None:
    assert told(links(three())) == {
        ("b", "10.0.0.1:8100", "api"),
        ("b", "10.0.0.3:8200", "api"),
        ("b", "10.0.0.1:5600", "kv"),
        ("c", "10.0.0.1:5600", "kv"),
    }


def test_every_rank_has_a_side_channel() -> None:
    wide = links(three(pd_tensor_parallel_size=2))
    assert {link.port for link in wide if link.purpose == "kv"} == {5600, 5601}


def test_one_machine_has_no_links() -> None:
    assert links(plan()) == ()


def test_mixed_instances_are_only_asked_by_the_router() -> None:
    mixed = plan({"mixed": ["a", "b"], "router": ["a"]}, a=ADDRESSES["a"], b=ADDRESSES["b"])
    assert told(links(mixed)) == {("a", "10.0.0.2:8300", "api")}


def test_only_links_of_what_is_made_are_tried() -> None:
    every = links(three())
    new = links_of(every, [change("c", "instance", "decode-c-0")])
    assert told(new) == {("b", "10.0.0.3:8200", "api"), ("c", "10.0.0.1:5600", "kv")}
    assert links_of(every, [change("c", "instance", "decode-c-0", "keep")]) == ()
    assert links_of(every, [change("c", "image", "v:1")]) == ()
    router = links_of(every, [change("b", "router", "router", "replace")])
    assert {link.purpose for link in router} == {"api"}


def test_hosts_listen_only_where_nobody_does_yet() -> None:
    made = three()
    looks = {host.name: facts(host) for host in made.hosts}
    looks["a"] = facts(made.host("a"), listening=(listening(8100),))
    probing = probes(links(made), looks)
    assert [endpoint.port for endpoint in probing["a"].listen] == [5600]
    assert probing["a"].connect == ()
    assert [endpoint.port for endpoint in probing["b"].connect] == [8100, 8200, 5600]


def test_hosts_that_were_not_seen_take_no_part() -> None:
    made = three()
    looks = {name: facts(made.host(name)) for name in "ab"}
    probing = probes(links(made), looks)
    assert set(probing) == {"a", "b"}
    assert {endpoint.address for endpoint in probing["b"].connect} == {"10.0.0.1"}
