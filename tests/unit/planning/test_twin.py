"""The mixed twin: what each instance keeps, what goes, and what has none."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.inventory import Inventory
from pdinfra.model.plan import Plan
from pdinfra.model.problems import InvalidInventoryError
from pdinfra.planning.plan import build
from pdinfra.planning.rank_tables import rank_tables
from pdinfra.planning.twin import mixed_twin
from pdinfra.versions.connectors import connectors
from tests.unit.builders import (
    ASCEND,
    ASSETS,
    FULL,
    FULL_HOSTS,
    NVIDIA,
    ONE_HOST,
    TWO_HOSTS,
    YUANRONG,
    inventory,
)

MIXED = {"mixed": ["a"], "router": ["a"]}


def both(given: Inventory) -> tuple[Plan, Plan]:
    """Return the plan of a service and of its twin."""
    return build(given, ASSETS, "e" * 64), build(mixed_twin(given), ASSETS)


def words(plan: Plan, name: str) -> tuple[str, ...]:
    """Return an instance's command line."""
    found = [c for host in plan.hosts for c in host.containers if c.id == name]
    return found[0].spec.command


def environment(plan: Plan, name: str) -> dict[str, str]:
    """Return an instance's environment."""
    found = [c for host in plan.hosts for c in host.containers if c.id == name]
    return found[0].spec.env


def refused(given: Inventory) -> list[str]:
    """Return why there is no twin."""
    with pytest.raises(InvalidInventoryError) as caught:
        mixed_twin(given)
    return [str(problem) for problem in caught.value.problems]


def test_each_instance_becomes_a_mixed_one_in_its_place() -> None:
    pd, twin = both(inventory(TWO_HOSTS))
    assert [(i.id, i.role) for i in twin.instances] == [
        ("mixed-a-0", "mixed"),
        ("mixed-b-0", "mixed"),
    ]
    for mine, other in zip(pd.instances, twin.instances, strict=True):
        assert (mine.host, mine.port, mine.internal_port) == (
            other.host,
            other.port,
            other.internal_port,
        )
    assert (twin.router.host, twin.router.url) == (pd.router.host, pd.router.url)
    assert {member.role for member in twin.router.members} == {"mixed"}


def test_one_over_several_hosts_stays_over_them() -> None:
    decode = {"role": "decode", "hosts": ["c"], "tensor_parallel_size": 4}
    groups = {"all": ["a", "b", "c"], **TWO_HOSTS}
    own = [{"pd_address": f"192.0.2.{n}", "pd_devices": [n, n + 1, n + 2]} for n in range(1, 4)]
    given = inventory(groups, NVIDIA, a=own[0], b={**own[1], "pd_instances": [decode]}, c=own[2])
    pd, twin = both(given)
    assert [i.parts[0].devices for i in (pd.instances[1], twin.instances[1])] == [(3, 4), (3, 4)]
    assert twin.instances[1].devices == (2, 3)


def test_two_on_one_host_are_counted_and_keep_their_ports() -> None:
    _, twin = both(inventory(ONE_HOST))
    assert [(i.id, i.port) for i in twin.instances] == [("mixed-a-0", 8100), ("mixed-a-1", 8200)]


def test_nothing_of_a_connector_is_left() -> None:
    pd, twin = both(inventory(ONE_HOST))
    assert "--kv-transfer-config" in words(pd, "prefill-a-0")
    assert "--kv-transfer-config" not in words(twin, "mixed-a-0")
    assert not [name for name in environment(twin, "mixed-a-0") if "NIXL" in name]


def test_devices_and_sizes_stay_where_they_were() -> None:
    every = {
        **NVIDIA,
        "pd_devices": [4, 5, 6, 7],
        "pd_prefill": {"tensor_parallel_size": 2},
        "pd_decode": {"devices": [5]},
    }
    pd, twin = both(inventory(ONE_HOST, every))
    assert [(i.devices, i.tensor_parallel_size) for i in twin.instances] == [
        (i.devices, i.tensor_parallel_size) for i in pd.instances
    ]
    assert [i.devices for i in twin.instances] == [(4, 6), (5,)]


