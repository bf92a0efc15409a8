"""`ranktable lint`: every rule, all findings at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pdinfra.cli import npu_cards
from pdinfra.cli.options import JsonOption, emit, finish, out, reported
from pdinfra.cli.ranktable_files import read_all, stats
from pdinfra.cli.tables import show_findings
from pdinfra.driver.look import INVALID, DriverError
from pdinfra.ranktable import lint as rules
from pdinfra.ranktable.findings import Known
from pdinfra.ranktable.read import Table
from pdinfra.versions.rank_tables import Format

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Rank tables.")]


def lint(
    files: FilesArgument,
    part: Annotated[
        bool, typer.Option("--part", help="Global tables are one host's each, not yet merged.")
    ] = False,
    format_: Annotated[
        Format | None,
        typer.Option("--format", metavar="FORMAT", help="The format that the engines read."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Compare this host's devices with hccn_tool, hccn.conf.")
    ] = False,
    ip: Annotated[
        str | None, typer.Option("--ip", metavar="IP", help="This host's address, for --live.")
    ] = None,
    hccn_conf: Annotated[
        Path, typer.Option("--hccn-conf", metavar="FILE", help="For --live, as in gen.")
    ] = npu_cards.HCCN_CONF,
    uid: Annotated[
        int | None, typer.Option("--uid", metavar="N", help="User (and group) of the container.")
    ] = None,
    node_ports: Annotated[
        str | None, typer.Option("--node-ports", metavar="PORTS", help="NODE_PORTS: 8088,8089.")
    ] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(
            "--port", metavar="NAME=PORT...", help="An instance's --port: 10.0.0.18_45=8088."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check tables, one by one and against each other. Give a service's tables together."""
    with reported(json):
        ports = _ports(port or ())
        tables = read_all(files)
        known = Known(
            format=format_,
            part=part,
            live=_live(tables, ip, hccn_conf) if live else {},
            node_ports=None if node_ports is None else tuple(node_ports.split(",")),
            ports=ports,
            stats=stats(files),
            reader=None if uid is None else (uid, uid),
        )
        found = rules.lint(tables, known)
    if json:
        emit({"ok": not found, "findings": [each.model_dump(mode="json") for each in found]})
    else:
        show_findings(out, found, len(tables))
    finish(not found)


def _ports(words: Sequence[str]) -> dict[str, int]:
    """Return instances' ports. Raises DriverError for what is none."""
    found, wrong = {}, []
    for word in words:
        name, _, port = word.rpartition("=")
        if name and port.isascii() and port.isdecimal():
            found[name] = int(port)
        else:
            wrong.append(f"--port {word}: not NAME=PORT. Fix: as 10.0.0.18_45=8088")
    if wrong:
        raise DriverError(wrong, INVALID)
    return found


def _live(tables: Sequence[Table], ip: str | None, conf: Path) -> dict[str, dict[int, str]]:
    """Ask this host for the addresses of its devices that tables name."""
    address = ip or npu_cards.own_address()
    named = {
        int(device)
        for table in tables
        for server in table.servers
        if server.address == address
        for device in server.devices
        if device.isdecimal()
    }
    virtual = any(
        card.super_pod_id is not None
        for table in tables
        if table.kind == "vllm-ascend"
        for server in table.servers
        for card in server.cards
    )
    return {address: npu_cards.addresses(sorted(named), conf, virtual=virtual).addresses}
