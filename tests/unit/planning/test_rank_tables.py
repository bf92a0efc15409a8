"""The tables that a plan and the devices' addresses make, and who reads which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.planning.finish import Finished, finish
from pdinfra.ranktable import ascendcloud, vllm_ascend
from pdinfra.ranktable.dump import dump
from pdinfra.ranktable.findings import Known
from pdinfra.ranktable.lint import lint
from pdinfra.ranktable.read import read
from pdinfra.ranktable.topology import Card, Server, Topology
from tests.unit.ascend import (
    CLOUD,
    DIST,
    SMALL,
    bare,
    cloud,
    fleet,
    fleet_facts,
    guide,
    running,
    with_card,
)
from tests.unit.builders import Groups, facts, plan, specs

A, B = "192.0.2.11", "192.0.2.12"
HOME = "/var/lib/pdinfra/pd/ranktables"
ONLY_CARDS = {"prefill": ["a"], "decode": ["a"], "router": ["c"]}


def server(address: str, *devices: int) -> Server:
    """Return an instance; devices' addresses are as ``bare`` gives them."""
    host = int(address.rpartition(".")[2]) - 10
    return Server(address, tuple(Card(device, f"10.20.{host}.{device + 1}") for device in devices))


def topology(of: Plan) -> Topology:
    """Return who is in the tables, in the order of the plan."""
    servers: dict[str, list[Server]] = {"prefill": [], "decode": []}
    for instance in of.instances:
        servers[instance.role].append(server(of.host(instance.host).address, *instance.devices))
    entry = of.host(of.router.host).address
    return Topology(tuple(servers["prefill"]), tuple(servers["decode"]), entry)


def made(of: Plan, facts: Mapping[str, HostFacts] | None = None) -> Finished:
    return finish(of, bare(of) if facts is None else facts)


def names(found: Finished, host: str) -> dict[str, str]:
    """Return a host's files by name, which must be in one folder."""
    assert len({path.rpartition("/")[0] for path in found.tables[host]}) == 1
    return {path.rpartition("/")[2]: text for path, text in found.tables[host].items()}


def env(found: Finished, name: str) -> dict[str, str]:
    return specs(found.plan)[name].env


def test_the_guides_files() -> None:
    found = names(made(guide()), "a")
    wanted = Topology((server(A, 4, 5),), (server(A, 6, 7),), A)
    assert found == {file.name: file.text for file in ascendcloud.generate(wanted, A)}
    assert set(found) == {
        f"global_ranktable_{A}.json",
        f"local_ranktable_{A}_45.json",
        f"local_ranktable_{A}_67.json",
        f"local_ranktable_{A}_host.json",
    }


def test_mixed_engines_read_no_table_whatever_the_connector() -> None:
    mixed = {"devices": [0, 1], "tensor_parallel_size": 2}
    of = plan({"mixed": ["a"], "router": ["a"]}, {**DIST, "pd_mixed": mixed})
    found = made(of)
    assert of.rank_tables is None
    assert (dict(found.tables), found.gaps) == ({}, ())


def test_several_hosts_have_their_own_local_tables_and_one_merged_global() -> None:
    of = cloud()
    found = made(of)
    parts = {host: ascendcloud.generate(topology(of), host) for host in (A, B)}
    merged = ascendcloud.merge([json.loads(parts[host][0].text) for host in (A, B)])
    for name, address in (("a", A), ("b", B)):
        own = {file.name: file.text for file in parts[address][1:]}
        assert names(found, name) == {**own, merged.name: merged.text}


def test_host_without_cards_has_the_schedulers_table_and_the_global_one() -> None:
    found = made(cloud(ONLY_CARDS))
    assert set(names(found, "c")) == {
        "global_ranktable_merge.json",
        f"local_ranktable_{B}_host.json",
    }
    assert "_host.json" not in "".join(found.tables["a"])


def test_every_container_is_told_the_global_table_and_its_own_one() -> None:
    found = made(cloud())
    (folder,) = {path.rpartition("/")[0] for files in found.tables.values() for path in files}
    assert folder.startswith(f"{HOME}/")
    locals_ = {
        "prefill-a-0": f"{A}_01",
        "decode-a-0": f"{A}_23",
        "prefill-b-0": f"{B}_01",
        "decode-b-0": f"{B}_23",
        "router": f"{A}_host",
    }
    for name, local in locals_.items():
        assert env(found, name)["GLOBAL_RANK_TABLE_FILE_PATH"] == (
            f"{folder}/global_ranktable_merge.json"
        )
        assert env(found, name)["RANK_TABLE_FILE_PATH"] == f"{folder}/local_ranktable_{local}.json"
        mounts = [m for m in specs(found.plan)[name].mounts if m.source == HOME]
        assert [(m.target, m.read_only) for m in mounts] == [(HOME, True)]


def test_stack_without_tables_has_none() -> None:
    of = fleet()
    found = finish(of, fleet_facts(of))
    assert (found.tables, found.gaps, of.rank_tables) == ({}, (), None)
    assert {host.observe.rank_tables for host in of.hosts} == {""}


