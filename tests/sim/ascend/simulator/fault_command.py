"""Switch faults on and off."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from . import files
from .faults import FAULTS, FaultUsageError, checked
from .host import Host
from .state import edit


def main(argv: Sequence[str]) -> int:
    """Run one call; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="fault", description="Faults of pdinfra's SIMULATED Ascend host."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="all faults with their effects")
    verbs.add_parser("active", help="the faults that are on, as JSON")
    on = verbs.add_parser("on")
    on.add_argument("name")
    on.add_argument("--device", type=int)
    on.add_argument("--peer", help="a device address (unreachable, lossy, device-ip-double)")
    off = verbs.add_parser("off")
    off.add_argument("name", nargs="?")
    off.add_argument("--device", type=int)
    off.add_argument("--all", action="store_true")
    wanted = parser.parse_args(argv)
    if wanted.verb == "list":
        for fault in FAULTS:
            print(f"{fault.name:<24} {fault.scope:<7} {fault.effect}")
        return 0
    host = Host.current()
    try:
        with edit(host) as state:
            if wanted.verb == "on":
                fault_on = checked(wanted.name, wanted.device, wanted.peer, state.devices)
                state.faults = [*(f for f in state.faults if f != fault_on), fault_on]
            elif wanted.verb == "off":
                if bool(wanted.name) == wanted.all:
                    raise FaultUsageError("off takes a fault's name, or --all")
                if wanted.name:
                    checked(wanted.name, wanted.device, None, state.devices)
                state.faults = [
                    fault
                    for fault in state.faults
                    if not wanted.all
                    and (fault.name != wanted.name or wanted.device not in (None, fault.device))
                ]
            if wanted.verb != "active":
                files.settle(host, state)
            print(json.dumps([fault.dump() for fault in state.faults]))
    except FaultUsageError as error:
        parser.exit(2, f"fault: {error}\n")
    return 0
