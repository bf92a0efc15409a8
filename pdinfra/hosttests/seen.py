"""What one host said (the sections of look.py's script) → typed data. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any

from pdinfra.model.plan import LABEL_INSTANCE
from pdinfra.reading.host import socket_address

Document = Mapping[str, Any]
SECTION = re.compile(r"^@@ (\w+) ?(.*)$")
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
LISTEN = "0A"
END = "end"
DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2
"""Capabilities (linux/capability.h) that read what the modes do not allow."""


@dataclass(frozen=True)
class Entry:
    """A file as it is. ``kind`` is stat's word or find's letter for its type."""

    path: str
    mode: int
    uid: int
    gid: int
    kind: str

    @property
    def is_directory(self) -> bool:
        """Tell whether it is a directory."""
        return self.kind in ("d", "directory")


@dataclass(frozen=True)
class Process:
    """As whom a container's main process runs; ``capabilities`` is the effective set."""

    uid: int
    gid: int
    groups: frozenset[int]
    capabilities: int

    def may_read(self, entry: Entry) -> bool:
        """Tell whether it can read a file, or list and enter a directory."""
        if self.capabilities & (DAC_OVERRIDE | DAC_READ_SEARCH):
            return True
        bits = entry.mode >> (
            6 if entry.uid == self.uid else 3 if entry.gid in {self.gid, *self.groups} else 0
        )
        wanted = 0o5 if entry.is_directory else 0o4
        return bits & wanted == wanted


@dataclass(frozen=True)
class Socket:
    """A listening TCP socket; ``container`` is empty for a process outside of any container."""

    address: str
    port: int
    process: str
    container: str


@dataclass(frozen=True)
class Seen:
    """One host. ``error`` says why it could not be looked at, ``engine_error`` why Docker not.

    ``containers`` are inspect documents by instance id, ``images`` by planned name, ``origins`` by
    image id (what containers were made of); ``processes`` by container id; ``trees`` by directory;
    ``names`` are addresses by name.
    """

    error: str = ""
    engine_error: str = ""
    version: str = ""
    logging_driver: str = ""
    daemon: str = ""
    containers: Mapping[str, Document] = field(default_factory=dict)
    images: Mapping[str, Document] = field(default_factory=dict)
    origins: Mapping[str, Document] = field(default_factory=dict)
    processes: Mapping[str, Process] = field(default_factory=dict)
    paths: Mapping[str, Entry] = field(default_factory=dict)
    trees: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sockets: tuple[Socket, ...] = ()


def read(text: str) -> Seen | None:
    """Return what a host said, or None if it did not come to the script's end."""
    sections = {(kind, name): body for kind, name, body in _sections(text)}
    if (END, "") not in sections:
        return None

    def named(kind: str) -> dict[str, str]:
        return {name: body for (each, name), body in sections.items() if each == kind}

    engine = sections["engine", ""].strip()
    server = _json(engine)
    running = isinstance(server, dict)
    images = {name: _json(body) for name, body in named("image").items()}
    return Seen(
        engine_error="" if running else (engine.splitlines() or ["no answer"])[-1],
        version=server.get("Version", "") if isinstance(server, dict) else "",
        logging_driver=sections["logging", ""].strip(),
        daemon=sections["daemon", ""].strip(),
        containers={
            (each["Config"]["Labels"] or {}).get(LABEL_INSTANCE, ""): each
            for each in _json(sections["containers", ""]) or []
        },
        images={name: found[0] for name, found in images.items() if found},
        origins={each["Id"]: each for each in _json(sections["origins", ""]) or []},
        processes={name: _process(body) for name, body in named("process").items() if body.strip()},
        paths={entry.path: entry for entry in _entries(sections["paths", ""])},
        trees={name: tuple(_entries(body)) for name, body in named("tree").items()},
        names={
            name: frozenset(line.split()[0] for line in body.splitlines() if line.strip())
            for name, body in named("name").items()
        },
        sockets=tuple(
            _sockets(sections["tcp", ""], sections["sockets", ""], sections["groups", ""])
        ),
    )


def plain(address: str) -> str:
    """Return an address in one form: IPv4 inside IPv6 as IPv4. What is no address stays."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def _sections(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind, name and body of each section."""
    kind, name = "", ""
    body: list[str] = []
    for line in text.splitlines():
        match = SECTION.match(line)
        if match is None:
            body.append(line)
            continue
        yield kind, name, "\n".join(body)
        kind, name, body = match.group(1), match.group(2), []
    yield kind, name, "\n".join(body)


def _json(text: str) -> Any:
    """Return the parsed text, or None if there is none that parses."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _entries(text: str) -> Iterator[Entry]:
    """Yield files, one a line: mode, uid, gid, type, path."""
    for line in text.splitlines():
        mode, uid, gid, kind, path = [*line.split("\t", 4), "", "", "", ""][:5]
        if path:
            yield Entry(path=path, mode=int(mode, 8), uid=int(uid), gid=int(gid), kind=kind)


def _process(text: str) -> Process:
    """Read the lines Uid, Gid, Groups, CapEff of /proc/PID/status (effective ids come second)."""
    lines = {name: value.split() for name, _, value in (x.partition(":") for x in text.split("\n"))}
    return Process(
        uid=int(lines["Uid"][1]),
        gid=int(lines["Gid"][1]),
        groups=frozenset(map(int, lines["Groups"])),
        capabilities=int(lines["CapEff"][0], 16),
    )


def _sockets(tcp: str, links: str, groups: str) -> Iterator[Socket]:
    """Yield listening sockets with whose they are."""
    owners = dict(_owner(line) for line in links.splitlines() if "socket:[" in line)
    about: dict[tuple[str, str], str] = {}
    for line in groups.splitlines():
        path, _, value = line.partition(":")
        _, _, pid, what = path.split("/")
        about[pid, what] = f"{about.get((pid, what), '')}\n{value}".strip()
    for line in tcp.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[3] != LISTEN:
            continue
        address, _, port = fields[1].rpartition(":")
        pid = owners.get(fields[9], "")
        inside = CONTAINER_ID.findall(about.get((pid, "cgroup"), ""))
        yield Socket(
            address=plain(socket_address(address)),
            port=int(port, 16),
            process=f"{about.get((pid, 'comm'), 'a process')} (pid {pid})" if pid else "a process",
            # The innermost: the host may be a container itself.
            container=inside[-1] if inside else "",
        )


def _owner(line: str) -> tuple[str, str]:
    """Read ``/proc/PID/fd/N socket:[INODE]``: inode and pid."""
    path, _, link = line.partition(" ")
    return link.removeprefix("socket:[").removesuffix("]"), path.split("/")[2]