@st.composite
def services(draw: st.DrawFn) -> Plan:
    """Draw services of one to three hosts, up to four instances on each, roles interleaved."""
    size = {role: draw(st.sampled_from([1, 2])) for role in ("prefill", "decode")}
    count = draw(st.integers(1, 3))
    hosts: dict[str, dict[str, Any]] = {}
    taken = {"prefill": 0, "decode": 0}
    for number in range(count):
        roles = draw(st.lists(st.sampled_from(["prefill", "decode"]), min_size=1, max_size=4))
        if not number:
            roles = draw(st.permutations([*roles[:2], "prefill", "decode"]))
        free = list(draw(st.permutations(range(8))))
        entries = []
        for role in roles:
            taken[role] += 1
            first = 8000 if role == "prefill" else 9000
            entries.append(
                {
                    "role": role,
                    "tensor_parallel_size": size[role],
                    "devices": [free.pop() for _ in range(size[role])],
                    "port": first + draw(st.integers(0, 5)) * 100 + taken[role],
                }
            )
        hosts[f"h{number}"] = {"pd_instances": entries}
    groups: dict[str, list[str]] = {
        role: [h for h, v in hosts.items() if any(e["role"] == role for e in v["pd_instances"])]
        for role in ("prefill", "decode")
    }
    groups["router"] = [draw(st.sampled_from([*hosts, "cpu"]))]
    every = {k: v for k, v in CLOUD.items() if k not in ("pd_prefill", "pd_decode", "pd_devices")}
    return cloud(groups, {**every, "pd_router_port": 7000}, **hosts)


@settings(max_examples=60, deadline=None)
@given(services())
def test_tables_of_every_service_are_as_the_vendors_tool_makes_them_and_clean(of: Plan) -> None:
    found = made(of)
    whole = topology(of)
    files = {host.name: names(found, host.name) for host in of.active}
    (name,) = {n for mine in files.values() for n in mine if n.startswith("global_")}
    assert len({mine[name] for mine in files.values()}) == 1
    text = files[of.router.host][name]
    parts = [ascendcloud.generate(whole, host.address)[0].text for host in of.active]
    assert text == ascendcloud.merge([json.loads(part) for part in parts]).text
    for host in of.active:
        local = {f.name: f.text for f in ascendcloud.generate(whole, host.address)[1:]}
        assert files[host.name] == {**local, name: text}
    everything = {n: t for mine in files.values() for n, t in mine.items()}
    ports = [str(i.port) for role in ("prefill", "decode") for i in of.by_role(role)]
    known = Known(
        format="ascendcloud",
        live={host.address: {d: f"10.20.{_number(host.address)}.{d + 1}" for d in range(8)}
              for host in of.active},
        hosts=frozenset(host.address for host in of.active),
        node_ports=tuple(env(found, "router")["NODE_PORTS"].split(",")),
        ports={
            server(of.host(i.host).address, *i.devices).name: i.port for i in of.instances
        },
        tensor_parallel={i.role: i.tensor_parallel_size for i in of.instances if i.role != "mixed"},
        containers={
            server(of.host(i.host).address, *i.devices).name: i.devices for i in of.instances
        },
    )  # fmt: skip
    assert lint([read(n, t) for n, t in everything.items()], known) == []
    assert env(found, "router")["NODE_PORTS"] == ",".join(ports)


@settings(max_examples=40, deadline=None)
@given(services())
def test_hosts_that_have_what_was_made_have_nothing_left_to_do(of: Plan) -> None:
    again = finish(of, running(of))
    assert again == made(of)


def _number(address: str) -> int:
    return int(address.rpartition(".")[2]) - 10


def cards(found: Finished, host: str = "a") -> list[str]:
    """Return all devices' addresses in a host's global table, in its order."""
    text = next(t for path, t in found.tables[host].items() if "/global_" in path)
    return [
        card.device_ip or "?" for s in read("global_ranktable_x", text).servers for card in s.cards
    ]


def test_addresses_are_hccn_tools() -> None:
    of = guide()
    seen = bare(of, a={"conf": {"addresses": {4: "10.99.0.1"}}})
    assert cards(made(of, seen)) == [f"10.20.1.{n}" for n in (5, 6, 7, 8)]


def test_address_that_hccn_tool_does_not_know_is_that_of_hccn_conf() -> None:
    of = guide()
    networks = {n: {"address": None if n == 5 else f"10.20.1.{n + 1}"} for n in (4, 5, 6, 7)}
    seen = bare(of, a={"networks": networks, "conf": {"addresses": {5: "10.99.0.5"}}})
    assert cards(made(of, seen)) == ["10.20.1.5", "10.99.0.5", "10.20.1.7", "10.20.1.8"]


def test_device_without_an_address_is_a_gap_and_nobody_gets_another_table() -> None:
    of = guide()
    seen = with_card(running(of), "a", d6=None)
    found = finish(of, seen)
    (gap,) = found.gaps
    assert (gap.host, gap.thing, gap.cause) == ("a", "device 6", "it has no address")
    assert "hccn_tool -i 6 -ip -s" in gap.fix
    assert found.tables == {}
    assert specs(found.plan) == {c.id: c.spec for c in seen["a"].containers}