def test_settings_of_host_role_and_entry_are_kept_by_their_strength() -> None:
    every: dict[str, Any] = {
        "pd_max_model_len": 1024,
        "pd_env": {"A": "host", "B": "host"},
        "pd_prefill": {"env": {"B": "role", "C": "role"}, "max_num_seqs": 4, "threads": 2},
        "pd_decode": {"engine_args": ["--seed", "7"]},
        "pd_mixed": {"max_num_seqs": 99},
        "pd_instances": [
            {
                "role": "prefill",
                "name": "p",
                "max_num_seqs": 8,
                "env": {"C": "entry"},
                "port": 9100,
            },
            {"role": "decode"},
        ],
    }
    pd, twin = both(inventory(ONE_HOST, every))
    mixed = words(twin, "mixed-a-0")
    assert mixed[mixed.index("--max-num-seqs") + 1] == "8"
    assert mixed[mixed.index("--max-model-len") + 1] == "1024"
    assert mixed[mixed.index("--port") + 1] == "9100"
    env = environment(twin, "mixed-a-0")
    assert (env["A"], env["B"], env["C"]) == ("host", "role", "entry")
    assert env["OMP_NUM_THREADS"] == "2"
    assert words(twin, "mixed-a-1")[-2:] == ("--seed", "7")
    assert "--max-num-seqs" not in words(twin, "mixed-a-1")
    assert "p" in [instance.id for instance in pd.instances]


def test_the_routers_host_and_policy_stay_also_where_it_has_no_engine() -> None:
    apart = inventory(
        {"prefill": ["a"], "decode": ["b"], "router": ["c"]}, {"pd_router_policy": "cache_aware"}
    )
    twin = mixed_twin(apart)
    assert twin.router.name == "c"
    assert twin.router.settings.router_policy == "cache_aware"
    build(twin, ASSETS)


def test_a_twin_of_the_data_system_has_none_and_loads_from_disk() -> None:
    _, twin = both(inventory(TWO_HOSTS, {**YUANRONG, "pd_load_format": "yuanrong"}))
    assert (twin.stack, twin.store) == ("native", None)
    assert {instance.load_format for instance in twin.instances} == {"auto"}
    kinds = {container.kind for host in twin.hosts for container in host.containers}
    assert kinds == {"instance", "router"}


@pytest.mark.parametrize("name", ["MooncakeConnectorV1", "LLMDataDistCMgrConnector"])
def test_a_twin_on_ascend_reads_no_rank_table(name: str) -> None:
    image = (
        "quay.io/ascend/vllm-ascend:v0.10.1rc1" if name.startswith("LLM") else ASCEND["pd_image"]
    )
    given = inventory(TWO_HOSTS, {**ASCEND, "pd_connector": name, "pd_image": image})
    twin = mixed_twin(given)
    assert rank_tables(twin) is None
    build(twin, ASSETS)


@pytest.mark.parametrize(
    "name",
    [
        row.name
        for row in connectors().values()
        if row.protocol and row.stack == "native" and "nvidia" in row.accelerators
    ],
)
def test_every_connector_of_cards_has_a_twin(name: str) -> None:
    build(mixed_twin(inventory(TWO_HOSTS, {**NVIDIA, "pd_connector": name})), ASSETS)


def test_what_has_no_twin_is_told_with_a_fix() -> None:
    assert "these instances are mixed already" in refused(inventory(MIXED))[0]
    (full,) = refused(inventory(TWO_HOSTS, FULL, **FULL_HOSTS))
    assert "openYuanrong itself places the engines. Fix: measure" in full
    cloud = inventory(TWO_HOSTS, {"pd_stack": "ascendcloud", "pd_accelerator": "ascend"})
    assert "pd_stack ascendcloud: its engines have no mixed form" in refused(cloud)[0]
    own = inventory(ONE_HOST, {"pd_prefill": {"engine_args": ["--kv-transfer-config={}"]}})
    assert "prefill-a-0 engine_args" in refused(own)[0]
