"""Words for connectors → the classes that the images have."""

from __future__ import annotations

from collections.abc import Mapping

from pdinfra.model.inventory import Accelerator, Host, HostSettings, Inventory
from pdinfra.stacks.kv_transfer import version_of
from pdinfra.versions import table, vllm, vllm_ascend
from pdinfra.versions.connectors import of_family


def named(inventory: Inventory) -> Inventory:
    """Return the inventory with families replaced by their class in the engines' image.

    A word that means nothing there stays as it is: the stack refuses it.
    """
    engines = next((host.settings for host in inventory.hosts if host.roles), inventory.service)
    version = _version(engines)
    accelerator = inventory.service.accelerator
    update = {
        "connector": _named(engines.connector, accelerator, version),
        "multi_connectors": [
            _named(word, accelerator, version) for word in engines.multi_connectors
        ],
    }
    return Inventory(
        hosts=tuple(_with(host, update) for host in inventory.hosts), spare=inventory.spare
    )


def _with(host: Host, update: Mapping[str, object]) -> Host:
    """Return a host with other settings."""
    settings = host.settings.model_copy(update=update)
    # What the user wrote, for what asks which settings are given.
    settings.__pydantic_fields_set__ = host.settings.model_fields_set
    return host.model_copy(update={"settings": settings})


def _version(service: HostSettings) -> str | None:
    """Return the version that the accelerator's connectors go by."""
    if service.accelerator == "ascend":
        return table.vllm_ascend(service.image or "")
    return version_of(service)


def _named(word: str, accelerator: Accelerator, version: str | None) -> str:
    """Return the class of a family in a version, or the word."""
    rows = of_family(word, accelerator)
    if len(rows) == 1:
        return rows[0].name
    has = vllm_ascend.has if accelerator == "ascend" else vllm.has
    found = [row.name for row in rows if version is not None and has(row.name, version)]
    return found[-1] if found else word
