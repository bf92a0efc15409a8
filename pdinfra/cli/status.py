"""`status`: is every member there, and does it answer?"""

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
from pdinfra.cli.tables import show_status
from pdinfra.driver import status as service
from pdinfra.driver.look import containers, look, served


def status(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """Show router and instances, their containers' states, and whether they answer."""
    with reported(json):
        done = run("playbooks/look.yml", inventory, limit)
        seen = look(done)
        notes = {path: text for fact in seen.facts.values() for path, text in fact.notes.items()}
        found = service.status(seen.plan, containers(done), notes, served(done, seen.plan))
    if json:
        emit(found.document())
    else:
        show_status(out, found)
    finish(found.healthy)
