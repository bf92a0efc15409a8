"""`plan`: what would change, and why. Touches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pdinfra.cli.options import (
    DEFAULT_INVENTORY,
    InventoryOption,
    JsonOption,
    LimitOption,
    emit,
    err,
    out,
    reported,
    run,
)
from pdinfra.cli.tables import show_changes
from pdinfra.driver.look import FAILED, INVALID, DriverError, Look, look, planned
from pdinfra.model.changes import document
from pdinfra.planning.changes import unseen_changes
from pdinfra.planning.deployment import unseen_deployment
from pdinfra.planning.docker_run import as_text, docker_runs

CHANGES = 2
"""Exit code for "there are changes" with --detailed-exitcode, as Terraform has it."""


def plan(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    json: JsonOption = False,
    detailed_exitcode: Annotated[
        bool, typer.Option(help="0 no change, 2 changes, 1 error; as Terraform.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Validate and plan without looking at the hosts.")
    ] = False,
    commands: Annotated[
        bool,
        typer.Option("--commands", help="Also each planned container as a `docker run` command."),
    ] = False,
) -> None:
    """Show what `up` would do, and why. Changes nothing."""
    try:
        with reported(json):
            seen = _look(inventory, limit, offline)
            refuse_invalid(seen)
    except typer.Exit:
        if detailed_exitcode:
            raise typer.Exit(FAILED) from None
        raise
    runs = docker_runs(seen.plan) if commands else {}
    if json:
        emit(document(seen.changes) | ({"commands": runs} if commands else {}))
    else:
        show_changes(out, seen.changes)
    for name, words in runs.items() if not json else ():
        out.print(f"\n# {name}\n{as_text(words)}", markup=False, highlight=False, soft_wrap=True)
    for check in seen.checks:
        if check.status == "fail":
            err.print(f"! {check}", markup=False, style="yellow", soft_wrap=True)
    if not seen.plan.convergeable:
        text = f"! stack {seen.plan.stack}: validates and plans; its roles are built later."
        err.print(text, markup=False, style="yellow")
    if detailed_exitcode and any(change.action != "keep" for change in seen.changes):
        raise typer.Exit(CHANGES)


def _look(inventory: Path, limit: str | None, offline: bool) -> Look:
    """Return the plan with the hosts' changes, or with everything as to be created."""
    if not offline:
        return look(run("playbooks/look.yml", inventory, limit))
    wanted = planned(run("playbooks/validate.yml", inventory, limit))
    everything = [change for host in wanted.hosts for change in unseen_changes(host)]
    everything += unseen_deployment(wanted)
    return Look(plan=wanted, changes=everything, facts={}, checks=[])


def refuse_invalid(seen: Look) -> None:
    """Raise DriverError for what the hosts show to be wrong with the inventory."""
    invalid = [str(check) for check in seen.checks if check.status == "fail" and check.invalid]
    if invalid:
        raise DriverError(invalid, INVALID)
