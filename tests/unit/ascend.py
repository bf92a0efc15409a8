"""Ascend hosts for the unit tests: what the tools print (captured outputs), raw and as facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pdinfra.model.ascend import HCCL_PORTS, AscendFacts, HccnConf, Npu, NpuNetwork, NpuProcess
from pdinfra.model.facts import HostFacts, NetworkFact, TextFact
from pdinfra.model.plan import HostPlan, Plan
from pdinfra.planning.finish import Finished, finish
from tests.commands import ROOT
from tests.unit.builders import (
    ASCEND,
    NOW,
    ONE_HOST,
    TWO_HOSTS,
    Groups,
    facts,
    observed,
    plan,
)
from tests.unit.builders import network as host_network

CAPTURED = Path(__file__).parent / "captured"
A2_INFO = (CAPTURED / "npu-smi-info-a2.txt").read_text()
A3_INFO = (CAPTURED / "npu-smi-info-a3.txt").read_text()
WIDE_INFO = (CAPTURED / "npu-smi-info-wide.txt").read_text()
NOT_LOADED = """\
DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)
dcmi module initialize failed. ret is -8005
"""
HELD = "dcmi model initialized failed, because the device is used. ret is -8020\n"
A2_LIST = """\
	Total Count                    : 2

	NPU ID                         : 0
	Chip Count                     : 1

	NPU ID                         : 7
	Chip Count                     : 1
"""
A3_LIST = A2_LIST.replace(": 7", ": 4").replace(
    "Chip Count                     : 1", "Chip Count : 2"
)
BOARD = """\
	NPU ID                         : 0
	Software Version               : 25.3.rc1
	Firmware Version               : 7.8.0.2.212
	Compatibility                  : OK
	PCIe Bus Info                  : 0000:61:00.0
"""
HEALTH = """\
	NPU ID                         : 7
	Health                         : Warning
	Error Code                     :  80E01801
	Error Information              : node type=SOC, sensor type=Temperature
"""
DRIVER_INFO = """\
Version=25.3.rc1
ascendhal_version=7.35.23
tsfw_version=1.0
Innerversion=V100R001C23SPC002B212
compatible_version=[V100R001C19],[V100R001C20],[V100R001C21],[V100R001C22],[V100R001C23]
compatible_version_fw=[7.0.0,8.9.9]
package_version=25.3.rc1
"""
FIRMWARE_INFO = "Version=7.8.0.2.212\nfirmware_version=1.0\npackage_version=25.3.rc1\n"
CONF = "address_0=10.20.1.1\nnetmask_0=255.255.0.0\nsend_arp_status_0=1\naddress_7=10.20.1.8\n"
TLS = """\
dev_id:0, tls switch[0](0:disable, 1:enable), tls preconfigured[1](0:non-preset, 1:preset), \
tls alarm time threshold[60]days
dev_id:0, [pub cert] info:
tls expiration status[0](0:normal, 1:near expiration, 2:has expired)
"""
CONTAINER = "e" * 64


def said(stdout: str, rc: int | None = 0, stderr: str = "") -> dict[str, Any]:
    """Return a finished call as the facts module brings it."""
    return {"rc": rc, "stdout": stdout, "stderr": stderr}


def answers(address: str = "10.20.1.1", **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what hccn_tool answers for one healthy A2 device."""
    return {
        "ip": said(f"ipaddr:{address}\nnetmask:255.255.0.0\n"),
        "link": said("link status: UP\n"),
        "net_health": said("net health status: Success\n"),
        "netdetect": said("netdetect address: 10.20.255.254\n"),
        "gateway": said("default gateway:10.20.255.254, Iface:eth0\n"),
        "tls": said(TLS),
        **more,
    }


