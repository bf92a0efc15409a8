"""What hccn_tool prints, and /etc/hccn.conf → typed data. Both wordings of each answer are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pdinfra.model.ascend import HccnConf, NpuNetwork

ADDRESS = re.compile(r"ip ?addr: ?(\S+)")
NETMASK = re.compile(r"netmask: ?(\S+)")
LINK = re.compile(r"^link status: *(\S+)", re.M)
VNIC = re.compile(r"^vnic link status: *(\S+)", re.M)
HEALTH = re.compile(r"net health status: *(\S.*?)\s*$", re.M)
DETECT = re.compile(r"netdetect addr(?:ess)?: *(\S+)")
GATEWAY = re.compile(r"default gateway: *([^\s,]+)")
TLS = re.compile(r"tls switch\[(\d)\]")
CONF = re.compile(r"^(address|netmask)_(\d+)\s*=\s*(\S+)\s*$", re.M)
UNSET = re.compile(r"was preset there|No certificate found")
"""The tool fails when a thing was never set; that is an answer, not an error."""

BUSY = "is busy"
Answers = Mapping[str, Mapping[str, Any]]


def network(answers: Answers) -> NpuNetwork:
    """Read one device's answers, by question (``ip`` or ``vnic``, ``link``, ...)."""
    texts = {name: answer["stdout"] for name, answer in answers.items()}
    errors = [error for answer in answers.values() if (error := trouble(answer))]
    place = texts.get("vnic", "") or texts.get("ip", "")
    switch = _first(TLS, texts.get("tls", ""))
    return NpuNetwork(
        error=errors[0] if errors else "",
        address=_first(ADDRESS, place),
        netmask=_first(NETMASK, place),
        link=_first(LINK, texts.get("link", "")),
        vnic=_first(VNIC, place),
        net_health=_first(HEALTH, texts.get("net_health", "")),
        detect=_first(DETECT, texts.get("netdetect", "")),
        gateway=_first(GATEWAY, texts.get("gateway", "")),
        tls=None if switch is None else switch != "0",
    )


def trouble(answer: Mapping[str, Any]) -> str:
    """Return why the tool gave no answer; empty if it did, also if that is "not set"."""
    words = " ".join(f"{answer['stdout']}\n{answer['stderr']}".split())
    if answer["rc"] == 0 or UNSET.search(words):
        return ""
    return words or f"hccn_tool ended with {answer['rc']}"


def conf(text: str) -> HccnConf:
    """Read /etc/hccn.conf; lines of other keys do not matter here."""
    found: dict[str, dict[int, str]] = {"address": {}, "netmask": {}}
    for key, device, value in CONF.findall(text):
        found[key][int(device)] = value
    return HccnConf(addresses=found["address"], netmasks=found["netmask"])


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    """Return the first match's group, if there is a match."""
    match = pattern.search(text)
    return match.group(1) if match else None
