"""`ranktable gen`: one host's tables, from its own cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pdinfra.cli import npu_cards
from pdinfra.cli.options import JsonOption, emit, err, out, reported
from pdinfra.cli.ranktable_files import write_all
from pdinfra.cli.vendor_words import devices
from pdinfra.driver.look import INVALID, DriverError
from pdinfra.model.addresses import is_ipv4
from pdinfra.ranktable.formats import WRITERS
from pdinfra.ranktable.topology import Server, Topology, problems
from pdinfra.versions.rank_tables import Format, rank_table

LLMDATADIST = "LLMDataDistCMgrConnector"

PrefillOption = Annotated[
    list[str] | None,
    typer.Option(
        "--prefill-server-list",
        metavar="IDS...",
        help="Prefill instances: device ids with commas, a blank between instances (0,1 2,3).",
    ),
]
DecodeOption = Annotated[
    list[str] | None,
    typer.Option("--decode-server-list", metavar="IDS...", help="Decode instances, likewise."),
]
ApiOption = Annotated[
    bool, typer.Option("--api-server", help="The service's entry is here; on one host only.")
]
SaveOption = Annotated[
    Path, typer.Option("--save-dir", metavar="DIR", help="Folder to write to.", show_default=".")
]
IpOption = Annotated[
    str | None,
    typer.Option("--ip", metavar="IP", help="This host's address.", show_default="from its name"),
]


def gen(
    prefill_server_list: PrefillOption = None,
    decode_server_list: DecodeOption = None,
    api_server: ApiOption = False,
    save_dir: SaveOption = Path(),
    ip: IpOption = None,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="ascendcloud (default), hccl-1.0, hccl-1.2, vllm-ascend.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="vllm-ascend image: the format that its LLMDataDist reads.",
        ),
    ] = None,
    super_pod: Annotated[
        bool, typer.Option("--super-pod", help="A3 super pod: with SDIDs, and virtual NICs.")
    ] = False,
    hccn_conf: Annotated[
        Path, typer.Option("--hccn-conf", metavar="FILE", help="Where hccn_tool tells no address.")
    ] = npu_cards.HCCN_CONF,
    json: JsonOption = False,
) -> None:
    """Write this host's rank tables, as mode gen of the vendor's tool does."""
    with reported(json):
        chosen = _format(format_, image)
        prefill, wrong = devices(prefill_server_list or (), "--prefill-server-list")
        decode, more = devices(decode_server_list or (), "--decode-server-list")
        lines = [*wrong, *more, *_nothing(prefill_server_list or decode_server_list or api_server)]
        if ip is not None and not is_ipv4(ip):
            lines.append(f"--ip {ip}: not an IPv4 address. Fix: as 10.0.0.18")
        if lines:
            raise DriverError(lines, INVALID)
        address = ip or npu_cards.own_address()
        used = list(dict.fromkeys(each for ids in (*prefill, *decode) for each in ids))
        pods = super_pod or chosen == "hccl-1.2"
        virtual = pods and chosen == "vllm-ascend"
        cards, notes = npu_cards.cards(
            used, hccn_conf, virtual=virtual, pods=pods and chosen != "ascendcloud"
        )

        def servers(lists: Sequence[tuple[int, ...]]) -> tuple[Server, ...]:
            return tuple(Server(address, tuple(cards[each] for each in ids)) for ids in lists)

        topology = Topology(servers(prefill), servers(decode), address if api_server else None)
        if found := problems(topology):
            raise DriverError([str(each) for each in found], INVALID)
        files = write_all(WRITERS[chosen].generate(topology, address), save_dir)
        notes += _left(save_dir, address, files)
    if json:
        emit({"ok": True, "files": files, "notes": notes})
        return
    for note in notes:
        err.print(f"! {note}", markup=False, highlight=False, style="yellow", soft_wrap=True)
    for path in files:
        out.print(path, markup=False, highlight=False, soft_wrap=True)


def _format(format_: Format | None, image: str | None) -> Format:
    """Return the format to write. Raises DriverError where an image reads none, or another one."""
    if image is None:
        return format_ or "ascendcloud"
    row = rank_table("native", LLMDATADIST, image)
    if row is None:
        fix = "use v0.9.1 to v0.11.0, or name a --format"
        line = f"--image {image}: its version is not known to read a rank table. Fix: {fix}"
        raise DriverError([line], INVALID)
    if row.format is None:
        line = f"--image {image}: it reads no rank table ({row.source}). Fix: use {row.use}"
        raise DriverError([line], INVALID)
    if format_ not in (None, row.format):
        line = f"--image {image}: it reads {row.format}. Fix: leave --format {format_} out"
        raise DriverError([line], INVALID)
    return row.format


def _nothing(named: object) -> list[str]:
    """Return the line for a call that names nothing to put into a table."""
    if named:
        return []
    fix = "name --prefill-server-list, --decode-server-list or --api-server"
    return [f"gen: nothing to write. Fix: {fix}"]


def _left(folder: Path, address: str, files: Sequence[str]) -> list[str]:
    """Return notes on local tables of an earlier call: no instance of now has them."""
    there = sorted(str(path) for path in folder.glob(f"local_ranktable_{address}_*.json"))
    return [
        f"{path}: of an earlier call; no instance has it" for path in there if path not in files
    ]
