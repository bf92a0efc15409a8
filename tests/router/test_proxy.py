"""What a client of pdinfra's proxy sees when engines fail. Engines are FAKES."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, TCPConnector

from tests.router.service import CLIENT, Service, serving, until

WHOLE = [str(n) for n in range(20)]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("router"), "nixl") as running:
        yield running


@pytest.fixture
def service(router: Service) -> Iterator[Service]:
    """The one router, with no members yet: each test's come and go."""
    yield router
    router.clear()


def events(service: Service, **fields: Any) -> list[str]:
    """Return the data of a stream's events, as they came until it ended."""
    document = {"model": "tiny", "prompt": "one two three", "stream": True, **fields}
    with CLIENT.stream("POST", f"{service.url}/v1/completions", json=document) as response:
        assert response.status_code == 200
        return [line[6:] for line in response.iter_lines() if line.startswith("data: ")]


class Asking(threading.Thread):
    """A client in the background."""

    def __init__(self, service: Service, **fields: Any) -> None:
        super().__init__()
        self.service, self.fields = service, fields
        self.status = 0
        self.text = ""
        self.start()

    def run(self) -> None:
        try:
            answer = self.service.post(**self.fields)
        except httpx.TransportError as error:
            self.text = type(error).__name__
        else:
            self.status, self.text = answer.status_code, answer.text


def running(service: Service, name: str, count: int = 1) -> None:
    until(f"{name} has {count}", lambda: service.engines[name].tell()["running"] == count)


def test_a_stream_passes_whole(service: Service) -> None:
    _, d0 = service.up("p0", "d0")
    assert events(service) == [*WHOLE, str(d0.port), "[DONE]"]


def test_a_decode_that_dies_in_the_middle_of_a_stream_breaks_it_off(service: Service) -> None:
    _, d0, d1 = service.up("p0", "d0", "d1")
    d0.become("die")
    d1.become("die")
    with pytest.raises(httpx.RemoteProtocolError):
        events(service)


