"""`doctor`: every check on every host, all findings at once."""

from __future__ import annotations

import typer

from pdinfra.cli.options import (
    DEFAULT_INVENTORY,
    InventoryOption,
    JsonOption,
    LimitOption,
    emit,
    out,
    reported,
    run,
)
from pdinfra.cli.tables import show_checks
from pdinfra.driver.look import FAILED, INVALID, findings
from pdinfra.model.checks import document


def doctor(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """Check the hosts and what is between them: system, network, images, model, accelerators."""
    with reported(json):
        checks = findings(run("playbooks/doctor.yml", inventory, limit))
    if json:
        emit(document(checks))
    else:
        show_checks(out, checks)
    bad = [check for check in checks if check.status == "fail"]
    if bad:
        raise typer.Exit(INVALID if any(check.invalid for check in bad) else FAILED)
