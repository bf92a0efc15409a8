"""Faults of a lab's hosts: what goes wrong with any host. Those of NPUs are the simulator's.

A fault of the host's container (pause, dead, cut) is read off Docker. One inside the host leaves
a file named after itself, which holds the command that undoes it; both end with a restart.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.lab import hosts, names
from pdinfra.lab.engine import ask, execute
from pdinfra.lab.names import LABEL_NPUS, Lab
from pdinfra.lab.state import State

SIMULATOR = "/opt/pdinfra-sim/fault"
MARKS = "/run/pdinfra-lab/faults"
NO_PROXY_HERE = "http://192.0.2.1:3128"
"""A proxy that nobody has: the address is reserved for documentation."""


@dataclass(frozen=True)
class Fault:
    """One fault inside a host: shell commands that switch it on and off.

    ``needs``: the option that it takes, ``peer`` (an address) or ``port``. The commands may also
    name the host's own ``node``, ``address`` and ``gateway``.
    """

    name: str
    meaning: str
    on: str
    off: str
    needs: str = ""


PAUSE, DEAD, CUT = "pause", "dead", "cut"
OF_CONTAINER = {
    PAUSE: "the host stands still: connections hang, nothing answers (docker pause)",
    CUT: "the host loses its network (docker network disconnect)",
    DEAD: "the host loses power (docker kill)",
}
"""In the order in which they are mended: a host boots with its network, not before it."""

_PROXY_DROP_IN = "/run/systemd/system/docker.service.d/lab-fault.conf"


def _drop(rule: str) -> tuple[str, str]:
    """Return the commands that put a firewall rule before all others, and take it away."""
    on, off = (
        " && ".join(f"iptables -w {verb} {chain} {rule}" for chain in ("INPUT", "FORWARD"))
        for verb in ("-I", "-D")
    )
    return on, off


INSIDE = {
    each.name: each
    for each in (
        Fault(
            "partition",
            "packets from one other host are dropped (--peer)",
            *_drop("-s {peer} -j DROP"),
            needs="peer",
        ),
        Fault(
            "drop-port",
            "a firewall drops what others send to a TCP port: they time out (--port)",
            *_drop("! -i lo -p tcp --dport {port} -j DROP"),
            needs="port",
        ),
        Fault(
            "reject-port",
            "a firewall rejects what others send to a TCP port: refused at once (--port)",
            *_drop("! -i lo -p tcp --dport {port} -j REJECT --reject-with tcp-reset"),
            needs="port",
        ),
        Fault(
            "loopback-name",
            "the host's own name resolves to 127.0.1.1, as Debian's installer sets it",
            on=(
                r"sed -i 's/^{address}\(\s.*\b{node}\b\)/127.0.1.1\1/' /etc/hosts"
                r" && grep '^127\.0\.1\.1\s.*\b{node}\b' /etc/hosts"
            ),
            off=r"sed -i 's/^127\.0\.1\.1\(\s.*\b{node}\b\)/{address}\1/' /etc/hosts",
        ),
        Fault(
            "no-route",
            "no default route: the host reaches its own network only",
            on="ip route del default",
            off="ip route add default via {gateway}",
        ),
        Fault(
            "proxy",
            "a proxy that does not exist, in /etc/environment and for the engine (restarts it)",
            on=(
                "(echo '# lab-fault begin';"
                " for name in http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; do"
                f" echo $name={NO_PROXY_HERE}; done; echo '# lab-fault end') >> /etc/environment"
                f" && mkdir -p $(dirname {_PROXY_DROP_IN})"
                f" && printf '[Service]\\nEnvironment=HTTP_PROXY=%s HTTPS_PROXY=%s\\n'"
                f" {NO_PROXY_HERE} {NO_PROXY_HERE} > {_PROXY_DROP_IN}"
                " && systemctl daemon-reload && systemctl try-restart docker"
            ),
            off=(
                f"sed -i '/# lab-fault begin/,/# lab-fault end/d' /etc/environment"
                f" && rm -f {_PROXY_DROP_IN}"
                " && systemctl daemon-reload && systemctl try-restart docker"
            ),
        ),
        Fault(
            "slow-network",
            "the host sends at 8 Mbit/s at most",
            on="tc qdisc replace dev eth0 root tbf rate 8mbit burst 32kbit latency 400ms",
            off="tc qdisc del dev eth0 root",
        ),
        Fault(
            "small-shm",
            "/dev/shm has 16 MiB",
            on="mount -o remount,size=16m /dev/shm",
            off="mount -o remount,size=50% /dev/shm",
        ),
    )
}


@dataclass(frozen=True)
class Switch:
    """One fault to switch on or off on one host."""

    node: str
    name: str
    device: int | None = None
    peer: str = ""
    port: int | None = None


def known(client: docker.DockerClient, lab: Lab) -> dict[str, str]:
    """Return every fault with its meaning, the simulator's too where a running host has one."""
    found = {**OF_CONTAINER, **{fault.name: fault.meaning for fault in INSIDE.values()}}
    able = (c for c in hosts.find(client, lab).values() if c.status == "running" and _has_npus(c))
    return found | simulated(next((ask(c, [SIMULATOR, "list"]) for c in able), ""))


