"""The simulated ``hccn_tool``: every query of the reference, and the few settings that go with it.

One call at a time per host, as with the real tool: a second one is told that the tool is busy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from . import hccn_conf, mounted, network
from .errors import ToolError
from .host import HCCN_LOCK, BusyError, Host, is_root
from .state import Nic, State, edit, load

HELP = """\
hccn_tool: pdinfra's SIMULATOR of Huawei's hccn_tool. It shows no real network port.
usage: hccn_tool -i DEVICE QUERY -g [address ADDRESS] [pkt N]
queries: -ip [-inet6] -link -net_health -netdetect -gateway -tls -lldp -vnic -ping -hccs_ping
         -speed -fec -optical -stat -link_stat
settings: -ip -s address A netmask M, -gateway -s gateway A, -netdetect -s address A,
          -tls -s enable 0|1"""
TAKES = 0.02
"""Seconds that a call takes at least: calls made at once collide as they do on a real host."""
SETTABLE = ("ip", "gateway", "netdetect", "tls")
DONE = "Cmd executed successfully!"


BUSY = ToolError("hccn_tool is busy, please try again.", 0x300B)
DENIED = ToolError("permission denied: pls check this cmd run permission.", 0x300C)
BAD_DEVICE = ToolError("device id is invalid, please check it.", 0x1004)
UNKNOWN_OPTION = ToolError("Command or option is not found.", 0x2003)
NO_CERTIFICATE = ToolError("No certificate found, please set certs firstly!", 0x200E)
NO_DRIVER = ToolError("Command execute failed!", 0x4001)
NO_GATEWAY = ToolError("Get gateway failed, because no gateway was preset there!", 0x4002)
NO_IP = ToolError("Get ipconf failed, because no ip was preset there!", 0x400D)


def main(argv: Sequence[str]) -> int:
    """Run one call; return the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    host = Host.current()
    try:
        if not is_root():
            raise DENIED
        with host.lock(HCCN_LOCK, wait=False):
            time.sleep(TAKES)
            print(answer(host, list(argv)))
    except BusyError:
        print(BUSY)
        return BUSY.exit_code
    except ToolError as error:
        print(error)
        return error.exit_code
    return 0


def answer(host: Host, words: list[str]) -> str:
    """Return what a call prints. Raises ToolError."""
    state = load(host)
    if state is None or state.driver_running is None or state.on("no-driver"):
        raise NO_DRIVER
    if state.on("busy"):
        raise BUSY
    device = _device(state, words)
    query = words[2].removeprefix("-") if len(words) > 2 else ""
    rest = words[3:]
    if query in SETTABLE and rest[:1] == ["-s"]:
        return _set(host, device, query, _options(rest[1:]))
    if query == "ip" and rest == ["-inet6", "-g"]:
        raise NO_IP
    if query in PINGS and rest[:1] == ["-g"]:
        options = _options(rest[1:])
        packets = options.get("pkt", "3")
        if "address" not in options or not packets.isdigit():
            raise UNKNOWN_OPTION
        return PINGS[query](state, device, options["address"], int(packets))
    if query not in QUERIES or rest != ["-g"]:
        raise UNKNOWN_OPTION
    return QUERIES[query](state, device)


def _device(state: State, words: list[str]) -> int:
    """Return the physical id behind ``-i``. Raises ToolError."""
    if len(words) < 2 or words[0] != "-i":
        raise UNKNOWN_OPTION
    if not words[1].isdigit() or int(words[1]) >= state.devices:
        raise BAD_DEVICE
    return int(words[1])


def _options(words: list[str]) -> dict[str, str]:
    """Return ``key value`` words as a mapping. Raises ToolError for a key alone."""
    if len(words) % 2:
        raise UNKNOWN_OPTION
    return dict(zip(words[::2], words[1::2], strict=True))


