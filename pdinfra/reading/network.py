"""What the facts module brought of a host's network → NetworkFact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Any

from pdinfra.model.facts import NetworkFact, ProxyFact

EVERYWHERE = "00000000"
"""Destination and mask of the default route in /proc/net/route."""
KEPT = "/etc/sysctl.d/90-pdinfra.conf"
"""Where role `host` writes, as ``net.ipv4.ip_local_reserved_ports=8080,9148-9150``."""
KEPT_PORTS = re.compile(r"(?m)^net\.ipv4\.ip_local_reserved_ports\s*=\s*([\d,-]+)$")
EPHEMERAL = (32768, 60999)
"""Linux's default, for a host that does not show its own."""


def network_fact(raw: Mapping[str, Any]) -> NetworkFact:
    """Read names, addresses, routes, proxies and port ranges."""
    files: Mapping[str, str | None] = raw["files"]
    resolved: Mapping[str, list[str] | None] = raw.get("resolved", {})
    return NetworkFact(
        resolved={name: tuple(found or ()) for name, found in resolved.items()},
        hosts_file=files.get("/etc/hosts") or "",
        addresses=_addresses(raw.get("addresses", []), files.get("/proc/net/if_inet6") or ""),
        default_route=_default_route(files.get("/proc/net/route") or ""),
        proxies=tuple(_proxies(raw)),
        ephemeral=_ephemeral(files.get("/proc/sys/net/ipv4/ip_local_port_range") or ""),
        reserved=port_set(files.get("/proc/sys/net/ipv4/ip_local_reserved_ports") or ""),
        kept_reserved=_kept(files.get(KEPT) or ""),
        daemons=tuple(raw.get("daemons", ())),
        ufw=bool(re.search(r"(?mi)^ENABLED=yes", files.get("/etc/ufw/ufw.conf") or "")),
        in_container=bool(raw.get("in_container")),
    )


def _kept(text: str) -> frozenset[int]:
    """Return the ports that a sysctl file reserves."""
    found = KEPT_PORTS.search(text)
    return port_set(found.group(1)) if found else frozenset()


def port_set(text: str) -> frozenset[int]:
    """Read the kernel's form of a set of ports, such as ``8080,9148-9150``."""
    ports: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        ports.update(range(int(first), int(last or first) + 1))
    return frozenset(ports)


def _addresses(ipv4: list[list[str]], if_inet6: str) -> dict[str, str]:
    """Return the interface of each of the host's own addresses."""
    found = {address: interface for interface, address in ipv4}
    for line in if_inet6.splitlines():
        digits, *_, interface = line.split()
        found[str(IPv6Address(int(digits, 16)))] = interface
    return found


def _default_route(text: str) -> str:
    """Return the interface of the IPv4 default route; of several the one the kernel prefers."""
    routes = [line.split() for line in text.splitlines()[1:]]
    default = [row for row in routes if row[1] == EVERYWHERE and row[7] == EVERYWHERE]
    return min(default, key=lambda row: int(row[6]), default=[""])[0]


def _proxies(raw: Mapping[str, Any]) -> list[ProxyFact]:
    """Return the proxies of the login, of /etc/environment and of Docker."""
    info = raw["docker"].get("info") or {}
    docker = {
        "https_proxy": info.get("HttpsProxy") or info.get("HttpProxy") or "",
        "no_proxy": info.get("NoProxy") or "",
    }
    places = {**raw.get("proxies", {}), "Docker's daemon": docker}
    found = []
    for where, variables in places.items():
        urls = (variables.get(name) for name in ("http_proxy", "https_proxy", "all_proxy"))
        url = next(filter(None, urls), None)
        if url is None:
            continue
        excepted = re.split(r"[,\s]+", variables.get("no_proxy", ""))
        found.append(ProxyFact(where=where, url=url, no_proxy=tuple(filter(None, excepted))))
    return found


def _ephemeral(text: str) -> tuple[int, int]:
    """Return first and last port for outgoing connections."""
    numbers = text.split()
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else EPHEMERAL
