"""One service in another's place for a while: down, up, measure, and back, whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from pdinfra.cli.options import err, run
from pdinfra.driver.look import FAILED, INVALID, DriverError, planned, reasons
from pdinfra.model.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class Side:
    """A service: an inventory's, or (``twin``) the mixed twin that pdinfra derives from it."""

    inventory: Path
    twin: bool = False

    def __str__(self) -> str:
        """Return what it is called."""
        return f"the mixed twin of {self.inventory}" if self.twin else str(self.inventory)

    @property
    def variables(self) -> Mapping[str, Any]:
        """What the playbooks are told besides the inventory."""
        return {"pd_twin": True} if self.twin else {}

    @property
    def remedy(self) -> str:
        """What to do if it is not up."""
        if self.twin:
            return "mend what is said above, then measure again"
        return f"python -m pdinfra up -i {self.inventory}"


def plan_of(side: Side) -> Plan:
    """Return a service's plan without looking at its hosts. Raises DriverError."""
    return planned(run("playbooks/validate.yml", side.inventory, None, variables=side.variables))


def in_place_of(first: Side, second: Side, measure: Callable[[], T]) -> T:
    """Put the second in the first's place, measure, and bring the first back.

    Raises DriverError with everything that went wrong.
    """
    told: list[str] = []
    try:
        swap(first, second, told)
        return measure()
    except DriverError as error:
        told += error.lines
        raise
    finally:
        # Also after Ctrl-C: who measures a service in use wants it back.
        try:
            swap(second, first, told)
        except KeyboardInterrupt:
            say(f"stopped: {first} is not up. Fix: {first.remedy}")
            raise


def swap(out_of: Side, into: Side, told: Sequence[str] = ()) -> None:
    """Take one service down and bring another up.

    Raises DriverError; ``told`` is what went wrong before, and is not to be lost.
    """
    play("playbooks/down.yml", out_of, into, told)
    play("site.yml", into, into, told)


def play(playbook: str, side: Side, wanted: Side, told: Sequence[str] = ()) -> None:
    """Run `down` or `up` of one service. Raises DriverError: ``wanted`` is not up then."""
    say(f"{'up' if playbook == 'site.yml' else 'down'} {side}")
    done = run(playbook, side.inventory, None, variables=side.variables)
    planned(done)
    if done.rc:
        lines = [*told, *reasons(done), f"{wanted} is not up. Fix: {wanted.remedy}"]
        raise DriverError(lines, FAILED)


def confirm(what: str, steps: str, yes: bool, also: Sequence[str] = ()) -> None:
    """Ask before anything is touched. Raises DriverError where nobody can be asked.

    what: the option or verb that would do the steps. also: more to know before saying yes.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        line = f"{what}: this is to {steps}; requests in between are lost"
        raise DriverError([f"{line}. Fix: say --yes if that is what you want"], INVALID)
    lines = (f"This is to {steps}.", "In between the service answers nobody.", *also)
    for line in lines:
        err.print(line, markup=False, highlight=False, soft_wrap=True)
    if not typer.confirm("Do this?", err=True):
        raise DriverError(["stopped; nothing was touched"], FAILED)


def say(line: str) -> None:
    """Print one line of progress."""
    err.print(f"→ {line}", markup=False, highlight=False, soft_wrap=True)
