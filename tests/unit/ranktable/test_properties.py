"""What holds for every service: generated and merged tables are clean, a changed one is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pdinfra.ranktable import ascendcloud, vllm_ascend
from pdinfra.ranktable.dump import dump
from pdinfra.ranktable.findings import Known
from pdinfra.ranktable.formats import WRITERS
from pdinfra.ranktable.lint import lint
from pdinfra.ranktable.read import read
from pdinfra.ranktable.topology import File, Topology, problems
from pdinfra.versions.rank_tables import Format
from tests.unit.ranktable.topologies import topologies

quick = settings(max_examples=60)

Path = tuple[str | int, ...]

OTHERS: tuple[Format, ...] = ("hccl-1.0", "hccl-1.2", "vllm-ascend")


def cloud(topology: Topology) -> dict[str, str]:
    """Return all files of a service, of all its hosts, with the merged table."""
    used = [each.address for each in topology.servers] + [str(topology.scheduler)]
    hosts = list(dict.fromkeys(sorted(used)))
    files = [file for host in hosts for file in ascendcloud.generate(topology, host)]
    parts = [json.loads(file.text) for file in files if file.name.startswith("global")]
    return {file.name: file.text for file in [*files, ascendcloud.merge(parts)]}


def ports(topology: Topology) -> Known:
    """Return NODE_PORTS and the instances' own ports."""
    own = {each.name: 8088 + number for number, each in enumerate(topology.servers)}
    return Known(node_ports=tuple(map(str, own.values())), ports=own)


def ordered(topology: Topology) -> Topology:
    """Return a service whose instances are in the order in which its hosts are merged."""
    prefill = sorted(topology.prefill, key=lambda each: each.address)
    decode = sorted(topology.decode, key=lambda each: each.address)
    return Topology(tuple(prefill), tuple(decode), topology.scheduler)


services = topologies().map(ordered)


@quick
@given(services)
def test_generated_and_merged_tables_are_clean(topology: Topology) -> None:
    files = cloud(topology)
    assert problems(topology) == []
    assert lint([read(name, text) for name, text in files.items()], ports(topology)) == []
    assert files[ascendcloud.MERGED] == dump(ascendcloud.global_table(topology))
    assert all(lint([read(n, t)], Known(part=True)) == [] for n, t in files.items())


@quick
@given(topologies(pods=True))
def test_other_formats_are_clean(topology: Topology) -> None:
    for each in OTHERS:
        for host in {server.address for server in topology.servers}:
            for file in WRITERS[each].generate(topology, host):
                assert lint([read(file.name, file.text)], Known(format=each, part=True)) == []
    table = dump(vllm_ascend.table(topology))
    assert lint([read("ranktable.json", table)]) == []


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything in a document but itself."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in inside:
        yield (*path, key)
        yield from places(each, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """Draw one change of a table: a thing gone, doubled, or of another value or type."""
    document = json.loads(text)
    path = draw(st.sampled_from(list(places(document))))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    key, value = path[-1], parent[path[-1]]
    kinds = ["delete", "number", "null", "list"]
    if isinstance(value, str):
        kinds += ["text", "next", "int", "blank", "loopback"]
    if isinstance(parent, list):
        kinds += ["double", "int"]
    kind = draw(st.sampled_from(kinds))
    others: dict[str, Any] = {
        "number": 7,
        "null": None,
        "list": [],
        "blank": f"{value} ",
        "text": draw(st.text(max_size=5)),
        "loopback": "127.0.0.1",
        "next": f"{value}1",
        "int": int(value) if isinstance(value, str) and value.isdecimal() else 0,
    }
    if kind == "delete":
        del parent[key]
    elif kind == "double":
        parent.insert(key, copy.deepcopy(value))
    else:
        parent[key] = others[kind]
    return dump(document)


@settings(max_examples=250)
@given(st.data())
def test_any_single_change_of_a_clean_set_is_found(data: st.DataObject) -> None:
    topology = data.draw(services)
    files = cloud(topology)
    name = data.draw(st.sampled_from(sorted(files)))
    changed = data.draw(mutated(files[name]))
    if changed == files[name]:
        return
    tables = [read(each, files[each] if each != name else changed) for each in files]
    found = lint(tables, ports(topology))
    assert found, changed
    assert all(each.found and each.expected and each.fix for each in found)


@quick
@given(st.data())
def test_any_single_change_of_the_text_is_found(data: st.DataObject) -> None:
    files = cloud(data.draw(services))
    name = data.draw(st.sampled_from(sorted(files)))
    text = files[name]
    at = data.draw(st.integers(0, len(text) - 1))
    changed = data.draw(
        st.sampled_from([text[:at], text[:at] + text[at + 1 :], f"{text[:at]} {text[at:]}"])
    )
    if changed != text:
        assert lint([read(each, files[each] if each != name else changed) for each in files])


@settings(max_examples=200)
@given(st.data())
def test_any_single_change_of_other_formats_is_found(data: st.DataObject) -> None:
    topology = data.draw(topologies(pods=True))
    each = data.draw(st.sampled_from(OTHERS))
    (file, *_) = WRITERS[each].generate(topology, topology.prefill[0].address)
    if each == "vllm-ascend":
        file = File(file.name, dump(vllm_ascend.table(topology)))
    changed = data.draw(mutated(file.text))
    known = Known(
        format=each,
        live=live(topology),
        tensor_parallel={
            "prefill": len(topology.prefill[0].cards),
            "decode": len(topology.decode[0].cards),
        }
        if each == "vllm-ascend"
        else {},
    )
    if changed != file.text and not harmless(file.text, changed, known):
        assert lint([read(file.name, changed)], known), changed


def live(topology: Topology) -> dict[str, dict[int, str]]:
    """Return every host's devices with their addresses."""
    found: dict[str, dict[int, str]] = {}
    for server in topology.servers:
        found.setdefault(server.address, {}).update({c.device: c.ip for c in server.cards})
    return found


def harmless(text: str, changed: str, known: Known) -> bool:
    """Tell changes that a table of its own cannot show.

    That is another SDID or super pod, server_count of HCCL 1.2, which is optional, and one
    instance fewer in vllm-ascend's lists where an instance is one device, the last.
    """
    before, after = json.loads(text), json.loads(changed)
    if known.format == "vllm-ascend" and 1 in known.tensor_parallel.values():
        lists = ("prefill_device_list", "decode_device_list")
        cut = {name: before[name][: len(after.get(name) or [])] for name in lists}
        if {**before, **cut} == after:
            return True
    return bool(_bare(before) == _bare(after))


def _bare(value: Any) -> Any:
    """Return a document with one word for what only another table or a host could confirm."""
    if isinstance(value, dict):
        free = {"super_pod_id", "super_device_id"}
        optional = {"server_count"} if "super_pod_list" in value else set()
        return {
            key: "a text" if key in free and isinstance(each, str) and each else _bare(each)
            for key, each in value.items()
            if key not in optional
        }
    return [_bare(each) for each in value] if isinstance(value, list) else value
