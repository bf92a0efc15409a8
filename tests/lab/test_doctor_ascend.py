"""The doctor on a lab of Ascend hosts: each fault is found on exactly its host, with its fix.

The hosts are real (systemd, SSH, a Docker engine each); their cards, tools, driver are SIMULATED.
Faults that do not touch each other share a run: what is expected stays exact.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.commands import ROOT, Result, command, lab_name, pdinfra

pytestmark = pytest.mark.lab

LAB = lab_name("npu")
INVENTORY = ROOT / "inventories" / f"lab-{LAB}"
SERVICE = {
    "pd_accelerator": "ascend",
    "pd_connector": "MooncakeConnectorV1",
    # The last images that the simulated driver, 25.3.rc1, is new enough for without a warning.
    "pd_image": "quay.io/ascend/vllm-ascend:v0.11.0",
    "pd_tensor_parallel_size": 2,
    "pd_router_metrics_port": 9100,
    # The default, 64, is for hosts with more memory than the lab's.
    "pd_shm_gib": 1,
}
A, B = "node1", "node2"
"""Two prefill devices on node1, two decode devices on node2: 0 and 1 each."""


@dataclass(frozen=True)
class Fault:
    """A fault of the simulator, switched on in one host."""

    host: str
    name: str
    device: int | None = None
    peer: str = ""

    def on(self) -> None:
        """Switch it on, as `lab fault` does, without a new Python each time."""
        words = [self.name]
        words += [] if self.device is None else ["--device", str(self.device)]
        words += ["--peer", self.peer] if self.peer else []
        switch(self.host, "on", *words)


@dataclass(frozen=True)
class Finding:
    """What the doctor has to say: exactly these and no others."""

    check: str
    host: str
    found: str
    fix: str
    status: str = "fail"


Round = tuple[tuple[Fault, ...], tuple[Finding, ...]]

ROUNDS: dict[str, Round] = {
    "cards": (
        (
            Fault(A, "unhealthy", 0),
            Fault(A, "zombie", 1),
            Fault(B, "process", 0),
            Fault(B, "unhealthy-warning", 1),
        ),
        (
            Finding("npu-health", A, "device 0: Alarm (error code 80E01801)", "-i 0 -c 0"),
            Finding("npu-memory", A, "device 1: 34", "fuser -v /dev/davinci1"),
            Finding("npu-busy", B, "device 0: python (pid 139667)", "kill 139667"),
            Finding("npu-health", B, "device 1: Warning", "device 1 out of pd_devices"),
        ),
    ),
    "cards, others": (
        (
            Fault(A, "process-nameless", 0),
            Fault(A, "missing-node", 1),
            Fault(B, "compat", 0),
            Fault(B, "hbm-in-use", 1),
        ),
        (
            Finding("npu-busy", A, "device 0: a process", "kill 485946"),
            Finding("npu-node", A, "no /dev/davinci1", "reboot"),
            Finding("npu-firmware", B, "NPU 0: Compatibility : NOT OK", "one HDK release"),
            Finding("npu-memory", B, "device 1: 11", "fuser -v /dev/davinci1"),
        ),
    ),
    "addresses": (
        (
            Fault(A, "ip-unset", 0),
            Fault(B, "gateway-unset", 0),
            Fault(B, "net-health-init", 1),
        ),
        (
            Finding("npu-address", A, "device 0 has none", "-i 0 -ip -s address"),
            Finding("npu-gateway", B, "device 0 has none", "-i 0 -gateway -s", "warn"),
            Finding("npu-net-health", B, "device 1: Init", "-i 1 -netdetect -s", "warn"),
        ),
    ),
    "links": (
        (
            Fault(A, "link-down", 0),
            Fault(A, "net-health-unreachable", 1),
            Fault(B, "ip-wrong", 1),
        ),
        (
            Finding("npu-link", A, "device 0: link DOWN", "-i 0 -optical -g"),
            Finding("npu-net-health", A, "device 1: Unreachable", "-i 1 -ping -g address"),
            Finding("npu-hccn-conf", B, "address_1=", "-i 1 -ip -s address"),
        ),
    ),
    "TLS and subnet": (
        (
            Fault(B, "tls-on", 0),
            Fault(A, "netmask-wrong", 1),
            Fault(B, "netdetect-unset", 1),
        ),
        (
            Finding("npu-tls", B, "device 0: on", "-tls -s enable 0"),
            Finding("npu-subnet", A, "device 1: ", "netmask 255.255.0.0"),
            Finding("npu-net-health", B, "device 1: Init", "-i 1 -netdetect -s", "warn"),
        ),
    ),
    "TLS of a whole host": (
        (Fault(A, "tls-on"), Fault(B, "hccn-conf-empty")),
        (
            Finding("npu-tls", A, "devices 0, 1: on", "for i in 0 1;"),
            Finding("npu-hccn-conf", B, "no address in", "-i 0 -ip -s address"),
        ),
    ),
    "one address on two hosts": (
        (Fault(B, "device-ip-double", 1, "10.20.1.1"),),
        (
            Finding(
                "npu-address-unique",
                f"{A} → {B}",
                f"10.20.1.1 on device 0 of {A} and 1 of {B}",
                "-i 1 -ip -s address",
            ),
        ),
    ),
    "held, and no npu-smi": (
        (Fault(A, "occupied"), Fault(B, "npu-smi-missing")),
        (
            Finding("npu-held", A, "ret is -8020", "docker inspect"),
            Finding("npu-driver", B, "no npu-smi", "install the driver"),
        ),
    ),
    "driver not loaded, and no hccn_tool": (
        (Fault(A, "no-driver"), Fault(B, "hccn-tool-missing")),
        (
            Finding("npu-driver", A, "ret is -8005", "lsmod"),
            Finding("npu-hccn-tool", B, "no hccn_tool", "install the driver"),
        ),
    ),
    "driver half up, and busy": (
        (Fault(A, "driver-partial"), Fault(B, "busy")),
        (
            Finding("npu-driver", A, "ret is -9005", "reboot"),
            Finding("npu-hccn-tool", B, "hccn_tool is busy", "pgrep -af hccn_tool"),
        ),
    ),
    # Containers mount npu-smi from where the host has it.
    "no card, and npu-smi elsewhere, which is none": (
        (Fault(A, "no-card"), Fault(B, "no-npu-smi-in-bin")),
        (Finding("npu-driver", A, "no NPU card", "reboot"),),
    ),
    "firmware too old, and no hccn.conf": (
        (Fault(A, "firmware-old"), Fault(B, "hccn-conf-missing")),
        (
            Finding("npu-firmware", A, "firmware 6.4.12.1.241", "one HDK release"),
            Finding("npu-hccn-conf", B, "no /etc/hccn.conf", "touch /etc/hccn.conf"),
        ),
    ),
    "another driver": (
        (Fault(B, "driver-old"),),
        (
            Finding("npu-firmware", B, "driver 24.1.rc2.2", "one HDK release"),
            Finding("npu-driver-same", B, "driver 24.1.rc2.2", "25.3.rc1", "warn"),
        ),
    ),
    "pairs that do not reach each other": (
        (Fault(A, "unreachable", 0, "10.20.2.2"), Fault(A, "lossy", 1, "10.20.2.2")),
        (
            Finding(
                "npu-ping",
                f"{A} → {B}",
                "2 of 4 device pairs do not: 0 → 1, 1 → 1 (0 of 3 packets came back)",
                "hccn_tool -i 0 -ping -g address 10.20.2.2",
            ),
        ),
    ),
    "direct cables": (
        (Fault(A, "unreachable", 0, "10.20.2.2"), Fault(A, "unreachable", 1, "10.20.2.1")),
        (Finding("npu-ping", f"{A} → {B}", "0 → 1, 1 → 0", "direct cables"),),
    ),
}


def lab(*words: str) -> Result:
    """Run a verb of the lab."""
    return command("python", "-m", "pdinfra", "lab", *words, "--name", LAB)


def inside(host: str, script: str) -> Result:
    """Run a script on a host, without the doctor's ways of getting there."""
    return command("docker", "exec", f"pdinfra-lab-{LAB}-{host}", "sh", "-c", script)