def raw(**more: Any) -> dict[str, Any]:
    """Return what the facts module brings of a healthy A2 host with the devices 0 and 7."""
    text = {"mode": 0o640, "uid": 0}
    return {
        "places": {
            "npu-smi": ["/usr/local/bin/npu-smi"],
            "hccn_tool": ["/usr/local/Ascend/driver/tools/hccn_tool"],
        },
        "npu_smi": {
            "info": said(A2_INFO),
            "list": said(A2_LIST),
            "cards": {"0": {"board": said(BOARD)}, "7": {"board": said(BOARD)}},
        },
        "network": {"0": answers(), "7": answers("10.20.1.8")},
        "files": {
            "/etc/hccn.conf": {**text, "text": CONF},
            "/etc/ascend_install.info": {**text, "text": "Driver_Install_Type=full\n"},
            "/usr/local/Ascend/driver/version.info": {**text, "text": DRIVER_INFO},
            "/usr/local/Ascend/firmware/version.info": {**text, "text": FIRMWARE_INFO},
        },
        "nodes": ["/dev/davinci0", "/dev/davinci7", "/dev/davinci_manager"],
        "mounts": {"/usr/local/dcmi": "directory"},
        "openers": [],
        "processes": {},
        "claims": [],
        **more,
    }


def fleet(b: Mapping[str, Any] | None = None, **more: Any) -> Plan:
    """Return one prefill instance on a, one decode instance on b, two devices each.

    b: variables of that host alone.
    """
    every = {
        **ASCEND,
        "pd_image": "quay.io/ascend/vllm-ascend:v0.11.0",
        "pd_tensor_parallel_size": 2,
    }
    return plan(TWO_HOSTS, {**every, **more}, b=b or {})


def npu(device: int, **more: Any) -> Npu:
    """Return a healthy, idle A2 device."""
    values = {"device": device, "card": device, "chip": 0, "name": "910B3", "health": "OK"}
    return Npu.model_validate({**values, "hbm_used": 3338, "hbm_total": 65536, **more})


def network(host: int, device: int, **more: Any) -> NpuNetwork:
    """Return a device's network as it should be."""
    values = {
        "address": f"10.20.{host}.{device + 1}",
        "netmask": "255.255.0.0",
        "link": "UP",
        "net_health": "Success",
        "detect": "10.20.255.254",
        "gateway": "10.20.255.254",
        "tls": False,
    }
    return NpuNetwork.model_validate({**values, **more})


def process(pid: int = 4711, name: str = "python", **more: Any) -> NpuProcess:
    """Return a process on a device."""
    return NpuProcess(pid=pid, name=name, **more)


def ascend(of: HostPlan, index: int, devices: Sequence[int] = range(8), **more: Any) -> AscendFacts:
    """Return the facts of a healthy A2 host; ``index`` is the third number of its addresses."""
    networks = {device: network(index, device) for device in of.observe.devices}
    values: dict[str, Any] = {
        "state": "ready",
        "npu_smi": ("/usr/local/bin/npu-smi",),
        "hccn_tool": "/usr/local/Ascend/driver/tools/hccn_tool",
        "driver": "25.3.rc1",
        "firmware": "7.8.0.2.212",
        "firmware_ranges": (("7.0.0", "8.9.9"),),
        "npus": tuple(npu(device) for device in devices),
        "compatibility": dict.fromkeys(devices, "OK"),
        "networks": networks,
        "conf": HccnConf(
            addresses={device: f"10.20.{index}.{device + 1}" for device in devices},
        ),
        "nodes": tuple(
            f"/dev/{name}"
            for name in (
                *(f"davinci{device}" for device in devices),
                *("davinci_manager", "devmm_svm", "hisi_hdc"),
            )
        ),
        "mounts": {
            path: "directory" if path.endswith(("dcmi", "lib64")) else "file"
            for path in of.observe.mounts
        },
    }
    return AscendFacts.model_validate({**values, **more})


def fleet_facts(of: Plan, **more: dict[str, Any]) -> dict[str, HostFacts]:
    """Return the facts of all hosts of a plan; keyword arguments change one host's Ascend side."""
    return {
        host.name: facts(host, ascend=ascend(host, index, **more.get(host.name, {})))
        for index, host in enumerate(of.hosts, start=1)
        if host.observe.devices
    }