def _set(host: Host, device: int, what: str, options: dict[str, str]) -> str:
    """Set a device's address, gateway, netdetect address or TLS switch, and keep it in the file."""
    keys = {
        "ip": {"address": "address", "netmask": "netmask"},
        "gateway": {"gateway": "gateway"},
        "netdetect": {"address": "netdetect"},
        "tls": {"enable": "tls"},
    }[what]
    if set(options) != set(keys) or (what == "tls" and options["enable"] not in ("0", "1")):
        raise UNKNOWN_OPTION
    with edit(host) as state:
        nic = state.nics.setdefault(device, Nic())
        for option, field in keys.items():
            setattr(nic, field, int(options[option]) if field == "tls" else options[option])
        hccn_conf.write(host, state)
        mounted.write(host, state)
    return DONE


def _ip(state: State, device: int) -> str:
    """Answer -ip."""
    nic = hccn_conf.in_force(state, device)
    if not nic.address:
        raise NO_IP
    return f"ipaddr:{nic.address}\nnetmask:{nic.netmask}"


def _link(state: State, device: int) -> str:
    """Answer -link."""
    return f"link status: {'DOWN' if state.on('link-down', device) else 'UP'}"


def _net_health(state: State, device: int) -> str:
    """Answer -net_health; without an address to probe it stays in Init."""
    nic = hccn_conf.in_force(state, device)
    if state.on("net-health-init", device) or not nic.netdetect:
        return "net health status: Init"
    if state.on("net-health-unreachable", device):
        return "net health status: Unreachable"
    lost = state.on("link-down", device) or not nic.address
    return f"net health status: {'Fault' if lost else 'Success'}"


def _netdetect(state: State, device: int) -> str:
    """Answer -netdetect in the released wording; an unset one is all zeros."""
    return f"netdetect address: {hccn_conf.in_force(state, device).netdetect or '0.0.0.0'}"


def _gateway(state: State, device: int) -> str:
    """Answer -gateway."""
    gateway = hccn_conf.in_force(state, device).gateway
    if not gateway:
        raise NO_GATEWAY
    return f"default gateway:{gateway}, Iface:eth{device}"


def _tls(state: State, device: int) -> str:
    """Answer -tls with its certificate blocks."""
    if state.on("no-cert", device):
        raise NO_CERTIFICATE
    switch = hccn_conf.in_force(state, device).tls
    blocks = "".join(
        f"\ndev_id:{device}, [{name} cert] info:\n"
        "\tissuer[CN=pdinfra simulator]\n"
        "\tstart_time[Jan  1 00:00:00 2024 GMT]\n"
        "\tend_time[Dec 31 23:59:59 2048 GMT]\n"
        "\ttls expiration status[0](0:normal, 1:near expiration, 2:has expired)"
        for name in ("pub", "ca1")
    )
    return (
        f"dev_id:{device}, tls switch[{switch}](0:disable, 1:enable), "
        "tls preconfigured[1](0:non-preset, 1:preset), "
        f"tls alarm time threshold[60]days{blocks}"
    )


def _lldp(state: State, device: int) -> str:
    """Answer -lldp: what the switch says of itself."""
    if state.on("lldp-empty", device):
        return ""
    return (
        "Chassis ID TLV\n\tMAC: aa:bb:cc:dd:ee:01\n"
        f"Port ID TLV\n\tIfname: 400GE1/{state.host_index}/{device}:1\n"
        "Time To Live TLV\n\t120\n"
        "System Name TLV\n\tlab-switch-1"
    )


def _vnic(state: State, device: int) -> str:
    """Answer -vnic: A3 only."""
    if state.profile.generation != "A3":
        raise UNKNOWN_OPTION
    down = state.on("vnic-down", device)
    return (
        f"vnic link status: {'DOWN' if down else 'UP'}\n"
        f"vnic ipaddr: {hccn_conf.vnic_address(state.host_index, device)}\n"
        "vnic netmask: 255.255.255.0"
    )


def _speed(state: State, device: int) -> str:
    """Answer -speed."""
    unknown = state.on("speed-unknown", device) or state.on("link-down", device)
    return "Speed: Unknown!" if unknown else "Speed: 200000 Mb/s"


