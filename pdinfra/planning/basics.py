"""What a host that works with other machines gets of its own system: names, ports, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from pdinfra.model.addresses import is_ip, is_loopback
from pdinfra.model.ascend import HCCL_PORTS
from pdinfra.model.changes import Action, Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import HostPlan, Plan

BEGIN = "# BEGIN pdinfra"
END = "# END pdinfra"


class BasicsWork(BaseModel):
    """What the role `host` writes. None and False leave things as they are.

    ``hosts_file`` is the whole new /etc/hosts, ``reserved_ports`` the whole new value of
    net.ipv4.ip_local_reserved_ports, empty where no port stays reserved. ``reasons`` say why, by
    what is changed.
    """

    model_config = ConfigDict(frozen=True)

    hosts_file: str | None = None
    reserved_ports: str | None = None
    time: bool = False
    reasons: dict[str, str] = {}


NO_BASICS = BasicsWork()


def basics_work(plan: Plan, host: HostPlan, facts: HostFacts) -> BasicsWork:
    """Return what has to be set on one host; nothing where all hosts are one machine."""
    if host.basics is None:
        return NO_BASICS
    reasons = {}
    hosts_file = hosts_text(plan, host, facts) if host.basics.names else facts.network.hosts_file
    if hosts_file.splitlines() != facts.network.hosts_file.splitlines():
        reasons["names"] = "the hosts' names do not lead to their addresses: write /etc/hosts"
    ports = _ports_to_reserve(host, facts) if host.basics.ports else []
    if ports:
        first, last = facts.network.ephemeral
        listed = port_ranges(ports)
        reasons["ports"] = f"{listed} are inside {first}-{last}, for outgoing connections: reserve"
    time = host.basics.time and not facts.network.keeps_time
    if time:
        reasons["time"] = "nothing sets the clock: install chrony"
    return BasicsWork(
        hosts_file=hosts_file if "names" in reasons else None,
        reserved_ports=port_ranges([*facts.network.reserved, *ports]) if ports else None,
        time=time,
        reasons=reasons,
    )


def undone_work(host: HostPlan, facts: HostFacts) -> BasicsWork:
    """Return what takes back on one host what basics_work() gave it, where that is still there.

    A clock stays set, and a line of the own name keeps the host's address: both are right without
    the service, too. What was reserved by others, or is no longer planned, stays reserved.
    """
    if host.basics is None:
        return NO_BASICS
    reasons = {}
    block, rest = _split(facts.network.hosts_file)
    if host.basics.names and block:
        reasons["names"] = "down: take the hosts' names out of /etc/hosts"
    network = facts.network
    ours = _ports_inside(host, facts) & network.reserved & network.kept_reserved
    if host.basics.ports and ours:
        reasons["ports"] = f"down: {port_ranges(ours)} need not be reserved any more"
    return BasicsWork(
        hosts_file="\n".join([*rest, ""]) if "names" in reasons else None,
        reserved_ports=port_ranges(network.reserved - ours) if "ports" in reasons else None,
        reasons=reasons,
    )


def basics_changes(host: HostPlan, work: BasicsWork, action: Action = "create") -> list[Change]:
    """Return the changes that a work order stands for."""
    return [
        Change(host=host.name, kind="host", id=thing, action=action, reason=reason)
        for thing, reason in work.reasons.items()
    ]


def hosts_text(plan: Plan, host: HostPlan, facts: HostFacts) -> str:
    """Return /etc/hosts as it should be.

    Names that lead to the right address by other means (DNS) are left to these. The block stands
    first, because the first line that has a name wins.
    """
    block, rest = _split(facts.network.hosts_file)
    lines = [_mended(line, host, facts.hostname) for line in rest]
    mended = {name for line in lines if line not in rest for name in line.split()}
    wanted: dict[str, str] = {}
    for other in plan.active:
        for name in (other.name, facts.hostname) if other is host else (other.name,):
            right = _leads_to(facts, name, other.address) or (other is host and name in mended)
            if is_ip(other.address) and _is_own(name) and (name in block or not right):
                wanted.setdefault(name, other.address)
    return "\n".join([*_block(wanted), *lines, ""])


def _is_own(name: str) -> bool:
    """Tell whether a name may be given to a machine: an address or localhost may not."""
    return not is_ip(name) and name != "localhost"


def port_ranges(ports: Iterable[int]) -> str:
    """Return ports in the kernel's form, such as ``8080,9148-9150``."""
    ranges: list[list[int]] = []
    for port in sorted(set(ports)):
        if ranges and port == ranges[-1][1] + 1:
            ranges[-1][1] = port
        else:
            ranges.append([port, port])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _split(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the names of pdinfra's block with their addresses, and the other lines."""
    block: dict[str, str] = {}
    rest = []
    inside = False
    for line in text.splitlines():
        if line in (BEGIN, END):
            inside = line == BEGIN
        elif inside:
            address, *names = line.split()
            block |= dict.fromkeys(names, address)
        else:
            rest.append(line)
    return block, rest


def _block(wanted: Mapping[str, str]) -> list[str]:
    """Return pdinfra's block, one line for each address."""
    if not wanted:
        return []
    addresses = dict.fromkeys(wanted.values())
    lines = [
        " ".join([address, *(name for name, its in wanted.items() if its == address)])
        for address in addresses
    ]
    return [BEGIN, *lines, END]


def _mended(line: str, host: HostPlan, hostname: str) -> str:
    """Give Debian's 127.0.1.1 line the host's address; take the own name off other loopbacks."""
    address, *names = line.partition("#")[0].split() or [""]
    if hostname not in names or not is_loopback(address) or not is_ip(host.address):
        return line
    if address == "127.0.1.1":
        return line.replace(address, host.address, 1)
    others = [name for name in names if name != hostname]
    return " ".join([address, *others]) if others else ""


def _ports_to_reserve(host: HostPlan, facts: HostFacts) -> list[int]:
    """Return planned ports that an outgoing connection may take."""
    return sorted(_ports_inside(host, facts) - facts.network.reserved)


def _ports_inside(host: HostPlan, facts: HostFacts) -> set[int]:
    """Return planned ports in the range for outgoing connections, and HCCL's on NPU hosts."""
    first, last = facts.network.ephemeral
    wanted = {port.port for port in host.ports}
    if host.accelerator == "ascend" and host.observe.devices:
        wanted |= set(HCCL_PORTS)
    return {port for port in wanted if first <= port <= last}


def _leads_to(facts: HostFacts, name: str, address: str) -> bool:
    """Tell whether a name leads to an address, and not back to the host itself."""
    found = facts.network.resolved.get(name, ())
    return address in found and not any(is_loopback(each) for each in found)
