"""Two places for a vllm-router process: one serves, the other is for the next set of members."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Sequence

from yarl import URL

from pdinfra_router.members import Member

LOOPBACK = "127.0.0.1"


class Slot:
    """A vllm-router process with its ports, its members, and the requests that it has."""

    def __init__(self, port: int, metrics_port: int) -> None:
        """Start nothing yet."""
        self.port = port
        self.metrics_port = metrics_port
        self.members: tuple[Member, ...] = ()
        self.in_flight = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def metrics_url(self) -> str:
        """Where its metrics are."""
        return f"http://{LOOPBACK}:{self.metrics_port}/metrics"

    def start(self, command: Sequence[str], members: tuple[Member, ...], protocol: str) -> None:
        """Start a process with these members. Its output is the container's. Raises ValueError."""
        words = arguments(members, protocol)
        self.members = members
        self._process = subprocess.Popen(
            [
                *command,
                *("--host", LOOPBACK, "--port", str(self.port)),
                *("--prometheus-host", LOOPBACK, "--prometheus-port", str(self.metrics_port)),
                *words,
            ]
        )

    def ended(self) -> int | None:
        """Return the exit code of a process that ended by itself, else None."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.members = ()

    async def drained(self, seconds: float) -> bool:
        """Wait until all of its requests are answered; tell whether they were in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.in_flight:
                    await asyncio.sleep(0.1)
        return not self.in_flight


class Slots:
    """The two slots, and which of them serves."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        """Serve from none yet."""
        self.all = tuple(slots)
        self.active: Slot | None = None

    @property
    def idle(self) -> Slot:
        """The slot that does not serve."""
        return next(slot for slot in self.all if slot is not self.active)

    def stop(self) -> None:
        """End all processes."""
        for slot in self.all:
            slot.stop()


def arguments(members: Sequence[Member], protocol: str) -> list[str]:
    """Return the members as vllm-router 0.1.17 takes them. Raises ValueError for a wrong ``kv``."""
    mixed = [member.url for member in members if member.role == "mixed"]
    if mixed:
        return ["--worker-urls", *mixed]
    words = ["--vllm-pd-disaggregation", "--kv-connector", protocol]
    for member in members:
        words += [f"--{member.role}", member.url]
        if protocol == "mooncake" and member.role == "prefill":
            words.append(_bootstrap_port(member))
    return words


def _bootstrap_port(member: Member) -> str:
    """Return the port of a prefill's bootstrap server.

    vllm-router asks ``http://HOST:PORT/query`` with the host of the member's own URL (measured).
    """
    bootstrap, own = URL(member.kv), URL(member.url)
    if bootstrap.scheme != "http" or bootstrap.host != own.host or not bootstrap.port:
        raise ValueError(f"{member.id}: its bootstrap server is not on the host of its API")
    return str(bootstrap.port)
