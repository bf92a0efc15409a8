"""`lab`: several hosts on this machine, to try out and to test on."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from pdinfra.cli.options import JsonOption, emit, err, finish, out, reported
from pdinfra.cli.tables import MARKS, show_lab, show_words
from pdinfra.driver.look import INVALID, DriverError
from pdinfra.lab import faults
from pdinfra.lab import state as memory
from pdinfra.lab.down import down as take_down
from pdinfra.lab.engine import engine
from pdinfra.lab.faults import Switch
from pdinfra.lab.hosts import Npus, find
from pdinfra.lab.names import DEFAULT_NAME, MAX_HOSTS, Lab, valid_name
from pdinfra.lab.state import State
from pdinfra.lab.status import status as look
from pdinfra.lab.up import up as bring_up

app = typer.Typer(
    help="Several hosts on this machine, to try out and to test on.", no_args_is_help=True
)
fault = typer.Typer(help="Switch faults of a lab's hosts on and off.", no_args_is_help=True)
app.add_typer(fault, name="fault")


class Profile(StrEnum):
    """Simulated Ascend hosts: generation, or format of npu-smi."""

    A2 = "a2-98"
    A3 = "a3-98"
    WIDE = "wide-26.1"


NameOption = Annotated[str, typer.Option("--name", help="Which lab; several live side by side.")]
HostArgument = Annotated[str, typer.Argument(help="Host, as node1.")]
DeviceOption = Annotated[
    int | None, typer.Option("--device", help="NPU; without it, every one of the host.")
]
PeerOption = Annotated[
    str, typer.Option("--peer", help="The other end: a host, or an NPU's address.")
]
PortOption = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="TCP port.")]


@app.command()
def up(
    hosts: Annotated[int, typer.Option("--hosts", help=f"How many hosts, 1 to {MAX_HOSTS}.")] = 3,
    npus: Annotated[int, typer.Option("--npus", min=0, help="Simulated Ascend NPUs per host.")] = 0,
    npu_profile: Annotated[
        Profile, typer.Option("--npu-profile", help="What the simulated NPUs are.")
    ] = Profile.A2,
    npu_driver: Annotated[
        str, typer.Option("--npu-driver", help="Driver version that is there, or none.")
    ] = "",
    name: NameOption = DEFAULT_NAME,
    json: JsonOption = False,
) -> None:
    """Make hosts with SSH and a Docker engine each, and an image registry; add what is missing."""
    started = time.monotonic()
    with reported(json):
        lab = _lab(name)
        if not 1 <= hosts <= MAX_HOSTS:
            line = (
                f"--hosts {hosts}: a lab has 1 to {MAX_HOSTS} hosts. Fix: choose a number of these"
            )
            raise DriverError([line], INVALID)
        wanted = Npus(npus, npu_profile.value, npu_driver)
        with engine() as client:
            bring_up(client, lab, hosts, wanted, _say)
            seen = look(client, lab)
    seconds = round(time.monotonic() - started, 1)
    if json:
        emit({"ok": True, **seen.document(), "seconds": seconds})
        return
    show_lab(out, seen)
    count = f"{len(seen.hosts)} host{'s' if len(seen.hosts) > 1 else ''}"
    out.print(f"[bold green]{count} and the registry are ready: {seconds} s[/]")
    out.print(f"Next: python -m pdinfra up -i {seen.inventory}", highlight=False, soft_wrap=True)


@app.command()
def status(name: NameOption = DEFAULT_NAME, json: JsonOption = False) -> None:
    """Show the hosts, their states, groups and faults."""
    with reported(json):
        lab = _lab(name)
        with engine() as client:
            seen = look(client, lab)
    if json:
        emit(seen.document())
    else:
        show_lab(out, seen)
    finish(seen.healthy)


@app.command()
def down(
    name: NameOption = DEFAULT_NAME,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Keep the images inside the hosts for next time.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove keys, pushed images and the lab's images too.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Remove the lab's hosts and network. Images pushed to the registry stay."""
    with reported(json):
        lab = _lab(name)
        if keep_images and purge:
            raise DriverError(["--keep-images and --purge: not both. Fix: choose one"], INVALID)
        with engine() as client:
            removed = take_down(client, lab, _say, keep_images=keep_images, purge=purge)
    if json:
        emit({"ok": True, "name": lab.name, "removed": removed})
    else:
        out.print(f"Lab {lab.name} is down; removed: {', '.join(removed) or 'no host'}.")


@fault.command("list")
def list_faults(name: NameOption = DEFAULT_NAME, json: JsonOption = False) -> None:
    """Show every fault with its meaning; the NPUs' too while a host runs that has some."""
    with reported(json):
        lab = _lab(name)
        with engine() as client:
            found = faults.known(client, lab)
    if json:
        emit({"faults": [{"name": each, "meaning": found[each]} for each in found]})
    else:
        show_words(out, ("fault", "meaning"), found.items())


@fault.command()
def on(
    host: HostArgument,
    what: Annotated[str, typer.Argument(metavar="NAME", help="Fault, see list.")],
    device: DeviceOption = None,
    peer: PeerOption = "",
    port: PortOption = None,
    name: NameOption = DEFAULT_NAME,
    json: JsonOption = False,
) -> None:
    """Switch a fault on."""
    with reported(json):
        lab = _lab(name)
        with engine() as client:
            faults.on(client, lab, _state(lab), Switch(host, what, device, peer, port))
            seen = look(client, lab)
    if json:
        emit({"ok": True, **seen.document()})
    else:
        out.print(Text(f"{MARKS['ok'][0]} {host}: {what} is on"))


@fault.command()
def off(
    host: Annotated[str, typer.Argument(help="Host, as node1; with --all, all hosts.")] = "",
    what: Annotated[str, typer.Argument(metavar="NAME", help="Fault, see list.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every fault.")] = False,
    device: DeviceOption = None,
    peer: PeerOption = "",
    port: PortOption = None,
    name: NameOption = DEFAULT_NAME,
    json: JsonOption = False,
) -> None:
    """Switch a fault off, or with --all every fault of a host or of all hosts."""
    with reported(json):
        lab = _lab(name)
        if everything == bool(what) or not (host or everything):
            line = "fault off: it takes HOST NAME, or HOST --all, or --all. Fix: name one"
            raise DriverError([line], INVALID)
        with engine() as client:
            if what:
                faults.off(client, lab, _state(lab), Switch(host, what, device, peer, port))
            else:
                for node in [host] if host else find(client, lab):
                    faults.all_off(client, lab, _state(lab), node)
            seen = look(client, lab)
    if json:
        emit({"ok": True, **seen.document()})
    else:
        out.print(Text(f"{MARKS['ok'][0]} {host or 'all hosts'}: {what or 'every fault'} is off"))


def _lab(name: str) -> Lab:
    """Return the lab of a name. Raises DriverError if no lab can be called so."""
    if not valid_name(name):
        fix = "use a-z, 0-9 and -, at most 20, e.g. --name try-1"
        raise DriverError([f"--name {name}: not a lab's name. Fix: {fix}"], INVALID)
    return Lab(name)


def _state(lab: Lab) -> State:
    """Return a lab's memory. Raises DriverError if it was never up."""
    state = memory.load(lab)
    if state is None:
        raise DriverError([f"lab {lab.name}: it is not up. Fix: `lab up`"], INVALID)
    return state


def _say(line: str) -> None:
    """Print one line of progress."""
    err.print(f"→ {line}", markup=False, highlight=False, soft_wrap=True)
