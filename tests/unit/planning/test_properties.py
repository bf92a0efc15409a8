"""What holds for every inventory, not only for the ones that somebody thought of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdinfra.model.inventory import HostSettings, InstanceEntry
from pdinfra.model.plan import Plan
from pdinfra.model.problems import InvalidInventoryError
from pdinfra.planning.load import load
from pdinfra.planning.plan import build
from tests.unit.builders import ASCEND, ASSETS, NVIDIA, Vars, specs

Service = tuple[dict[str, list[str]], dict[str, dict[str, Any]]]

HOSTS = ("a", "b", "c", "d")

quick = settings(max_examples=50)


def attempt(service: Service) -> Plan | None:
    """Return a plan, or None for an inventory that is refused."""
    groups, hostvars = service
    try:
        return build(load(groups, hostvars), ASSETS)
    except InvalidInventoryError as error:
        refused = error
    assert refused.problems
    assert all(p.host and p.thing and p.cause and p.fix for p in refused.problems)
    return None


def entries(roles: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return one to three entries of pd_instances for each role, some with own settings."""
    optional = {
        "port": st.integers(8098, 8104),
        "kv_port": st.integers(5598, 5604),
        "internal_port": st.sampled_from([8090, 12000, 12008, 12020]),
        "tensor_parallel_size": st.sampled_from([1, 2, 4]),
        "devices": st.lists(st.integers(0, 7), max_size=4),
    }
    one = [
        st.lists(
            st.fixed_dictionaries({"role": st.just(role)}, optional=optional),
            min_size=1,
            max_size=3,
        )
        for role in roles
    ]
    return st.tuples(*one).map(lambda lists: [entry for its in lists for entry in its])


def coin(draw: st.DrawFn) -> bool:
    """Draw yes or no."""
    return draw(st.booleans())


@st.composite
def services(draw: st.DrawFn, bases: Sequence[Vars] = ({}, {}, NVIDIA, ASCEND)) -> Service:
    """Draw an inventory that has a fair chance to be accepted."""
    hosts = list(HOSTS[: draw(st.integers(1, len(HOSTS)))])
    some = st.lists(st.sampled_from(hosts), min_size=1, max_size=3, unique=True)
    groups: dict[str, list[str]] = {"all": hosts}
    groups |= {"prefill": draw(some), "decode": draw(some)}
    groups["router"] = [draw(st.sampled_from(hosts))]
    every = draw(st.sampled_from(bases))
    hostvars: dict[str, dict[str, Any]] = {}
    for host in hosts:
        mine = hostvars.setdefault(host, dict(every))
        mine["pd_address"] = draw(st.sampled_from([f"10.0.0.{host}", f"10.0.0.{host}", "10.0.1.1"]))
        roles = [role for role in ("prefill", "decode") if host in groups[role]]
        if roles and coin(draw):
            mine["pd_instances"] = draw(entries(roles))
        if every and coin(draw):
            mine["pd_devices"] = draw(st.lists(st.integers(0, 5), min_size=2, max_size=6))
        if coin(draw):
            mine["pd_router_port"] = draw(st.sampled_from([8000, 8100, 12001]))
    return groups, hostvars


@quick
@given(services())
def test_planning_is_deterministic(service: Service) -> None:
    first, second = attempt(service), attempt(service)
    assert first == second
    assert first is None or second is None or first.dump() == second.dump()


@settings(max_examples=120)
@given(services())
def test_no_port_of_a_machine_is_planned_twice(service: Service) -> None:
    plan = attempt(service)
    if plan is None:
        return
    ports = Counter((host.address, port.port) for host in plan.hosts for port in host.ports)
    assert [key for key, times in ports.items() if times > 1] == []


@settings(max_examples=120)
@given(services((NVIDIA, ASCEND)))
def test_no_device_of_a_machine_is_planned_twice(service: Service) -> None:
    plan = attempt(service)
    if plan is None:
        return
    address = {host.name: host.address for host in plan.hosts}
    devices = Counter((address[i.host], device) for i in plan.instances for device in i.devices)
    assert [key for key, times in devices.items() if times > 1] == []


@quick
@given(services((NVIDIA, ASCEND)))
def test_accepted_instances_have_a_card_for_each_rank(service: Service) -> None:
    plan = attempt(service)
    if plan is None:
        return
    assert all(len(i.devices) == i.tensor_parallel_size for i in plan.instances)


@quick
@given(services())
def test_adding_a_decode_host_leaves_every_other_instance_alone(service: Service) -> None:
    before = attempt(service)
    if before is None:
        return
    groups, hostvars = service
    more = {**groups, "all": [*groups["all"], "new"], "decode": [*groups["decode"], "new"]}
    other = {k: v for k, v in hostvars[groups["all"][0]].items() if k in {**NVIDIA, **ASCEND}}
    # Mooncake is told one size for all of a role.
    other["pd_tensor_parallel_size"] = before.by_role("decode")[0].tensor_parallel_size
    after = attempt((more, {**hostvars, "new": {**other, "pd_address": "10.0.9.9"}}))
    assert after is not None
    old, new = specs(before), specs(after)
    assert {name: new[name] for name in old if name != "router"} == {
        name: spec for name, spec in old.items() if name != "router"
    }
    assert set(new) - set(old) == {"decode-new-0"}


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70),
    st.sampled_from([80, 1024, 8000, 8100, 65535, 65536, 2**31]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["auto", "cpu", "/srv/m", "8100", "native", "load", "prefill"]),
)
# Sizes that only cost time here have a test of their own (test_place.py).
names = st.one_of(
    st.sampled_from(sorted(HostSettings.model_fields)),
    st.sampled_from(sorted(InstanceEntry.model_fields)),
    st.text(max_size=8),
).filter(lambda name: name != "tensor_parallel_size")
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=200)
@given(st.dictionaries(names.map(lambda name: f"pd_{name}"), values, max_size=4))
def test_no_value_of_a_variable_makes_planning_crash(variables: dict[str, Any]) -> None:
    attempt(({"all": ["a"], "prefill": ["a"], "decode": ["a"], "router": ["a"]}, {"a": variables}))


NASTY: tuple[object, ...] = (
    None, True, -1, 0, 0.5, 1, 65535, 1e300, float("inf"), float("-inf"), float("nan"),
    "", " ", "\n", "inf", "nan", "1e9", "/", "/x", "é", "x" * 300, "{{ x }}",
    [], [None], [0, 0], ["x"], {}, {"": ""}, {"port": None}, [{"role": "decode"}],
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(HostSettings.model_fields))
@pytest.mark.parametrize("accelerator", [{}, NVIDIA], ids=["cpu", "nvidia"])
def test_no_nasty_value_of_a_variable_makes_planning_crash(
    name: str, accelerator: dict[str, Any]
) -> None:
    groups = {"all": ["a"], "prefill": ["a"], "decode": ["a"], "router": ["a"]}
    for value in NASTY:
        attempt((groups, {"a": {**accelerator, f"pd_{name}": value}}))


@quick
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["all", "prefill", "decode", "mixed", "router"]), st.text()),
        st.lists(st.sampled_from(HOSTS), max_size=3),
        max_size=5,
    )
)
def test_no_set_of_groups_makes_planning_crash(groups: dict[str, list[str]]) -> None:
    attempt((groups, {host: {} for host in HOSTS}))
