"""Two hosts of a cluster for each test, and nothing of them afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pdinfra.yuanrong.commands import Dialect
from tests.commands import wait_until
from tests.yuanrong.clusters import AGENT_IP, MASTER_IP, Host

MakeHosts = Callable[..., tuple[Host, Host]]


@pytest.fixture
def make_hosts() -> Iterator[MakeHosts]:
    """Return what installs a master and an agent in one dialect; options as of `yr install`."""
    made: list[Host] = []
    # Not below /tmp, where no cluster may keep its state; and short, for the workers' sockets.
    folder = Path(tempfile.mkdtemp(prefix="pdy-", dir="/var/tmp"))

    def make(dialect: Dialect, *options: str) -> tuple[Host, Host]:
        for name, address in (("m", MASTER_IP), ("a", AGENT_IP)):
            made.append(Host(folder / name, address, dialect, options=options).install())
        return made[-2], made[-1]

    yield make
    for host in made:
        for pid in host.processes():
            os.kill(pid, signal.SIGKILL)
        wait_until("the host's processes have ended", 10, lambda h=host: not h.processes())  # type: ignore[misc]
    shutil.rmtree(folder)
