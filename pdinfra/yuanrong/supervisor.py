"""Keeps one node up in the foreground, as the main process of its container.

``yr start`` puts a daemon into the background and leaves. Docker sees only this process: it ends
when the node is dead, so that Docker starts the container anew, and stops the node when told to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from pdinfra.yuanrong.runner import AGENTS, DEPLOYED, RunError, Runner

EVERY_SECONDS = 3.0
"""As often as a daemon looks at its processes."""
PATIENCE_SECONDS = 30.0
"""A daemon has what ended running again within seconds; etcd and its members within ten."""
COUNT_SECONDS = 15.0


class Supervisor:
    """One node's life: wait for its master, start, watch, stop."""

    def __init__(
        self,
        runner: Runner,
        say: Callable[[str], None],
        every: float = EVERY_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Seconds: ``every`` between two looks, ``patience`` with what does not answer."""
        self.runner = runner
        self.say = say
        self.every = every
        self.patience = patience
        self._ill_since: float | None = None
        self._counted_at = -COUNT_SECONDS
        self._count: int | None = -1

    def run(self, stop: threading.Event) -> None:
        """Return after ``stop``, the node stopped. Raises RunError when it does not start or dies.

        Whatever was deployed before has died with the node: its mark is taken away first.
        """
        self._forget()
        if not self._master_is_there(stop):
            return
        self.say(str(self.runner.start()))
        had_daemon = bool(self.runner.daemons())
        while not stop.wait(self.every):
            self._watch(had_daemon)
        self.say(str(self.runner.stop()))

    def _forget(self) -> None:
        """Remove what an earlier life of the node told of itself."""
        state = self.runner.settings.state
        for name in (DEPLOYED, AGENTS) if state else ():
            (Path(state) / name).unlink(missing_ok=True)

    def _master_is_there(self, stop: threading.Event) -> bool:
        """Wait for the master's etcd: hosts boot in any order. False: stopped while waiting."""
        node, told = self.runner.node, False
        while not node.master and not self.runner.reaches_master():
            if not told:
                self.say(f"waiting for the master's etcd at {node.etcd_endpoint}")
            told = True
            if stop.wait(self.every):
                return False
        return not stop.is_set()

    def _watch(self, had_daemon: bool) -> None:
        """Look once. Raises RunError when the node has been ill for too long."""
        now = time.monotonic()
        lost = self.runner.lost()
        patience = self.patience
        if had_daemon and not self.runner.daemons():
            lost = ["its daemon is gone, so nothing starts again what ends", *lost]
            patience = min(patience, self.every)
        if not lost:
            self._ill_since = None
            self._count_agents(now)
            return
        if self._ill_since is None:
            self._ill_since = now
            self.say(f"ill: {'; '.join(lost)}")
        if now - self._ill_since >= patience:
            raise RunError(
                f"openYuanrong of {self.runner.node.host_ip} is dead: {'; '.join(lost)}. "
                f"Fix: Docker starts the container anew; see {self.runner.node.deploy_path} for why"
            )

    def _count_agents(self, now: float) -> None:
        """On the master: have the agents counted now and then, and say when the number changes."""
        if not self.runner.node.master or now - self._counted_at < COUNT_SECONDS:
            return
        self._counted_at = now
        count = self.runner.counted()
        if count != self._count:
            self.say(f"yr status counts {'no' if count is None else count} agents")
        self._count = count
