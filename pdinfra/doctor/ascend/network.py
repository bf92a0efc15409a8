"""The planned devices' own network, host by host: hccn_tool and /etc/hccn.conf."""

from __future__ import annotations

from collections.abc import Iterator

from pdinfra.doctor.ascend.host import AscendHost, all_or, listing
from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import NpuNetwork
from pdinfra.model.checks import Check
from pdinfra.reading.hccn import BUSY

TOOL = Rule(
    id="npu-hccn-tool",
    what="hccn_tool is there and answers for every planned device.",
    expected="hccn_tool answers",
    fix="install the driver: hccn_tool is part of it",
    source="hccn_tool source, error families; gpustack runtime PR 28",
)
ADDRESS = Rule(
    id="npu-address",
    what="Every planned device has an address of its own network.",
    expected="an address",
    fix="set the device's address",
    source="vllm-ascend PR 2080; gpustack runtime PR 28",
)
CONF = Rule(
    id="npu-hccn-conf",
    what="/etc/hccn.conf is there, not empty, and says the same as hccn_tool.",
    expected="the address of every planned device",
    fix="set the addresses again with hccn_tool: it writes the file",
    source="vllm-ascend issues 4866, 7711; Mooncake PR 502",
)
LINK = Rule(
    id="npu-link",
    what="Every planned device's link is up (on A3 a warning, unless RoCE is used).",
    expected="link status: UP",
    fix="check cable, optical module and switch port",
    source="vllm-ascend PD tutorial, deployment checks; issue 13934",
)
NET_HEALTH = Rule(
    id="npu-net-health",
    what="Every planned device reaches the address that it watches (Init: none is set, a warning).",
    expected="Success",
    fix="check the network behind the device",
    source="vllm-ascend PD tutorial, deployment checks",
)
GATEWAY = Rule(
    id="npu-gateway",
    what="Every planned device has a gateway (not asked of A3's HCCS).",
    expected="a gateway",
    fix="set the device's gateway",
    source="vllm-ascend PD tutorial, deployment checks",
    severity="warn",
)

RULES = (TOOL, ADDRESS, CONF, LINK, NET_HEALTH, GATEWAY)


def checks(host: AscendHost) -> Iterator[Check]:
    """Yield the network's checks; without a working driver hccn_tool has nothing to say."""
    if host.ascend.state != "ready":
        return
    if host.ascend.hccn_tool is None:
        yield TOOL.bad(host.name, "no hccn_tool")
        return
    yield from all_or(TOOL, host.name, _tool(host), host.ascend.hccn_tool)
    asked = answers(host)
    if not asked:
        return
    well = listing(list(asked))
    yield from all_or(ADDRESS, host.name, _address(host), f"{well} have one")
    yield from all_or(CONF, host.name, _conf(host), "as hccn_tool says")
    yield from all_or(LINK, host.name, _link(host), f"{well} UP")
    yield from all_or(NET_HEALTH, host.name, _net_health(host), f"{well} Success")
    if not host.a3:
        yield from all_or(GATEWAY, host.name, _gateway(host), f"{well} have one")


def answers(host: AscendHost) -> dict[int, NpuNetwork]:
    """Return the devices of the plan that hccn_tool answered for."""
    there = {npu.device for npu in host.ascend.npus}
    return {
        device: network
        for device in host.devices
        if device in there
        and (network := host.ascend.networks.get(device)) is not None
        and not network.error
    }


def _tool(host: AscendHost) -> Iterator[Check]:
    """Yield the devices that the tool did not answer for, those with one reason together."""
    reasons: dict[str, list[int]] = {}
    for device in host.devices:
        network = host.ascend.networks.get(device)
        if network is not None and network.error and host.ascend.npu(device) is not None:
            reasons.setdefault(network.error, []).append(device)
    for reason, devices in reasons.items():
        fix = f"`{host.ascend.hccn_tool} -i {devices[0]} -link -g` on {host.name} shows it"
        if BUSY in reason:
            fix = "`pgrep -af hccn_tool` shows who else uses it: let it end, and look again"
        elif "permission" in reason:
            fix = f"set ansible_become: true for {host.name}: hccn_tool wants root"
        yield TOOL.bad(host.name, f"{listing(devices)}: {reason}", fix=fix)


