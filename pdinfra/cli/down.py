"""`down`: remove the service's containers and names; images, models and Docker stay."""

from __future__ import annotations

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
from pdinfra.cli.tables import show_changes
from pdinfra.driver.look import FAILED, DriverError, look, reasons
from pdinfra.model.changes import document


def down(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """Remove every container of the service, and what /etc/hosts and the kernel were told for it.

    Images, models and the Docker engine stay.
    """
    with reported(json):
        done = run("playbooks/down.yml", inventory, limit)
        seen = look(done)
        if done.rc:
            raise DriverError(reasons(done), FAILED)
    if json:
        emit({"ok": True, **document(seen.changes)})
    else:
        show_changes(out, seen.changes)
