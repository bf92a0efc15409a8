"""`up`: make the hosts equal to the plan, and prove the service."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from pdinfra.cli.options import (
    DEFAULT_INVENTORY,
    InventoryOption,
    JsonOption,
    LimitOption,
    emit,
    err,
    finish,
    out,
    reported,
    run,
)
from pdinfra.cli.tables import show_changes, show_proof, show_status
from pdinfra.driver.look import (
    FAILED,
    INVALID,
    DriverError,
    Look,
    changes,
    containers,
    look,
    proof,
    reasons,
    served,
    unproven,
)
from pdinfra.driver.run import Event
from pdinfra.driver.status import status
from pdinfra.model.changes import document
from pdinfra.model.checks import Check


def up(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    json: JsonOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before replacing or removing.")
    ] = False,
) -> None:
    """Make the hosts equal to the plan, wait for health, prove that KV moves."""
    started = time.monotonic()
    with reported(json):
        if not yes and not json and sys.stdin.isatty() and sys.stderr.isatty():
            _confirm(look(run("playbooks/look.yml", inventory, limit)))
        done = run("site.yml", inventory, limit, also=lambda event: _announce(event, json))
        seen = look(done)
        _refuse(seen)
        proven = proof(done)
        if done.rc and (proven is None or proven.ok or not unproven(done)):
            raise DriverError(reasons(done), FAILED)
    seconds = round(time.monotonic() - started, 1)
    ok = proven is not None and proven.ok
    if json:
        verified = proven.model_dump(mode="json") if proven else None
        emit({"ok": ok, **document(seen.changes), "verify": verified, "seconds": seconds})
        finish(ok)
    if proven is not None:
        found = status(seen.plan, containers(done), serve=served(done, seen.plan))
        show_status(out, found)
        show_proof(out, proven, seen.plan.router.url)
    if ok:
        out.print(f"[bold green]Service URL: {seen.plan.router.url}/v1[/]  ({seconds} s)")
    finish(ok)


def _announce(event: Event, json: bool) -> None:
    """Print the plan as soon as it is known, before anything is changed."""
    data = event.get("event_data") or {}
    compared = data.get("res") or {}
    if data.get("task_action") == "pdinfra_changes" and "changes" in compared:
        show_changes(err if json else out, changes(dict(compared)))
        for check in compared.get("checks", []):
            if check["status"] == "warn":
                err.print(f"! {Check.model_validate(check)}", style="yellow", markup=False)


def _refuse(seen: Look) -> None:
    """Raise DriverError for what forbids to start: nothing was touched."""
    if not seen.plan.convergeable:
        cause = f"stack {seen.plan.stack}: it validates and plans; its roles are built later"
        raise DriverError([f"{cause}; nothing was touched. Fix: use pd_stack native"], FAILED)
    bad = [check for check in seen.checks if check.status == "fail"]
    if bad:
        code = INVALID if any(check.invalid for check in bad) else FAILED
        raise DriverError([str(check) for check in bad], code)


def _confirm(seen: Look) -> None:
    """Ask before something that runs is replaced or removed."""
    if not any(change.action in ("replace", "remove") for change in seen.changes):
        return
    show_changes(out, seen.changes)
    if not typer.confirm("Do this?"):
        raise DriverError(["stopped; nothing was touched"], FAILED)