def _address(host: AscendHost) -> Iterator[Check]:
    """Yield devices without an address; the file may know the one that they had."""
    for device, network in answers(host).items():
        if network.address is not None:
            continue
        fix = f"the super pod's manager gives the virtual NIC of device {device} its address"
        if host.ascend.generation == "a2":
            conf = host.ascend.conf
            known = conf.addresses.get(device) if conf else None
            fix = _set_address(device, known or "<free address>", _netmask(host))
        yield ADDRESS.bad(host.name, f"device {device} has none", fix=fix)


def _netmask(host: AscendHost) -> str:
    """Return the netmask that the host's devices use."""
    return next((n.netmask for n in answers(host).values() if n.netmask), "255.255.255.0")


def _set_address(device: int, address: str, netmask: str) -> str:
    """Return the command that sets a device's address."""
    return f"`hccn_tool -i {device} -ip -s address {address} netmask {netmask}`"


def _conf(host: AscendHost) -> Iterator[Check]:
    """Yield what is wrong with /etc/hccn.conf: containers read the devices' addresses from it."""
    conf, a3 = host.ascend.conf, host.ascend.generation == "a3"
    known = {d: n for d, n in answers(host).items() if n.address is not None}
    commands = "; ".join(
        _set_address(d, n.address or "", n.netmask or _netmask(host)) for d, n in known.items()
    )
    again = f"set the addresses again, which writes the file: {commands}" if commands else ""
    if conf is None:
        fix = f"`touch /etc/hccn.conf`; {again}" if again else "`touch /etc/hccn.conf`"
        yield CONF.bad(host.name, "no /etc/hccn.conf", fix="`touch /etc/hccn.conf`" if a3 else fix)
        return
    # An A3's virtual NICs are not in the file: it has the RoCE side alone.
    if a3:
        return
    if not conf.addresses and known:
        yield CONF.bad(host.name, "no address in /etc/hccn.conf", fix=again)
        return
    for device, network in known.items():
        written = conf.addresses.get(device)
        if written == network.address:
            continue
        line = f"address_{device}={written}" if written else f"no address_{device}"
        netmask = network.netmask or _netmask(host)
        fix = f"if that is right: {_set_address(device, network.address or '', netmask)}"
        if written:
            fix += f", if the file is: {_set_address(device, written, netmask)}"
        yield CONF.bad(
            host.name,
            f"{line} in /etc/hccn.conf",
            expected=f"address_{device}={network.address}, as hccn_tool says",
            fix=fix,
        )


def _link(host: AscendHost) -> Iterator[Check]:
    """Yield devices whose link is not up."""
    for device, network in answers(host).items():
        if network.vnic not in (None, "UP"):
            fix = f"`hccn_tool -i {device} -vnic -g` shows it; the super pod's manager sets it up"
            yield LINK.bad(host.name, f"device {device}: virtual NIC {network.vnic}", fix=fix)
        if network.link == "UP":
            continue
        fix = (
            f"check cable, optical module (`hccn_tool -i {device} -optical -g`) and switch port "
            f"(`hccn_tool -i {device} -lldp -g` names it)"
        )
        found = f"device {device}: link {network.link or 'unknown'}"
        yield LINK.bad(host.name, found, fix=fix, severity="warn" if host.a3 else None)


def _net_health(host: AscendHost) -> Iterator[Check]:
    """Yield devices that do not reach what they watch; Init means that they watch nothing."""
    for device, network in answers(host).items():
        # A link that is down or an address that is not set explains it.
        if network.net_health == "Success" or network.link == "DOWN" or network.address is None:
            continue
        watched = network.detect or "what it watches"
        found = f"device {device}: {network.net_health or 'unknown'}"
        if network.net_health == "Init":
            target = network.gateway or "<gateway>"
            fix = f"`hccn_tool -i {device} -netdetect -s address {target}`"
            yield NET_HEALTH.bad(host.name, found, fix=fix, severity="warn")
            continue
        fix = f"`hccn_tool -i {device} -ping -g address {watched}`; check switch, VLAN and gateway"
        yield NET_HEALTH.bad(host.name, found, fix=fix, severity="warn" if host.a3 else None)


def _gateway(host: AscendHost) -> Iterator[Check]:
    """Yield devices without a gateway: they reach their own subnet only."""
    for device, network in answers(host).items():
        if network.gateway is None:
            fix = f"`hccn_tool -i {device} -gateway -s gateway <address of the switch>`"
            yield GATEWAY.bad(host.name, f"device {device} has none", fix=fix)
