"""As many clients at once as this machine lets one process have."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from tests.router.running import Running, running
from tests.router.test_entry import resident

IN_HAND = 1000
CLIENTS = 10_000
SPARE = 200
"""Files that are open anyhow."""


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, "--max-requests", str(IN_HAND)) as service:
        service.pair()
        yield service


def clients() -> int:
    """Return how many connections this process may have: the limit is raised as far as it goes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return min(CLIENTS, most - SPARE)


async def storm(url: str, count: int) -> Counter[str]:
    """Ask from so many connections at once; return what they got."""
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1}
    connector = TCPConnector(limit=0, force_close=True)

    async def ask(session: ClientSession) -> str:
        try:
            async with session.post(f"{url}/v1/completions", json=body) as answer:
                text = await answer.read()
                return f"{answer.status}{'' if text else ' empty'}"
        except (ClientError, OSError, TimeoutError) as error:
            return type(error).__name__

    timeout = ClientTimeout(total=60)
    async with ClientSession(connector=connector, timeout=timeout) as session:
        return Counter(await asyncio.gather(*(ask(session) for _ in range(count))))


def test_everybody_gets_an_answer_or_a_503(front: Running) -> None:
    count = clients()
    before = resident(front.process.pid)
    got = asyncio.run(storm(front.url, count))
    grown = resident(front.process.pid) - before
    print(f"{count} clients at once: {dict(got)}; the front grew by {grown >> 20} MiB")
    assert set(got) <= {"200", "503"}
    assert got["200"] >= IN_HAND
    assert sum(got.values()) == count
    assert grown < 300 << 20
    assert front.state()["in_flight"] == 0