def switch(host: str, *words: str) -> None:
    """Switch the simulator's faults of a host."""
    switched = inside(host, shlex.join(("/opt/pdinfra-sim/fault", *words)))
    assert switched.code == 0, switched.text


def doctor() -> list[dict[str, Any]]:
    """Return every check of one run."""
    result = pdinfra("doctor", "--json", inventory=INVENTORY)
    checks: list[dict[str, Any]] = result.json["checks"]
    fails = [check for check in checks if check["status"] == "fail"]
    assert (result.code, result.json["ok"]) == ((1, False) if fails else (0, True)), fails
    return checks


def unwell(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what an Ascend check did not find well."""
    return [c for c in checks if c["id"].startswith("npu-") and c["status"] != "ok"]


def judge(expected: tuple[Finding, ...]) -> None:
    """Run the doctor: it finds exactly what is expected, and nothing else fails."""
    checks = doctor()
    found = {(c["id"], c["host"], c["status"]): c for c in unwell(checks)}
    wanted = {(f.check, f.host, f.status): f for f in expected}
    assert found.keys() == wanted.keys(), unwell(checks)
    assert len(unwell(checks)) == len(expected)
    for key, finding in wanted.items():
        assert finding.found in found[key]["found"]
        assert finding.fix in found[key]["fix"]
    others = [c for c in checks if c["status"] == "fail" and not c["id"].startswith("npu-")]
    assert others == []


@pytest.fixture(scope="module")
def hosts() -> Iterator[None]:
    """Two Ascend hosts with an Ascend service in the inventory, all well at the start and end."""
    up = lab("up", "--hosts", "2", "--npus", "8")
    assert up.code == 0, up.text
    variables = INVENTORY / "group_vars" / "all.yml"
    known = yaml.safe_load(variables.read_text())
    variables.write_text(yaml.safe_dump(known | SERVICE))
    judge(())
    yield
    judge(())
    assert lab("down").code == 0


@pytest.fixture
def healthy(hosts: None) -> Iterator[None]:
    """The hosts, with no fault left after the test."""
    yield
    for host in (A, B):
        switch(host, "off", "--all")


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(("faults", "expected"), ROUNDS.values(), ids=ROUNDS.keys())
def test_faults_are_found_where_they_are(
    faults: tuple[Fault, ...], expected: tuple[Finding, ...]
) -> None:
    for fault in faults:
        fault.on()
    judge(expected)


@pytest.mark.usefixtures("hosts")
def test_container_process_and_mount_that_are_really_there() -> None:
    """A container of somebody else, a process with the node open, a directory that is gone."""
    there = (
        "systemctl start docker &&"
        " tar -cf - --files-from /dev/null | docker import - nothing:1 &&"
        " docker run --detach --name jupyter --network none --device /dev/davinci0"
        " -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro nothing:1 /usr/bin/sleep 600"
    )
    gone = (
        "docker rm --force jupyter; docker rmi nothing:1;"
        " systemctl stop pd-test-holder; mv /usr/local/dcmi.away /usr/local/dcmi"
    )
    holder = (
        "systemd-run --unit pd-test-holder --property StandardInput=file:/dev/davinci1 sleep 600"
    )
    try:
        for script in (there, holder, "mv /usr/local/dcmi /usr/local/dcmi.away"):
            done = inside(B, script)
            assert done.code == 0, done.text
        judge(
            (
                Finding("npu-claimed", B, "container jupyter has device 0", "docker stop jupyter"),
                Finding("npu-busy", B, "device 1: sleep (pid ", "kill "),
                Finding("npu-mounts", B, "no /usr/local/dcmi", "install the driver"),
            )
        )
    finally:
        inside(B, gone)
