"""`verify`: prove the service with real requests and the engines' counters."""

from __future__ import annotations

from pdinfra.cli.options import (
    DEFAULT_INVENTORY,
    InventoryOption,
    JsonOption,
    LimitOption,
    emit,
    finish,
    out,
    reported,
    run,
)
from pdinfra.cli.tables import show_proof
from pdinfra.driver.look import FAILED, DriverError, look, proof, reasons


def verify(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """Send a prompt through every prefill-decode pair and the router; count what KV moved."""
    with reported(json):
        done = run("playbooks/verify.yml", inventory, limit)
        seen = look(done)
        proven = proof(done)
        if proven is None:
            raise DriverError(reasons(done), FAILED)
    if json:
        emit(proven.model_dump(mode="json"))
    else:
        show_proof(out, proven, seen.plan.router.url)
    finish(proven.ok)