@pytest.mark.parametrize("mode", ["early", "fail", "empty", "hang"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_decode_that_fails_before_the_first_byte_is_replaced(
    service: Service, mode: str, stream: bool
) -> None:
    _, d0, d1 = service.up("p0", "d0", "d1")
    if mode == "empty" and not stream:
        mode = "die"
    d0.become(mode)
    retries = service.figure("pdinfra_router_retries_total")
    for _ in range(2):
        if stream:
            assert events(service)[-2:] == [str(d1.port), "[DONE]"]
        else:
            answer = service.post()
            assert answer.status_code == 200
            assert answer.json()["port"] == d1.port
    assert service.figure("pdinfra_router_retries_total") > retries


@pytest.mark.parametrize("mode", ["early", "fail", "hang"])
def test_a_prefill_that_fails_is_replaced(service: Service, mode: str) -> None:
    p0, p1, _ = service.up("p0", "p1", "d0")
    p0.become(mode)
    assert [service.post().status_code for _ in range(2)] == [200, 200]
    assert len(p1.seen()) == 2


def test_an_engine_that_is_healthy_and_does_nothing_gets_no_more_and_comes_back(
    service: Service,
) -> None:
    ejections = service.figure("pdinfra_router_ejections_total")
    _, d0, d1 = service.up("p0", "d0", "d1")
    d0.become("hang")
    service.wait_for("p0", "d1")
    assert "nothing came back" in service.member("d0")["reason"]
    assert "d0" in service.state()["error"]
    assert [service.post().json()["port"] for _ in range(3)] == [d1.port] * 3
    assert service.figure("pdinfra_router_ejections_total") == ejections + 1
    d0.become("well")
    service.wait_for("p0", "d0", "d1")


def test_a_stream_of_an_engine_that_stalls_breaks_off(service: Service) -> None:
    _, d0 = service.up("p0", "d0")
    d0.become("stuck")
    asking = Asking(service, stream=True)
    running(service, "d0")
    d0.become("hang")
    asking.join(20)
    assert asking.text == "RemoteProtocolError"


def test_a_long_prefill_is_no_stall_while_counters_move(service: Service) -> None:
    ejections = service.figure("pdinfra_router_ejections_total")
    p0, _ = service.up("p0", "d0")
    p0.become("crawl")
    answer = service.post()
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() > 2
    assert service.active() == ["p0", "d0"]
    assert service.figure("pdinfra_router_ejections_total") == ejections


def test_an_engine_that_fails_every_request_is_taken_out(service: Service) -> None:
    _, d0, _ = service.up("p0", "d0", "d1")
    d0.become("fail")
    for _ in range(2):
        assert service.post().status_code == 200
    service.wait_for("p0", "d1")
    assert "answered 500" in service.member("d0")["reason"]


def test_no_member_of_a_role_is_503_at_once(service: Service) -> None:
    _, d0 = service.up("p0", "d0")
    d0.kill()
    service.wait_for("p0")
    answer = service.post()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.elapsed.total_seconds() < 1
    assert service.get("/health").status_code == 503
    assert str(d0.port) not in answer.text


def test_a_member_that_came_back_is_warmed_up_before_it_gets_traffic(service: Service) -> None:
    _, d0, _ = service.up("p0", "d0", "d1")
    d0.kill()
    service.wait_for("p0", "d1")
    d0.start("cold")
    until("d0 answers", lambda: service.member("d0")["state"] == "warming")
    assert [service.post().status_code for _ in range(3)] == [200, 200, 200]
    assert not d0.seen()
    service.wait_for("p0", "d0", "d1")
    warm = d0.tell()["sources"]
    assert warm["external_kv_transfer"] > 0
    assert warm["local_compute"] == 0


def test_pairs_are_warm_before_the_first_request(service: Service) -> None:
    engines = service.up("p0", "p1", "d0", "d1")
    for decode in engines[2:]:
        # More than one tiny prompt: one of each prefill.
        warm = decode.tell()["sources"]["external_kv_transfer"]
        assert warm > 20


def test_a_member_joins_and_one_leaves_with_a_request_in_hand(service: Service) -> None:
    _, d0 = service.up("p0", "d0")
    d0.become("slow")
    asking = Asking(service, stream=True)
    running(service, "d0")
    d1 = service.engine("d1")
    service.name("p0", "d1")
    service.wait_for("p0", "d1")
    assert service.member("d0")["state"] == "leaving"
    assert service.state()["draining"] is True
    assert service.post().json()["port"] == d1.port
    asking.join(20)
    assert f"data: {d0.port}" in asking.text
    until("d0 left", lambda: service.member("d0")["state"] == "unknown")
    assert service.state()["draining"] is False


def test_a_member_that_does_not_end_its_requests_is_cut_after_the_time_for_that(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, "nixl", "--drain-seconds", "0.5", "--stall-seconds", "60") as service:
        _, d0 = service.up("p0", "d0")
        d0.become("stuck")
        asking = Asking(service, stream=True)
        running(service, "d0")
        service.engine("d1")
        service.name("p0", "d1")
        asking.join(20)
        assert asking.text == "RemoteProtocolError"
        until("d0 left", lambda: service.member("d0")["state"] == "unknown")


def test_a_client_that_goes_away_ends_its_requests_at_the_engines(service: Service) -> None:
    p0, d0 = service.up("p0", "d0")
    for engine, mode in ((d0, "slow"), (p0, "crawl")):
        engine.become(mode)
        with pytest.raises(httpx.ReadTimeout):
            CLIENT.post(
                f"{service.url}/v1/completions",
                json={"model": "tiny", "prompt": "a b", "max_tokens": 20},
                timeout=0.5,
            )
        until(f"{engine.name} is rid of it", lambda e=engine: e.tell()["aborted"] == 1)
    until("nothing is in hand", lambda: service.state()["in_flight"] == 0)
    assert [service.member(name)["busy"] for name in ("p0", "d0")] == [0, 0]


def test_a_slow_client_holds_nobody_up(service: Service) -> None:
    _, d0 = service.up("p0", "d0")
    d0.become("flood")
    document = {"model": "tiny", "prompt": "a b", "stream": True}
    url = f"{service.url}/v1/completions"
    with CLIENT.stream("POST", url, json=document) as slow:
        lines = slow.iter_lines()
        assert next(lines).startswith("data: 0")
        d0.become("well")
        assert events(service)[-1] == "[DONE]"
        assert service.active() == ["p0", "d0"]
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_clients_beyond_the_limit_get_503_at_once_and_the_others_their_answers(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, "nixl", "--max-requests", "50", "--stall-seconds", "30") as service:
        _, d0, _ = service.up("p0", "d0", "d1")
        d0.become("hang")
        service.engines["d1"].become("hang")
        statuses = asyncio.run(flood(service, 1000, until_refused=950))
        assert statuses == Counter({200: 50, 503: 950})
        assert service.active() == ["p0", "d0", "d1"]
        assert service.post().status_code == 200


async def flood(service: Service, clients: int, until_refused: int) -> Counter[int]:
    """Ask with so many at once; the decodes go on when so many were refused."""
    statuses: Counter[int] = Counter()
    document = {"model": "tiny", "prompt": "one two three", "max_tokens": 5}
    connector = TCPConnector(limit=0, force_close=True)
    async with ClientSession(connector=connector) as session:

        async def one() -> None:
            async with session.post(f"{service.url}/v1/completions", json=document) as answer:
                await answer.read()
                assert answer.status == 200 or answer.headers["Retry-After"]
                statuses[answer.status] += 1
                if statuses[503] == until_refused and answer.status == 503:
                    for name in ("d0", "d1"):
                        url = f"{service.engines[name].url}/mode"
                        await session.post(url, json={"mode": "well"})

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(one())
    return statuses


def test_what_an_engine_refuses_reaches_the_client(service: Service) -> None:
    retries = service.figure("pdinfra_router_retries_total")
    p0, d0 = service.up("p0", "d0")
    for engine in (d0, p0):
        engine.become("reject")
        answer = service.post()
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "no such thing"
    assert service.figure("pdinfra_router_retries_total") == retries
    assert len(d0.seen()) == 1


def test_a_request_that_fails_everywhere_is_tried_so_often(service: Service) -> None:
    engines = service.up("p0", "d0", "d1", "d2", "d3")
    for engine in engines[1:]:
        engine.become("fail")
    assert service.post().status_code == 500
    assert sum(len(engine.seen()) for engine in engines[1:]) == 3


def test_prompts_are_not_logged(service: Service) -> None:
    _, d0 = service.up("p0", "d0")
    d0.become("fail")
    service.post(prompt="a secret of mine")
    assert "answered 500" in service.log()
    assert "secret" not in service.log()


@pytest.mark.parametrize("policy", ["round_robin", "least_busy"])
def test_requests_are_spread_as_promised(tmp_path: Path, policy: str) -> None:
    with serving(tmp_path, "nixl", "--policy", policy) as service:
        engines = service.up("p0", "p1", "d0", "d1")
        for decode in engines[2:]:
            decode.become("slow")
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: service.post(max_tokens=10), range(16)))
        assert {answer.status_code for answer in answers} == {200}
        assert [len(decode.seen()) for decode in engines[2:]] == [8, 8]
        if policy == "round_robin":
            assert [len(prefill.seen()) for prefill in engines[:2]] == [8, 8]