def simulated(listing: str) -> dict[str, str]:
    """Return the simulator's faults of its listing: name, scope and effect in each line."""
    rows = (line.split(maxsplit=2) for line in listing.splitlines())
    return {row[0]: f"{row[2]} ({row[1]}, simulated)" for row in rows if len(row) == 3}


def active(container: Container, network: str) -> list[str]:
    """Return the faults that are on, each with what it was given."""
    found = [PAUSE] if container.status == "paused" else []
    if container.status not in ("running", "paused"):
        found.append(DEAD)
    if network not in container.attrs["NetworkSettings"]["Networks"]:
        found.append(CUT)
    if container.status == "running":
        found += ask(container, ["sh", "-c", f"ls {MARKS} 2>/dev/null"]).splitlines()
    if container.status == "running" and _has_npus(container):
        found += _simulated_active(ask(container, [SIMULATOR, "active"]))
    return found


def _has_npus(container: Container) -> bool:
    """Tell whether a host has simulated NPUs, so that there is a simulator to ask."""
    return container.labels.get(LABEL_NPUS, "0") != "0"


def _simulated_active(document: str) -> list[str]:
    """Return the simulator's active faults; it prints a JSON list."""
    rows = json.loads(document) if document.startswith("[") else []
    return [_mark(row["name"], {k: v for k, v in row.items() if k != "name"}) for row in rows]


def on(client: docker.DockerClient, lab: Lab, state: State, switch: Switch) -> None:
    """Switch a fault on; one that is on stays. Raises DriverError."""
    container = _container(client, lab, switch.node)
    _check(client, lab, switch.name)
    if switch.name in OF_CONTAINER:
        if switch.name not in active(container, lab.network):
            _break(client, lab, container, switch.name)
        return
    _must_run(container, switch.node)
    if switch.name not in INSIDE:
        _must_have_npus(container, switch)
        options = _options(switch, ("device", "peer"))
        _run(container, switch, [SIMULATOR, "on", switch.name, *options])
        return
    fault = INSIDE[switch.name]
    given = _given(fault, switch, state)
    words = {**_own(state, switch.node), **given}
    mark = shlex.quote(f"{MARKS}/{_mark(fault.name, given)}")
    undo = shlex.quote(fault.off.format(**words))
    script = (
        f"test -e {mark} || {{ {fault.on.format(**words)}"
        f" && mkdir -p {MARKS} && printf '%s\\n' {undo} > {mark}; }}"
    )
    _run(container, switch, ["sh", "-c", script])


def off(client: docker.DockerClient, lab: Lab, state: State, switch: Switch) -> None:
    """Switch a fault off, all of its kind; one that is not on is no error. Raises DriverError."""
    container = _container(client, lab, switch.node)
    _check(client, lab, switch.name)
    if switch.name in OF_CONTAINER:
        _mend(client, lab, state, switch.node, [switch.name])
        return
    _must_run(container, switch.node)
    if switch.name not in INSIDE:
        _must_have_npus(container, switch)
        options = _options(switch, ("device",))
        _run(container, switch, [SIMULATOR, "off", switch.name, *options])
        return
    fault = INSIDE[switch.name]
    given = _given(fault, switch, state) if switch.peer or switch.port else {}
    marks = f"{MARKS}/{shlex.quote(_mark(fault.name, given))}{'' if given else '*'}"
    _run(container, switch, ["sh", "-c", _undo(marks)])


def all_off(client: docker.DockerClient, lab: Lab, state: State, node: str) -> None:
    """Switch all faults of a host off and make it run. Raises DriverError."""
    _container(client, lab, node)
    _mend(client, lab, state, node, OF_CONTAINER)
    container = _container(client, lab, node)
    switch = Switch(node, "--all")
    _run(container, switch, ["sh", "-c", _undo(f"{MARKS}/*")])
    if _has_npus(container):
        _run(container, switch, [SIMULATOR, "off", "--all"])


