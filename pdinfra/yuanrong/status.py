"""What ``yr``, etcd and the files of a session say → typed data.

None of it proves by itself that the cluster works: an agent with a wrong master is healthy to
all of them. Only a key that is written on one host and read on another does.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise

NOISE = re.compile(r"^WARNING: Ignore register validator for flag: ")
"""Printed twice by every call of the wheel 9.9.9, also where nothing is wrong."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
AGENTS = re.compile(r"^\s*(?:current running agents|ReadyAgentsCount):\s*(\d+)\s*$", re.MULTILINE)
COMPONENT = re.compile(
    r"^\s{2}(?P<name>\S+)\s+(?P<state>RUNNING|STOPPED) \(PID: (?P<pid>\d+)\)"
    r"(?: \(Restart Count: (?P<restarts>\d+)\))?\s*$",
    re.MULTILINE,
)
SYSTEM = re.compile(r"^System Status: (RUNNING|STOPPED)\s*$", re.MULTILINE)
CLUSTER = "/datasystem/cluster/"
RESTARTS_TOLERATED = 2
"""More than this, and a component does not come up: a second etcd on the first one's port."""


def lines(text: str) -> list[str]:
    """Return the lines that mean something, without colours."""
    plain = (COLOUR.sub("", line).rstrip() for line in text.splitlines())
    return [line for line in plain if line.strip() and not NOISE.match(line)]


def agents(text: str) -> int | None:
    """Return how many agents ``yr status`` counts, in either dialect; None if it names no number.

    None with exit code 0 is what a master without function_master says (toml), and a host that was
    never started (flags): not a number of agents, and no success.
    """
    found = AGENTS.search("\n".join(lines(text)))
    return int(found.group(1)) if found else None


@dataclass(frozen=True)
class Member:
    """One data-system process in etcd: address as ip:port, state such as ready or recover."""

    address: str
    state: str


def members(text: str) -> tuple[Member, ...]:
    """Read ``etcdctl get --prefix /datasystem/cluster``: a key and a value by turns."""
    rows = lines(text)
    found = []
    for key, value in pairwise(rows):
        if key.startswith(CLUSTER):
            found.append(Member(key.removeprefix(CLUSTER), value.rpartition(";")[2].strip()))
    return tuple(found)


def membership_problems(found: Collection[Member], planned: Collection[str]) -> list[str]:
    """Return how the members differ from the planned addresses (ip:port), all at once."""
    states = {member.address: member.state for member in found}
    wrong = [f"{address} is not in etcd" for address in sorted(set(planned) - set(states))]
    wrong += [
        f"{address} is in etcd, but not planned" for address in sorted(set(states) - set(planned))
    ]
    wrong += [
        f"{address} is {states[address]!r}, not 'ready'"
        for address in sorted(set(states) & set(planned))
        if states[address] != "ready"
    ]
    return wrong


@dataclass(frozen=True)
class Component:
    """One process of a node as ``yr health`` sees it."""

    name: str
    running: bool
    pid: int
    restarts: int


@dataclass(frozen=True)
class Health:
    """What ``yr health`` says. It looks at process ids alone: ``running`` is not "works"."""

    running: bool
    components: tuple[Component, ...] = field(default_factory=tuple)

    @property
    def problems(self) -> list[str]:
        """What is wrong, also where the program itself says RUNNING and ends with 0."""
        if not self.running:
            return ["no openYuanrong runs here"]
        found = [f"{part.name} has stopped" for part in self.components if not part.running]
        found += [
            f"{part.name} was restarted {part.restarts} times: it does not come up, as a second "
            "etcd does on a port that the first one has"
            for part in self.components
            if part.restarts > RESTARTS_TOLERATED
        ]
        return found


def health(text: str) -> Health:
    """Read ``yr health``; text that does not speak of a system means that none runs."""
    said = "\n".join(lines(text))
    system = SYSTEM.search(said)
    components = tuple(
        Component(
            found["name"],
            found["state"] == "RUNNING",
            int(found["pid"]),
            int(found["restarts"] or 0),
        )
        for found in COMPONENT.finditer(said)
    )
    return Health(system is not None and system.group(1) == "RUNNING", components)


def master_info(text: str) -> dict[str, str]:
    """Read ``Cluster master info:`` of a start's output, or the file yr_current_master_info.

    Keys as the programs write them, such as ds_master_port, ds-worker, etcd_ip. Empty if there is
    no such line. "None" as a value means that the component is switched off, and is left out.
    """
    for line in lines(text):
        pairs = [part.partition(":") for part in line.strip().strip(",").split(",")]
        if len(pairs) > 1 and all(colon for _, colon, _ in pairs):
            return {key.strip(): value for key, _, value in pairs if value != "None"}
    return {}


def last_words(text: str) -> str:
    """Return the line that says why a program failed: its last one; empty if it said nothing."""
    said = lines(text)
    return said[-1].strip() if said else ""
