# Copyright: pdinfra contributors. Licence: Apache-2.0
"""What the modules that use Ascend's tools on a host share. Python's standard library only.

Everything here collects: what the tools said is read by ``pdinfra.reading`` on the controller.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
import time
from typing import Any

NPU_SMI = (
    "/usr/local/bin/npu-smi",
    "/usr/local/sbin/npu-smi",
    "/usr/bin/npu-smi",
    "/usr/sbin/npu-smi",
)
HCCN_TOOL = (
    "/usr/local/Ascend/driver/tools/hccn_tool",
    "/usr/local/bin/hccn_tool",
    "/usr/bin/hccn_tool",
)
FILES = (
    "/etc/hccn.conf",
    "/etc/ascend_install.info",
    "/usr/local/Ascend/driver/version.info",
    "/usr/local/Ascend/firmware/version.info",
)
DEV = "/dev"
NODES = ("davinci*", "devmm_svm", "hisi_hdc")
QUESTIONS = ("-link", "-net_health", "-netdetect", "-gateway", "-tls")

TIMEOUT = 30.0
"""Seconds for one call; a driver that hangs must not hang the whole look."""
PATIENCE = 5.0
"""Seconds that all calls of one look may wait together while hccn_tool is busy."""
PAUSE = 0.2

CARD = re.compile(r"NPU ID\s*:\s*(\d+)")
CHIPS = re.compile(r"Chip Count\s*:\s*(\d+)")
SICK = re.compile(r"\|\s*(?:Warning|Alarm|Critical|UNKNOWN)\s*\|")
PROCESS = re.compile(r"^\|\s*\d+\s+\d+\s*\|\s*(\d+)\s*\|", re.M)
NODE = re.compile(r"davinci(\d+)$")


def run(*argv: str) -> dict[str, Any]:
    """Run a command; ``rc`` is None if it could not start or gave no answer in time."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return _unanswered("no answer within %d s" % TIMEOUT)
    except OSError as error:
        return _unanswered(str(error))
    return {
        "rc": done.returncode,
        "stdout": done.stdout.decode("utf-8", "replace"),
        "stderr": done.stderr.decode("utf-8", "replace"),
    }


def _unanswered(why: str) -> dict[str, Any]:
    """Return the answer of a call that gave none."""
    return {"rc": None, "stdout": "", "stderr": why}


def places(candidates: tuple[str, ...]) -> list[str]:
    """Return where a tool is; a directory of its name (Docker makes such) is not the tool."""
    return [path for path in candidates if os.path.isfile(path)]


def is_a3(info: str) -> bool:
    """Tell whether `npu-smi info` or `npu-smi info -m` printed the columns of an A3 host."""
    return "Phy-ID" in info


class HccnTool:
    """hccn_tool, one call after the other: it refuses ("busy") whoever calls meanwhile."""

    def __init__(self, path: str) -> None:
        """Remember where the tool is."""
        self.path = path
        self.patience = PATIENCE
        self.hung = False

    def ask(self, device: int, *words: str) -> dict[str, Any]:
        """Call the tool for one physical device, again while it is busy and patience lasts."""
        if self.hung:
            return _unanswered("not asked: an earlier call gave no answer")
        while True:
            started = time.monotonic()
            answer = run(self.path, "-i", str(device), *words)
            self.hung = answer["rc"] is None
            busy = "is busy" in answer["stdout"] + answer["stderr"]
            if not busy or self.patience <= 0:
                return answer
            time.sleep(PAUSE)
            self.patience -= time.monotonic() - started


def collect(devices: list[int], mounts: list[str]) -> dict[str, Any]:
    """Return all of a host's Ascend side that a plan for these physical devices depends on."""
    npu_smi, hccn_tool = places(NPU_SMI), places(HCCN_TOOL)
    smi = _npu_smi(npu_smi[0], devices) if npu_smi else {}
    info = smi.get("info", {}).get("stdout", "")
    return {
        "places": {"npu-smi": npu_smi, "hccn_tool": hccn_tool},
        "npu_smi": smi,
        "network": _network(hccn_tool[0], devices, is_a3(info)) if hccn_tool else {},
        "files": {path: _file(path) for path in FILES},
        "nodes": sorted(
            path for pattern in NODES for path in glob.glob(os.path.join(DEV, pattern))
        ),
        "mounts": {path: _kind(path) for path in mounts},
        "openers": openers(set(devices)),
        "processes": {pid: process(pid) for pid in PROCESS.findall(info)},
    }


def _npu_smi(path: str, devices: list[int]) -> dict[str, Any]:
    """Ask npu-smi for the host and the devices' cards; nothing more once it says that it cannot."""
    found: dict[str, Any] = {"info": run(path, "info"), "list": None, "cards": {}}
    if found["info"]["rc"] != 0:
        return found
    found["list"] = run(path, "info", "-l")
    topics = ["board"]
    if SICK.search(found["info"]["stdout"]):
        topics.append("health")
    listed = found["list"]["stdout"]
    chips = max([1] + [int(count) for count in CHIPS.findall(listed)])
    # Physical ids count the chips through: device 5 of two-chip cards is on card 2.
    wanted = {str(device // chips) for device in devices}
    for card in CARD.findall(listed):
        if card in wanted:
            found["cards"][card] = {
                topic: run(path, "info", "-t", topic, "-i", card) for topic in topics
            }
    return found


def _network(path: str, devices: list[int], a3: bool) -> dict[str, dict[str, Any]]:
    """Ask hccn_tool for every device; an A3's devices talk over their virtual NIC."""
    tool = HccnTool(path)
    questions = ("-vnic" if a3 else "-ip", *QUESTIONS)
    return {
        str(device): {
            question.lstrip("-"): tool.ask(device, question, "-g") for question in questions
        }
        for device in devices
    }


def _file(path: str) -> dict[str, Any] | None:
    """Return a file's text, mode and owner, or None where there is none to read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            stat = os.fstat(handle.fileno())
            return {"text": handle.read(1 << 20), "mode": stat.st_mode & 0o7777, "uid": stat.st_uid}
    except OSError:
        return None


def _kind(path: str) -> str:
    """Return what is at a path: file, directory or absent."""
    if os.path.isdir(path):
        return "directory"
    return "file" if os.path.exists(path) else "absent"


def openers(devices: set[int]) -> list[dict[str, Any]]:
    """Return the processes that have a device's node open, as `fuser -v` does."""
    seen: set[tuple[int, str]] = set()
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            folder, _, name = os.readlink(link).rpartition("/")
        except OSError:
            continue
        node = NODE.match(name)
        if node and folder == DEV and int(node.group(1)) in devices:
            seen.add((int(node.group(1)), link.split("/")[2]))
    return [dict(process(pid), device=device, pid=int(pid)) for device, pid in sorted(seen)]


def process(pid: str) -> dict[str, Any]:
    """Return a process's name and cgroup; None for one that cannot be seen."""
    found = {}
    for name in ("comm", "cgroup"):
        text = _file("/proc/%s/%s" % (pid, name))
        found[name] = text["text"].strip() if text else None
    return found
