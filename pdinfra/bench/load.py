"""How long an engine's weights take: from a cold disk, and from openYuanrong's data system.

One engine is restarted twice. Before the first time, what is published of its weights is
deleted and the host's page cache is dropped: it reads from disk and publishes. The second time
it fetches. Both times are the engine's own, from its log.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from pdinfra.bench.engines import need_engines
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.model.plan import Container, Plan

LOADED = re.compile(
    r"pdinfra: weights loaded from (?P<source>the data system|disk): "
    r"(?P<gb>[\d.]+) GB in (?P<seconds>[\d.]+) s \(\d+ MB/s\)"
    r"(?: because (?P<reason>.*) \(known after \d+ ms\))?"
)
WHERE = re.compile(r"pdinfra: weights .* at (?P<worker>\S+) as (?P<name>pdinfra-weights-\w+)")
UNSUITED = re.compile(r"pdinfra: weights loaded from disk in [\d.]+ s because (?P<reason>.*)")
PUBLISHED = "pdinfra: weights published"
NOT_PUBLISHED = re.compile(r"pdinfra: weights not published because (?P<reason>.*)")
DATA_SYSTEM = "the data system"

DROP = ("sh", "-c", "sync && echo 3 > /proc/sys/vm/drop_caches")
FORGET = ("python", "-m", "pdinfra_vllm.yuanrong_load", "forget")

PAUSE_SECONDS = 1.0
COMMAND_SECONDS = 120.0
"""For one command on a host; an engine that ends takes its 30 s of `docker restart`."""


@dataclass(frozen=True)
class Loaded:
    """One load of an engine's weights, all ranks together: they load at the same time."""

    source: str
    gb: float
    seconds: float
    reason: str = ""
    """Why from disk."""

    @property
    def mb_per_second(self) -> float:
        """Speed; the engine's log has hundredths of a second."""
        return self.gb * 1000 / max(self.seconds, 0.01)


@dataclass(frozen=True)
class LoadResult:
    """Both loads of one engine."""

    instance: str
    host: str
    cold: Loaded
    fetched: Loaded
    page_cache_dropped: bool

    @property
    def ratio(self) -> float:
        """How many times faster the fetch was."""
        return self.cold.seconds / max(self.fetched.seconds, 0.01)

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        loads = {"cold": self.cold, "fetched": self.fetched}
        return {
            "ok": True,
            "instance": self.instance,
            "host": self.host,
            "page_cache_dropped": self.page_cache_dropped,
            **{
                name: {**asdict(load), "mb_per_second": round(load.mb_per_second)}
                for name, load in loads.items()
            },
            "ratio": round(self.ratio, 1),
        }


class Host(Protocol):
    """What runs commands on an engine's host."""

    def run(self, *words: str) -> tuple[int, str]:
        """Return exit code and output, stderr included. Raises DriverError."""