def test_least_busy_passes_over_who_has_more_in_hand(tmp_path: Path) -> None:
    with serving(tmp_path, "nixl", "--policy", "least_busy") as service:
        _, d0, d1 = service.up("p0", "d0", "d1")
        d0.become("slow")
        asking = Asking(service, stream=True)
        running(service, "d0")
        assert [service.post().json()["port"] for _ in range(3)] == [d1.port] * 3
        asking.join()


def test_prompts_that_are_too_short_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "sequential", "--min-prompt-tokens", "2") as service:
        p0, _ = service.up("p0", "d0")
        for prompt in ([5], "one", [[5]], ["one"]):
            answer = service.post(prompt=prompt)
            assert answer.status_code == 400
            assert "1 tokens" in answer.json()["error"]["message"]
        assert not p0.seen()
        for prompt in ([5, 6], "one two", "x " * 200):
            assert service.post(prompt=prompt).status_code == 200


@pytest.mark.parametrize("protocol", ["mooncake", "sequential", "p2p"])
@pytest.mark.parametrize("name", ["p0", "d0"])
def test_every_protocol_finds_the_engine_that_hangs(
    tmp_path: Path, protocol: str, name: str
) -> None:
    with serving(tmp_path, protocol) as service:
        service.up("p0", "p1", "d0", "d1")
        service.engines[name].become("hang")
        assert [service.post().status_code for _ in range(2)] == [200, 200]
        others = [other for other in ("p0", "p1", "d0", "d1") if other != name]
        service.wait_for(*others)
        service.engines[name].become("well")
        service.wait_for("p0", "p1", "d0", "d1")