def _values(name: str) -> dict[str, Any]:
    """Return what an example inventory says for all its hosts."""
    text = (ROOT / "inventories" / name / "group_vars" / "all.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


GUIDE = _values("ascendcloud-1p1d")
"""The first deployment of guide ascendcloud-ranktable-pd."""
CLOUD = _values("ascendcloud-2p2d")
"""A prefill and a decode instance on each host, on devices 0 to 3."""
DIST = {
    **ASCEND,
    "pd_connector": "LLMDataDistCMgrConnector",
    "pd_image": "quay.io/ascend/vllm-ascend:v0.10.1rc1",
}
"""vllm-ascend with the connector that reads a rank table."""
BOTH_HOSTS = {"prefill": ["a", "b"], "decode": ["a", "b"], "router": ["a"]}
SMALL = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}
SBIN = "/usr/local/sbin/npu-smi"


def addressed(groups: Groups) -> dict[str, dict[str, Any]]:
    """Return an IPv4 address for each host: 192.0.2.11 and up, in the order of their names."""
    names = sorted({host for group in groups.values() for host in group})
    return {name: {"pd_address": f"192.0.2.{n}"} for n, name in enumerate(names, start=11)}


def cloud(groups: Groups = BOTH_HOSTS, every: Mapping[str, Any] = CLOUD, **more: Any) -> Plan:
    """Return a plan whose hosts have addresses; keyword arguments are variables of one host."""
    own = {name: {**mine, **more.get(name, {})} for name, mine in addressed(groups).items()}
    return plan(groups, every, **own)


def guide(**more: Any) -> Plan:
    """Return the guide's 1p1d on one host, with more variables."""
    return cloud(ONE_HOST, {**GUIDE, **more})


def bare(of: Plan, **more: Any) -> dict[str, HostFacts]:
    """Return hosts with cards and nothing of the service; more: Ascend facts of one host.

    A device's address is 10.20.N.D+1, N from the end of the host's own address.
    """
    found = {}
    for host in of.active:
        mine = None
        if host.observe.devices:
            index = int(host.address.rpartition(".")[2]) - 10
            mine = ascend(host, index, **{"npu_smi": (SBIN,), **more.get(host.name, {})})
        found[host.name] = facts(host, ascend=mine, network=settled_network(of, host))
    return found


def settled_network(of: Plan, host: HostPlan) -> NetworkFact:
    """Return a network in which there is nothing left to set."""
    return host_network(
        host,
        resolved={other.name: (other.address,) for other in of.active},
        reserved=frozenset(HCCL_PORTS),
        daemons=("chronyd",),
    )


def running(of: Plan, **more: Any) -> dict[str, HostFacts]:
    """Return the facts after `up`: containers run, tables are there; more: as in ``bare``."""
    before = bare(of, **more)
    return as_made(finish(of, before), before)


def as_made(finished: Finished, before: Mapping[str, HostFacts]) -> dict[str, HostFacts]:
    """Return hosts with what a finished plan makes of them."""
    return {
        name: seen.model_copy(
            update={
                "containers": tuple(observed(c) for c in finished.plan.host(name).containers),
                "rank_tables": {
                    path: text_fact(text) for path, text in finished.tables.get(name, {}).items()
                },
            }
        )
        for name, seen in before.items()
    }


def text_fact(text: str, **more: Any) -> TextFact:
    """Return a file as the role writes it."""
    values = {"mode": 0o644, "uid": 0, "gid": 0, "changed": NOW}
    return TextFact.model_validate({"text": text, **values, **more})


def with_card(
    seen: Mapping[str, HostFacts], host: str, **cards: str | None
) -> dict[str, HostFacts]:
    """Return facts with other addresses of one host's devices, ``d4="10.20.1.99"``; None: none."""
    mine = seen[host]
    assert mine.ascend is not None
    networks = dict(mine.ascend.networks)
    conf = dict(mine.ascend.conf.addresses) if mine.ascend.conf else {}
    for name, address in cards.items():
        device = int(name[1:])
        networks[device] = networks[device].model_copy(update={"address": address})
        conf.pop(device, None)
    changed = {"networks": networks, "conf": HccnConf(addresses=conf)}
    return {
        **seen,
        host: mine.model_copy(update={"ascend": mine.ascend.model_copy(update=changed)}),
    }
