"""`verify`: prove the service with real requests and the engines' counters, or test its hosts."""

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
    finish,
    out,
    reported,
    require,
    run,
)
from pdinfra.cli.tables import show_host_tests, show_proof
from pdinfra.driver.hosts import planned_hosts
from pdinfra.driver.look import FAILED, DriverError, look, proof, reasons
from pdinfra.model.hosttests import document


def verify(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    json: JsonOption = False,
    hosts: Annotated[
        bool,
        typer.Option(
            "--hosts",
            help="Test the hosts instead: Docker, images, containers, devices, ports, files.",
        ),
    ] = False,
) -> None:
    """Send a prompt through every prefill-decode pair and the router; count what KV moved."""
    if hosts:
        _hosts(inventory, limit, json)
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


def _hosts(inventory: Path, limit: str | None, json: bool) -> None:
    """Test the hosts against the plan, and leave."""
    # pytest and testinfra take half a second to import: only who tests waits for them.
    from pdinfra.hosttests.look import looker
    from pdinfra.hosttests.run import run_suite

    with reported(json):
        tests = run_suite(planned_hosts(require(inventory), limit), looker(inventory))
    found = document(tests)
    if json:
        emit(found)
    else:
        show_host_tests(out, tests)
    finish(found["ok"])
