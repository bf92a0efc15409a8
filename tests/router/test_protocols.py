"""What each connector's prefill and decode are sent; engines are FAKES that refuse other things."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from aiohttp import ClientSession
from multidict import CIMultiDict

from pdinfra_router import protocols
from pdinfra_router.members import Member
from pdinfra_router.protocols import Message, Order
from tests.router.service import serving

PROTOCOLS = ("nixl", "mooncake", "sequential", "p2p")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_decode_gets_the_kv_of_prefill_and_the_clients_own_request(
    tmp_path: Path, protocol: str
) -> None:
    with serving(tmp_path, protocol) as service:
        p0, d0 = service.up("p0", "d0")
        before = d0.tell()["sources"]
        answer = service.post(stream_options=None, min_tokens=3, stream=False, prompt="a b c d")
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["text"] == "0 1 2 3 4"
        after = d0.tell()["sources"]
        assert after["external_kv_transfer"] - before["external_kv_transfer"] == 4
        assert after["local_compute"] == before["local_compute"]
        (first,), (second,) = p0.seen(), d0.seen()
        assert first["max_tokens"] == 1
        assert first["stream"] is False
        assert not {"stream_options", "min_tokens", "max_completion_tokens"} & set(first)
        assert second["max_tokens"] == 5
        assert second["min_tokens"] == 3
        if protocol == "p2p":
            assert first["id"] == second["id"]
            assert re.fullmatch(
                f"___prefill_addr_{p0.kv}___decode_addr_{d0.kv}_[0-9a-f]{{32}}", first["id"]
            )


@pytest.mark.parametrize(
    ("sent", "prefill"),
    [
        ({}, {"max_completion_tokens": 1}),
        ({"max_tokens": 7}, {"max_tokens": 1}),
        ({"max_completion_tokens": 7}, {"max_completion_tokens": 1}),
        (
            {"max_tokens": 7, "max_completion_tokens": 7},
            {"max_tokens": 1, "max_completion_tokens": 1},
        ),
    ],
)
def test_prefill_of_a_conversation_makes_one_token(
    tmp_path: Path, sent: dict[str, int], prefill: dict[str, int]
) -> None:
    with serving(tmp_path, "nixl") as service:
        p0, d0 = service.up("p0", "d0")
        document = {"model": "tiny", "messages": [{"role": "user", "content": "a b"}], **sent}
        answer = service.send("/v1/chat/completions", document)
        assert answer.status_code == 200
        (first,), (second,) = p0.seen(), d0.seen()
        names = ("max_tokens", "max_completion_tokens")
        assert {name: first[name] for name in names if name in first} == prefill
        assert {name: second[name] for name in names if name in second} == sent


def test_a_mixed_member_is_simply_asked(tmp_path: Path) -> None:
    with serving(tmp_path, "nixl") as service:
        (m0,) = service.up("m0")
        assert service.post().status_code == 200
        (seen,) = m0.seen()
        assert "kv_transfer_params" not in seen


def test_what_is_no_completion_goes_to_a_decode_as_it_is(tmp_path: Path) -> None:
    with serving(tmp_path, "nixl") as service:
        service.up("p0", "d0")
        assert service.get("/v1/models").json()["data"][0]["id"] == "tiny"
        counted = service.send("/tokenize", {"model": "tiny", "prompt": "a b c"})
        assert counted.json() == {"count": 3}
        assert service.get("/health").status_code == 200


def member(name: str, role: str, kv: str) -> Member:
    return Member(name, role, f"http://{name}:8000", kv)


async def planned(protocol: str, decode_kv: str) -> tuple[dict[str, object], Message]:
    """Return what prefill is sent, parsed, and what decode is sent."""
    body = b'{"model": "m", "prompt": "x", "max_tokens": 9, "stream": true}'
    order = Order("/v1/completions", CIMultiDict(), body, json.loads(body), "id-1")
    prefill, decode = member("p", "prefill", ""), member("d", "decode", decode_kv)
    async with ClientSession() as session:
        plan = await protocols.PROTOCOLS[protocol].plan(session, order, prefill, decode)
    sent: dict[str, object] = json.loads(plan.prefill.body)
    return sent, plan.decode({})


def test_lmcache_is_told_by_prefills_request_where_decode_takes_kv() -> None:
    sent, second = asyncio.run(planned("lmcache", "10.0.0.2|5700,5701|5702,5703"))
    assert sent["kv_transfer_params"] == {
        "disagg_spec": {
            "req_id": "id-1",
            "receiver_host": "10.0.0.2",
            "receiver_init_port": [5700, 5701],
            "receiver_alloc_port": [5702, 5703],
        }
    }
    assert (sent["max_tokens"], sent["stream"]) == (1, False)
    assert json.loads(second.body)["max_tokens"] == 9


def test_engines_of_pynccl_are_never_asked_alone() -> None:
    sent, _ = asyncio.run(planned("pynccl", ""))
    assert "kv_transfer_params" not in sent
    assert not protocols.PROTOCOLS["pynccl"].alone
