"""A PD service's mixed twin: the same cards, settings and entry, and no KV that is handed over."""

from __future__ import annotations

from collections.abc import Iterator

from pdinfra.model.inventory import (
    Accelerator,
    Host,
    HostSettings,
    InstanceEntry,
    InstanceSettings,
    Inventory,
)
from pdinfra.model.problems import InvalidInventoryError, Problem
from pdinfra.planning.models import model_name
from pdinfra.planning.place import Wanted, place, wanted
from pdinfra.stacks import STACKS

PLAIN: dict[Accelerator, str] = {
    "cpu": "NixlConnector",
    "nvidia": "NixlConnector",
    "ascend": "MooncakeConnectorV1",
}
"""Mixed instances of stack native load no connector. The service's must still be one that the stack
takes on its accelerator, and that reads no rank table: those have no place for mixed instances."""

OWN_CONNECTOR = "--kv-transfer-config"


def mixed_twin(inventory: Inventory) -> Inventory:
    """Return the inventory with a mixed instance in place of each prefill and decode instance.

    Each keeps its host, devices, port and every setting that it had as its role or entry. It is of
    stack native, so there is neither connector nor data system. Raises InvalidInventoryError with
    everything that has no such twin.
    """
    if found := list(_problems(inventory)):
        raise InvalidInventoryError(found)
    return Inventory(
        hosts=tuple(_host(host, inventory.service) for host in inventory.hosts),
        spare=inventory.spare,
    )


def _problems(inventory: Inventory) -> Iterator[Problem]:
    """Yield why the service has no twin, each with what to do instead."""
    service = inventory.service
    first = inventory.hosts[0].name
    stack = f"pd_stack {service.stack}"
    fix = "measure both services by `vllm bench serve`, as the guides do"
    if service.stack not in ("native", "yuanrong"):
        cause = "its engines have no mixed form that pdinfra can bring up"
        yield Problem(host=first, thing=stack, cause=cause, fix=fix)
    elif STACKS[service.stack].clustered(service):
        cause = f"with pd_connector {service.connector} openYuanrong itself places the engines"
        yield Problem(host=first, thing=stack, cause=cause, fix=fix)
    for host in inventory.hosts:
        if "mixed" in host.roles:
            cause = "these instances are mixed already"
            yield Problem(
                host=host.name, thing="group mixed", cause=cause, fix="name a service with PD"
            )
        for want in wanted(host):
            args = want.get("engine_args")
            if isinstance(args, list) and any(str(a).startswith(OWN_CONNECTOR) for a in args):
                yield Problem(
                    host=host.name,
                    thing=f"{want.id} engine_args",
                    cause=f"{OWN_CONNECTOR} would give a mixed instance a connector",
                    fix="set pd_connector instead",
                )


def _host(host: Host, service: HostSettings) -> Host:
    """Return one host of the twin."""
    changed: dict[str, object] = {
        "stack": "native",
        "connector": service.connector,
        "prefill": InstanceSettings(),
        "decode": InstanceSettings(),
        "mixed": InstanceSettings(),
    }
    if host.settings.router_policy == "least_busy":
        # The proxy that has it answers for pairs only.
        changed["router_policy"] = "round_robin"
    if service.stack != "native" or service.accelerator == "ascend":
        changed["connector"] = PLAIN[service.accelerator]
    if not host.roles:
        return host.model_copy(update={"settings": host.settings.model_copy(update=changed)})
    # What is wrong with the places is the service's own, and told with its plan.
    placed, _ = place(
        host,
        service.accelerator,
        service.service,
        "",
        model_name(host.settings),
        STACKS["native"],
    )
    changed["instances"] = [
        _entry(want, engine.instance.port, engine.instance.devices)
        for want, engine in zip(wanted(host), placed.engines, strict=True)
    ]
    groups = ("mixed", *(g for g in host.groups if g not in ("prefill", "decode")))
    settings = host.settings.model_copy(update=changed)
    return host.model_copy(update={"groups": groups, "settings": settings})


def _entry(want: Wanted, port: int, devices: tuple[int, ...]) -> InstanceEntry:
    """Return a mixed instance with what one of another role had besides its host's settings."""
    layers: tuple[InstanceSettings | None, ...] = (
        getattr(want.host.settings, want.role),
        want.entry,
    )
    mine: dict[str, object] = {}
    for layer in filter(None, layers):
        said = {name: getattr(layer, name) for name in InstanceSettings.model_fields}
        env = {**_words(mine.get("env")), **_words(said["env"])}
        mine |= {name: value for name, value in said.items() if value is not None}
        mine |= {"env": env or None}
    # Over several hosts the next free cards are others on each.
    named = want.own_devices is not None or not want.further
    mine |= {"port": port, "devices": (list(devices) or None) if named else None}
    mine |= {"hosts": list(want.further) or None}
    if want.get("load_format") == "yuanrong":
        # There is no data system to get weights from.
        mine["load_format"] = "auto"
    return InstanceEntry.model_validate({"role": "mixed", **mine})


def _words(value: object) -> dict[str, str]:
    """Return an environment, empty if none is set."""
    return value if isinstance(value, dict) else {}
