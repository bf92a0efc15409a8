"""A table that changes around those who read it says what changes, and that nobody restarts."""

from __future__ import annotations

import pytest

from pdinfra.model.facts import HostFacts, TextFact
from pdinfra.model.plan import Plan
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import finish
from tests.unit.ascend import ascend
from tests.unit.builders import ASCEND, Groups, facts, observed, plan

PAIR: Groups = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}
MORE: Groups = {**PAIR, "decode": ["b", "c"]}


def service(groups: Groups) -> Plan:
    connector = {
        "pd_connector": "LLMDataDistCMgrConnector",
        "pd_image": "quay.io/ascend/vllm-ascend:v0.10.1rc1",
    }
    return plan(groups, {**ASCEND, **connector})


def hosts(of: Plan) -> dict[str, HostFacts]:
    """Return hosts with cards and without containers."""
    return {h.name: facts(h, ascend=ascend(h, n)) for n, h in enumerate(of.hosts, start=1)}


def running(of: Plan) -> dict[str, HostFacts]:
    """Return the hosts of a service that runs as planned, with its tables."""
    made = finish(of, hosts(of))
    return {
        host.name: facts(
            host,
            [observed(container) for container in host.containers],
            ascend=ascend(host, number),
            rank_tables={
                path: TextFact(text=text, mode=0o644, uid=0, gid=0, changed=0)
                for path, text in made.tables[host.name].items()
            },
        )
        for number, host in enumerate(made.plan.hosts, start=1)
    }


def reasons(of: Plan, seen: dict[str, HostFacts]) -> list[tuple[str, str, str]]:
    """Return what happens to tables: host, action, reason."""
    found = compare(finish(of, seen), seen, "look", check=False).changes
    return [(c.host, c.action, c.reason) for c in found if c.kind == "ranktable"]


def changed(seen: HostFacts, old: str, new: str) -> HostFacts:
    """Return a host with words of its tables replaced."""
    files = {
        path: file.model_copy(update={"text": file.text.replace(old, new)})
        for path, file in seen.rank_tables.items()
    }
    assert files != seen.rank_tables
    return seen.model_copy(update={"rank_tables": files})


def test_who_joins_is_named_where_tables_are_rewritten() -> None:
    of = service(MORE)
    seen = {**hosts(of), **running(service(PAIR))}
    joins = "with decode 192.0.2.13_0"
    assert reasons(of, seen) == [
        ("a", "replace", f"{joins}; restarts nobody"),
        ("b", "replace", f"{joins}; restarts nobody"),
        ("c", "create", joins),
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            '"10.20.2.1"',
            '"10.20.2.9"',
            "device 0 of b has 10.20.2.1 now, not 10.20.2.9; restarts nobody",
        ),
        ('"completed"', '"initializing"', "ranktable.json: not as written, made again"),
    ],
    ids=["devices", "something else"],
)
def test_edited_table_says_what_is_wrong_as_far_as_it_concerns_devices(
    old: str, new: str, reason: str
) -> None:
    of = service(PAIR)
    seen = running(of)
    seen["a"] = changed(seen["a"], old, new)
    assert reasons(of, seen) == [("a", "replace", reason)]
