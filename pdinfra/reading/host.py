"""Everything the facts module brought of one host → HostFacts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from pdinfra.model.facts import ContainerFact, HostFacts, PortFact, TextFact
from pdinfra.model.plan import Member
from pdinfra.reading.ascend import ascend_facts
from pdinfra.reading.certificate import certificate_facts
from pdinfra.reading.docker import container_fact, docker_fact, image_ids
from pdinfra.reading.driver import driver_fact
from pdinfra.reading.model_dir import model_fact
from pdinfra.reading.network import network_fact
from pdinfra.reading.nvidia import nvidia_fact
from pdinfra.reading.ray import serve_fact

KIB = 1024
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


def host_facts(host: str, raw: Mapping[str, Any]) -> HostFacts:
    """Read one host's raw observations."""
    files: Mapping[str, str | None] = raw["files"]
    memory = _meminfo(files.get("/proc/meminfo") or "")
    return HostFacts(
        host=host,
        hostname=raw["hostname"],
        os=_os_name(files.get("/etc/os-release") or ""),
        clock=raw["time"],
        asked_at=raw.get("asked_at", 0.0),
        memory_total=memory.get("MemTotal", 0),
        memory_available=memory.get("MemAvailable", 0),
        disk_free={path: size for path, size in raw["disk_free"].items() if size is not None},
        inodes_free={p: n for p, n in raw.get("inodes_free", {}).items() if n is not None},
        files=frozenset(raw.get("archives", ())),
        docker=docker_fact(raw["docker"]),
        images=image_ids(raw["docker"]),
        containers=container_facts(raw),
        models=tuple(model_fact(path, found) for path, found in raw["models"].items()),
        listening=_listening(files, raw["processes"]),
        network=network_fact(raw),
        ascend=ascend_facts(raw["ascend"]) if "ascend" in raw else None,
        nvidia=nvidia_fact(raw["nvidia"]) if "nvidia" in raw else None,
        members=_members(raw.get("router")),
        serve=serve_fact(raw.get("serve")),
        driver=driver_fact(files),
        certificates=certificate_facts(raw.get("certificates", {})),
        rank_tables={p: TextFact.model_validate(f) for p, f in raw.get("rank_tables", {}).items()},
        notes={path: text.strip() for path, text in raw.get("notes", {}).items() if text},
    )


def container_facts(raw: Mapping[str, Any]) -> tuple[ContainerFact, ...]:
    """Read the service's containers alone (all that a waiting call brings)."""
    return tuple(container_fact(inspect) for inspect in raw["docker"].get("containers") or [])


def _members(text: str | None) -> tuple[Member, ...] | None:
    """Read the front's account of who gets requests; None where none answered sensibly."""
    try:
        return tuple(Member.model_validate(row) for row in json.loads(text or "")["active"])
    except (ValueError, KeyError, TypeError):
        return None


def _meminfo(text: str) -> dict[str, int]:
    """Return /proc/meminfo in bytes."""
    return {name: int(size) * KIB for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}


def _os_name(text: str) -> str:
    """Return PRETTY_NAME of os-release."""
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.M)
    return match.group(1) if match else "unknown"


def _listening(
    files: Mapping[str, str | None], processes: Mapping[str, Mapping[str, Any]]
) -> tuple[PortFact, ...]:
    """Read the listening sockets of /proc/net/tcp and tcp6 (state 0A)."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (files.get(table) or "").splitlines()[1:]:
            fields = line.split()
            if fields[3] != "0A":
                continue
            address, _, port = fields[1].rpartition(":")
            process = processes.get(str(int(port, 16)))
            name = (
                f"{(process['command'] or '?').strip()} (pid {process['pid']})" if process else None
            )
            inside = CONTAINER_ID.search((process or {}).get("cgroup") or "")
            fact = PortFact(
                port=int(port, 16),
                address=socket_address(address),
                process=name,
                container=inside.group() if inside else None,
            )
            found[(fact.port, fact.address)] = fact
    return tuple(found[key] for key in sorted(found))


def socket_address(text: str) -> str:
    """Return an address of /proc/net: 32-bit words, each in the host's (little-endian) order."""
    data = bytes.fromhex(text)
    words = [data[n : n + 4][::-1] for n in range(0, len(data), 4)]
    return str(ip_address(b"".join(words)))