def _undo(marks: str) -> str:
    """Return the shell script that undoes what these files say and removes them."""
    return (
        f'for mark in {marks}; do test -e "$mark" || continue;'
        ' sh -c "$(cat "$mark")" && rm -f "$mark" || exit 1; done'
    )


def _mark(name: str, given: Mapping[str, object]) -> str:
    """Return a fault with what it was given, as status shows it."""
    return " ".join([name, *(f"{k}={v}" for k, v in given.items() if v is not None)])


def _own(state: State, node: str) -> dict[str, str]:
    """Return what a fault's commands may name of the host itself."""
    return {
        "node": node,
        "address": str(names.address(state.subnet, node)),
        "gateway": str(names.gateway(state.subnet)),
    }


def _given(fault: Fault, switch: Switch, state: State) -> dict[str, str]:
    """Return what the fault needs. Raises DriverError if it is missing."""
    if not fault.needs:
        return {}
    value = switch.peer if fault.needs == "peer" else switch.port
    if not value:
        raise _usage(switch, f"it needs --{fault.needs}", f"add --{fault.needs}")
    if fault.needs == "peer" and str(value).startswith("node"):
        value = str(names.address(state.subnet, str(value)))
    return {fault.needs: str(value)}


def _options(switch: Switch, which: Iterable[str]) -> list[str]:
    """Return a switch's options as words."""
    values = {name: getattr(switch, name) for name in which}
    return [word for k, v in values.items() if v not in (None, "") for word in (f"--{k}", str(v))]


def _break(client: docker.DockerClient, lab: Lab, container: Container, name: str) -> None:
    """Switch on a fault of a container."""
    if name == PAUSE:
        container.pause()
    elif name == DEAD:
        container.kill()
    else:
        client.networks.get(lab.network).disconnect(container)


def _mend(
    client: docker.DockerClient, lab: Lab, state: State, node: str, which: Collection[str]
) -> None:
    """Switch off these faults of a container, as far as they are on."""
    container = _container(client, lab, node)
    broken = active(container, lab.network)
    for name in (name for name in OF_CONTAINER if name in which and name in broken):
        if name == PAUSE:
            container.unpause()
        elif name == DEAD:
            container.start()
            hosts.wait(container, node)
        else:
            hosts.connect(client, lab, state, node)


def _container(client: docker.DockerClient, lab: Lab, node: str) -> Container:
    """Return a host's container. Raises DriverError with the hosts that there are."""
    found = hosts.find(client, lab)
    if node not in found:
        there = ", ".join(found) or "none; `lab up` makes some"
        line = f"{node}: host: lab {lab.name} has no such host. Fix: use one of: {there}"
        raise DriverError([line], INVALID)
    return found[node]


def _check(client: docker.DockerClient, lab: Lab, name: str) -> None:
    """Raise DriverError with all names if there is no such fault."""
    names_known = known(client, lab)
    if name not in names_known:
        there = ", ".join(names_known)
        raise DriverError([f"fault {name}: no such fault. Fix: use one of: {there}"], INVALID)


def _must_run(container: Container, node: str) -> None:
    """Raise DriverError if a host cannot be asked."""
    if container.status != "running":
        fix = f"`lab fault off {node} --all` first"
        line = f"{node}: host: it is {container.status}, nothing can be changed inside. Fix: {fix}"
        raise DriverError([line], FAILED)


def _must_have_npus(container: Container, switch: Switch) -> None:
    """Raise DriverError if a fault of NPUs is meant for a host without."""
    if not _has_npus(container):
        raise _usage(switch, "this host has no NPUs", "make the host anew, with `--npus`")


def _run(container: Container, switch: Switch, words: list[str]) -> None:
    """Run a command in a host. Raises DriverError with what it said."""
    code, output = execute(container, words)
    if code:
        said = " ".join(output.split())
        if code == INVALID:
            raise _usage(switch, said, "see `lab fault list`")
        line = f"{switch.node}: fault {switch.name}: it ended with {code}: {said}"
        raise DriverError([f"{line}. Fix: restart the host: lab fault on and off dead"], FAILED)


def _usage(switch: Switch, cause: str, fix: str) -> DriverError:
    """Return the error of a fault that was called wrongly."""
    return DriverError([f"{switch.node}: fault {switch.name}: {cause}. Fix: {fix}"], INVALID)