class Shell:
    """Commands on one host, as `logs` runs them."""

    def __init__(self, name: str, there: Callable[[Sequence[str]], list[str]]) -> None:
        """Take the host's name, and what makes a command one that runs there."""
        self._name = name
        self._there = there

    def run(self, *words: str) -> tuple[int, str]:
        """Return exit code and output, stderr included. Raises DriverError."""
        try:
            done = subprocess.run(
                self._there(words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            line = f"{self._name}: {words[0]} was not run: {error}. Fix: see `status`"
            raise DriverError([line], FAILED) from error
        return done.returncode, done.stdout


def chosen(plan: Plan, instance: str | None) -> Container:
    """Return the engine to measure: the named one, or the last. Raises DriverError."""
    need_engines(plan)
    engines = [
        container
        for host in plan.hosts
        for container in host.containers
        if container.kind == "instance"
    ]
    found = [each for each in engines if instance in (None, each.id)]
    if not found:
        known = ", ".join(each.id for each in engines)
        raise DriverError([f"{instance}: no such instance. Fix: use one of {known}"], INVALID)
    return found[-1]


def loaded(log: str) -> Loaded | None:
    """Return what a log says of the weights, None if it says nothing (yet)."""
    found = list(LOADED.finditer(log))
    if not found:
        return None
    sources = {match["source"] for match in found}
    reasons = [match["reason"] for match in found if match["reason"]]
    return Loaded(
        DATA_SYSTEM if sources == {DATA_SYSTEM} else "disk",
        round(sum(float(match["gb"]) for match in found), 2),
        max(float(match["seconds"]) for match in found),
        "; ".join(dict.fromkeys(reasons)),
    )


def published(log: str) -> set[tuple[str, str]]:
    """Return worker and name of everything that a log says is published."""
    return {(match["worker"], match["name"]) for match in WHERE.finditer(log)}


@dataclass(frozen=True)
class Bench:
    """One measurement on one engine."""

    container: Container
    host: Host
    seconds: float
    """How long to wait for an engine to be ready."""
    say: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def measure(self) -> LoadResult:
        """Restart the engine twice and return both loads. Raises DriverError."""
        self._forget()
        dropped = self._drop()
        self.say(f"{self.container.id} restarts and reads its weights from disk")
        cold = self._restarted()
        self._published()
        self._drop()
        self.say(f"{self.container.id} restarts and fetches its weights")
        fetched = self._restarted()
        if fetched.source != DATA_SYSTEM:
            raise self._failed(
                f"the second load was from disk, too: {fetched.reason}", "see `logs`"
            )
        return LoadResult(self.container.id, self.container.host, cold, fetched, dropped)

    def _forget(self) -> None:
        """Delete what is published of this engine's weights."""
        log = self._log()
        if loaded(log) is None:
            other = UNSUITED.search(log)
            why = f"weights cannot be fetched: {other['reason']}" if other else "no word of weights"
            raise self._failed(why, "start it with --load-format yuanrong (docs/model-load.md)")
        for worker, name in published(log):
            code, text = self.host.run("docker", "exec", self.container.name, *FORGET, worker, name)
            if code:
                raise self._failed(f"published weights stay: {_last(text)}", "see `status`")

    def _drop(self) -> bool:
        """Drop the host's page cache; return whether that was allowed."""
        code, text = self.host.run(*DROP)
        if code:
            self.say(f"{self.container.host}: page cache not dropped: {_last(text)}")
        return code == 0

    def _restarted(self) -> Loaded:
        """Restart the engine, wait until it is ready, return its load."""
        code, text = self.host.run("docker", "restart", self.container.name)
        if code:
            raise self._failed(f"docker restart: {_last(text)}", "see `status`")
        self._wait(lambda: self._state("Health.Status") == "healthy", "it is not ready")
        found = loaded(self._log())
        if found is None:
            raise self._failed("no word of weights in its log", "see `logs`")
        return found

    def _published(self) -> None:
        """Wait until the engine has published its weights."""

        def done() -> bool:
            log = self._log()
            if found := NOT_PUBLISHED.search(log):
                raise self._failed(f"weights not published: {found['reason']}", "see `logs`")
            return log.count(PUBLISHED) >= len(LOADED.findall(log))

        self._wait(done, "its weights are not published")

    def _wait(self, done: Callable[[], bool], otherwise: str) -> None:
        ends = self.clock() + self.seconds
        while not done():
            if self.clock() > ends:
                raise self._failed(f"{otherwise} after {self.seconds:.0f} s", "see `logs`")
            self.pause(PAUSE_SECONDS)

    def _log(self) -> str:
        """Return the log since the engine's last start."""
        since = self._state("StartedAt")
        code, text = self.host.run("docker", "logs", "--since", since, self.container.name)
        if code:
            raise self._failed(f"docker logs: {_last(text)}", "run `up`")
        return text

    def _state(self, what: str) -> str:
        """Return a part of the container's state."""
        code, text = self.host.run(
            "docker", "inspect", "--format", f"{{{{.State.{what}}}}}", self.container.name
        )
        if code:
            raise self._failed(f"docker inspect: {_last(text)}", "run `up`")
        return text.strip()

    def _failed(self, cause: str, fix: str) -> DriverError:
        where = f"{self.container.host}: {self.container.id}"
        return DriverError([f"{where}: {cause}. Fix: {fix}"], FAILED)


def _last(text: str) -> str:
    """Return the last line of what a command said."""
    return (text.strip().splitlines() or ["no word"])[-1]