def test_gap_before_the_first_table_leaves_containers_without_one() -> None:
    of = guide()
    found = finish(of, with_card(bare(of), "a", d6=None))
    assert found.gaps
    assert "RANK_TABLE_FILE_PATH" not in env(found, "prefill-a-0")


@pytest.mark.parametrize("host", ["a", "b"])
def test_part_of_the_hosts_finds_the_others_addresses_in_the_table_in_use(host: str) -> None:
    of = cloud()
    seen = running(of)
    assert finish(of, {host: seen[host]}) == finish(of, seen)


def test_part_of_the_hosts_without_a_table_cannot_make_one() -> None:
    of = cloud()
    found = finish(of, {"a": bare(of)["a"]})
    (gap,) = found.gaps
    assert (gap.host, gap.thing) == ("b", "its devices")
    assert "not looked at" in gap.cause
    assert "without --limit" in gap.fix
    assert found.tables == {}


def test_hosts_that_were_all_looked_at_need_no_table_of_before() -> None:
    of = cloud()
    moved = with_card(running(of), "b", d0="10.20.2.99")
    assert "10.20.2.99" in cards(finish(of, moved))


def test_table_that_somebody_damaged_is_no_source_of_addresses() -> None:
    of = cloud()
    mine = running(of)["a"]
    broken = {
        path: file.model_copy(
            update={"text": file.text.replace('"device_id": "0"', '"device_id": "x"')}
        )
        for path, file in mine.rank_tables.items()
    }
    found = finish(of, {"a": mine.model_copy(update={"rank_tables": broken})})
    (gap,) = found.gaps
    assert (gap.host, gap.thing) == ("b", "its devices")
    assert "not looked at" in gap.cause
    assert "without --limit" in gap.fix


def test_the_folder_is_another_one_as_soon_as_anything_in_the_table_is() -> None:
    of = guide()
    folders = {
        next(iter(found.tables["a"])).rpartition("/")[0]
        for found in (made(of), made(of, with_card(bare(of), "a", d4="10.20.1.99")))
    }
    assert len(folders) == 2


def dist(groups: Groups, **more: Any) -> Plan:
    return cloud(groups, {**DIST, **more})


def path(found: Finished, name: str) -> str:
    return env(found, name)["DISAGGREGATED_PREFILL_RANK_TABLE_PATH"]


def test_vllm_ascends_table_is_the_tools_in_a_folder_for_each_instance() -> None:
    of = dist(SMALL)
    found = made(of)
    text = dump(vllm_ascend.table(topology(of)))
    for host, name in (("a", "prefill-a-0"), ("b", "decode-b-0")):
        assert found.tables[host] == {path(found, name): text}
        assert path(found, name).startswith(f"{HOME}/{name}-")
        assert path(found, name).endswith("/ranktable.json")
    assert "DISAGGREGATED_PREFILL_RANK_TABLE_PATH" not in env(found, "router")


def test_another_decode_instance_changes_the_text_and_nobodys_path() -> None:
    before = made(dist(SMALL))
    after = made(dist({**SMALL, "decode": ["b", "c"]}))
    for host, name in (("a", "prefill-a-0"), ("b", "decode-b-0")):
        assert path(after, name) == path(before, name)
        assert after.tables[host] != before.tables[host]
    assert specs(after.plan)["prefill-a-0"] == specs(before.plan)["prefill-a-0"]


def test_another_prefill_instance_moves_decodes_cluster_ids_and_so_its_path() -> None:
    before = made(dist(SMALL))
    after = made(dist({**SMALL, "prefill": ["a", "c"]}))
    assert path(after, "prefill-a-0") == path(before, "prefill-a-0")
    assert path(after, "decode-b-0") != path(before, "decode-b-0")


def test_a3s_table_is_not_made_without_its_sdids() -> None:
    of = dist({"prefill": ["a"], "decode": ["b"], "router": ["a"]})
    seen = bare(of)
    ascend = seen["b"].ascend
    assert ascend is not None
    a3 = ascend.model_copy(update={"generation": "a3"})
    found = finish(of, seen | {"b": seen["b"].model_copy(update={"ascend": a3})})
    (gap,) = found.gaps
    assert (gap.host, gap.thing) == ("b", "rank table")
    assert "MooncakeConnectorV1" in gap.fix
    assert found.tables == {}


@pytest.mark.parametrize(
    ("card", "cause"),
    [({"d6": "127.0.0.1"}, "is the loopback"), ({"d6": "10.20.1.5"}, "several devices have it")],
)
def test_address_that_no_table_may_have_is_a_gap_on_its_host(
    card: dict[str, str], cause: str
) -> None:
    of = guide()
    found = finish(of, with_card(running(of), "a", **card))
    (gap,) = found.gaps
    assert gap.host == "a"
    assert cause in gap.cause
    assert found.tables == {}


def test_plan_that_the_hosts_add_nothing_to_stays_the_same_object() -> None:
    of = plan()
    assert finish(of, {host.name: facts(host) for host in of.hosts}).plan is of