def _fec(_state: State, _device: int) -> str:
    """Answer -fec."""
    return "fec mode: rs FEC mode"


def _optical(state: State, device: int) -> str:
    """Answer -optical."""
    if state.on("optical-absent", device):
        return "optical info:\npresent              : not present"
    return (
        "optical info:\n"
        "present              : present\n"
        "temperature          : 44 C\n"
        "Tx Power0            : 1.0120 mW\n"
        "Rx Power0            : 0.9870 mW\n"
        "Rx Los Flag          : 0x0"
    )


def _stat(_state: State, _device: int) -> str:
    """Answer -stat."""
    names = ("mac_tx_mac_pause_num", "mac_rx_mac_pause_num", "mac_tx_bad_pkt_num")
    more = ("mac_rx_bad_pkt_num", "roce_rx_err_pkt_num", "roce_new_pkt_rty_num")
    return "packet statistics:\n" + "\n".join(f"{name}:0" for name in names + more)


def _link_stat(state: State, device: int) -> str:
    """Answer -link_stat: how often the link went up."""
    count = 37 if state.on("link-flap", device) else 2
    history = "\n".join(
        f"[devid {device}]    Tue Jun  6 16:{32 + line:02}:12 2023    LINK {word}"
        for line, word in enumerate(["UP", "DOWN", "UP"])
    )
    return (
        f"[device {device}]current time        : Wed Jun  7 10:08:28 2023\n"
        f"[device {device}]link up count       : {count}\n"
        f"[device {device}]link change records :\n{history}"
    )


def _received(state: State, device: int, address: str, packets: int) -> int:
    """Return how many of the packets come back; asks the lab's real network."""

    def hit(fault: str) -> bool:
        return any(network.matches(peer, address) for peer in state.peers(fault, device))

    if hit("unreachable") or not network.reaches(address, state.host_index):
        return 0
    return packets - -(-packets // 3) if hit("lossy") else packets


def _ping(state: State, device: int, address: str, packets: int) -> str:
    """Answer -ping: over the device's own network port."""
    works = not state.on("link-down", device) and hccn_conf.in_force(state, device).address
    received = _received(state, device, address, packets) if works else 0
    lines = [f"device {device} PING {address}"]
    lines += [f"recv seq={number},time=0.114000ms" for number in range(received)]
    lines += [f"recv time out seq={number}" for number in range(received, packets)]
    loss = 100 * (packets - received) / max(packets, 1)
    lines.append(f"{packets} packets transmitted, {received} received, {loss:.2f}% packet loss")
    return "\n".join(lines)


def _hccs_ping(state: State, device: int, address: str, packets: int) -> str:
    """Answer -hccs_ping: between the chips of a super pod, A3 only."""
    if state.profile.generation != "A3":
        raise UNKNOWN_OPTION
    works = not state.on("vnic-down", device)
    received = _received(state, device, address, packets) if works else 0
    lines = [f"device {device} HCCS PING {address}"]
    lines += [
        f"recv seq={number},time=0.021000ms This pkt ping success!" for number in range(received)
    ]
    lines += [f"recv time out seq={number}" for number in range(received, packets)]
    loss = 100 * (packets - received) / max(packets, 1)
    lines.append(f"{packets} packets transmitted, {received} received, {loss:.2f}% packets loss")
    if received:
        lines.append("max time=0.021ms, min time=0.021ms, average time=0.021ms, TP95 time=0.021ms")
    return "\n".join(lines)


QUERIES: dict[str, Callable[[State, int], str]] = {
    "ip": _ip,
    "link": _link,
    "net_health": _net_health,
    "netdetect": _netdetect,
    "gateway": _gateway,
    "tls": _tls,
    "lldp": _lldp,
    "vnic": _vnic,
    "speed": _speed,
    "fec": _fec,
    "optical": _optical,
    "stat": _stat,
    "link_stat": _link_stat,
}
PINGS: dict[str, Callable[[State, int, str, int], str]] = {"ping": _ping, "hccs_ping": _hccs_ping}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
