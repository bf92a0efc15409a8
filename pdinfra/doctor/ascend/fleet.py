"""What must hold between the hosts: addresses, subnets, TLS switches, driver versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, ip_address, ip_interface

from pdinfra.doctor.ascend.host import AscendHost, all_or, listing
from pdinfra.doctor.ascend.network import answers
from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import NpuNetwork
from pdinfra.model.checks import Check
from pdinfra.versions.order import order

UNIQUE = Rule(
    id="npu-address-unique",
    what="No two planned devices of the fleet have one address.",
    expected="an address of its own for every device",
    fix="give one of them another address",
    source="vllm-ascend issue 5461 (EI0006)",
)
SUBNET = Rule(
    id="npu-subnet",
    what="The planned devices are in one subnet, or have a gateway inside their own.",
    expected="one subnet, or a gateway in each",
    fix="correct address and netmask, or set a gateway",
    source="vllm-ascend issues 5461, 9447",
)
TLS = Rule(
    id="npu-tls",
    what="The devices' TLS switch is the same on all hosts (fail) and off (warn).",
    expected="tls switch off, on all hosts",
    fix="switch it off",
    source="vllm-ascend PD tutorial, deployment checks; issues 5461, 9447, 486 (EI0006)",
)
VERSIONS = Rule(
    id="npu-driver-same",
    what="All hosts have the same driver.",
    expected="one driver version on all hosts",
    fix="install the same HDK release on all hosts",
    source="HDK release notes: mixed releases are not tested together",
    severity="warn",
)

RULES = (UNIQUE, SUBNET, TLS, VERSIONS)

Device = tuple[AscendHost, int, NpuNetwork]


def checks(hosts: Sequence[AscendHost]) -> Iterator[Check]:
    """Yield the checks between hosts."""
    ready = [host for host in hosts if host.ascend.state == "ready"]
    devices = [(host, device, net) for host in ready for device, net in answers(host).items()]
    yield from _unique(ready, devices)
    yield from _subnet(ready, devices)
    yield from _tls(ready, devices)
    yield from _versions(ready)


def _unique(hosts: Sequence[AscendHost], devices: Sequence[Device]) -> Iterator[Check]:
    """Yield each address that two devices have, on the pair of their hosts."""
    users: dict[str, list[Device]] = {}
    for entry in devices:
        if entry[2].address is not None:
            users.setdefault(entry[2].address, []).append(entry)
    doubled = set()
    for address, mine in users.items():
        first, _, _ = mine[0]
        for host, device, network in mine[1:]:
            doubled |= {first.name, host.name}
            where = host.name if host is first else f"{first.name} → {host.name}"
            netmask = network.netmask or "255.255.255.0"
            yield UNIQUE.bad(
                where,
                f"{address} on device {mine[0][1]} of {first.name} and {device} of {host.name}",
                fix=(
                    f"on {host.name}: `hccn_tool -i {device} -ip -s address <free address> netmask "
                    f"{netmask}`"
                ),
            )
    for host in hosts:
        if host.name not in doubled and answers(host):
            yield UNIQUE.ok(host.name, "each address is on one device")


def _subnet(hosts: Sequence[AscendHost], devices: Sequence[Device]) -> Iterator[Check]:
    """Yield devices outside of the fleet's subnet that have no gateway inside of their own."""
    places = {
        (host.name, device): place
        for host, device, network in devices
        if not host.a3 and (place := _interface(network)) is not None
    }
    if not places:
        return
    usual = Counter(place.network for place in places.values()).most_common(1)[0][0]
    gateways = {(host.name, device): network.gateway for host, device, network in devices}

    def findings(host: AscendHost) -> Iterator[Check]:
        for (name, device), place in places.items():
            if name != host.name or place.network == usual:
                continue
            gateway = gateways[(name, device)]
            if gateway is not None and ip_address(gateway) in place.network:
                continue
            yield SUBNET.bad(
                name,
                f"device {device}: {place}, gateway {gateway or 'unset'}",
                expected=f"an address in {usual}, or a gateway in {place.network}",
                fix=(
                    f"`hccn_tool -i {device} -ip -s address <free in {usual}> netmask "
                    f"{usual.netmask}`, or `hccn_tool -i {device} -gateway -s gateway <address in "
                    f"{place.network}>`"
                ),
            )

    for host in hosts:
        if any(name == host.name for name, _ in places):
            yield from all_or(SUBNET, host.name, findings(host), str(usual))


def _interface(network: NpuNetwork) -> IPv4Interface | None:
    """Return a device's address with its netmask, if both are set and readable."""
    try:
        place = ip_interface(f"{network.address}/{network.netmask}")
    except ValueError:
        return None
    return place if isinstance(place, IPv4Interface) else None


def _tls(hosts: Sequence[AscendHost], devices: Sequence[Device]) -> Iterator[Check]:
    """Yield devices whose switch is not as the others', or that it is on everywhere."""
    switches = [network.tls for _, _, network in devices if network.tls is not None]
    if not switches:
        return
    # Between two that differ, off is right: nothing here needs NPU TLS, and it needs certificates.
    usual = sum(switches) * 2 > len(switches)
    mixed = len(set(switches)) > 1
    for host in hosts:
        mine = [d for d, n in answers(host).items() if n.tls is not None]
        wrong = [d for d in mine if answers(host)[d].tls is not usual]
        fix = _switch(wrong or mine, on=usual and mixed)
        if wrong:
            yield TLS.bad(
                host.name,
                f"{listing(wrong)}: {'off' if usual else 'on'}",
                expected=f"{'on' if usual else 'off'}, as on the other devices",
                fix=fix,
            )
        elif mine and usual and not mixed:
            yield TLS.bad(host.name, f"{listing(mine)}: on", fix=fix, severity="warn")
        elif mine:
            yield TLS.ok(host.name, f"{listing(mine)}: {'on' if usual else 'off'}")


def _switch(devices: Sequence[int], *, on: bool) -> str:
    """Return the command that sets the switch of some devices."""
    numbers = " ".join(str(device) for device in devices)
    return f"`for i in {numbers}; do hccn_tool -i $i -tls -s enable {int(on)}; done`"


def _versions(hosts: Sequence[AscendHost]) -> Iterator[Check]:
    """Yield hosts whose driver is not the fleet's: the one on most hosts, then the newest."""
    count = Counter(host.ascend.driver for host in hosts if host.ascend.driver)
    if not count:
        return
    usual = max(count, key=lambda version: (count[version], order(version)))
    for host in hosts:
        if host.ascend.driver == usual:
            yield VERSIONS.ok(host.name, f"driver {usual}", expected=f"driver {usual}")
        elif host.ascend.driver:
            yield VERSIONS.bad(
                host.name,
                f"driver {host.ascend.driver}",
                expected=f"driver {usual}, as on {count[usual]} of {count.total()} hosts",
                fix=f"install driver {usual} with its firmware on {host.name}",
            )
