"""How one request goes from prefill to decode: what each is sent, by the connector's own rules.

Sources: vLLM 0.32's connectors and its examples/disaggregated (mooncake_connector_proxy.py,
disagg_proxy_demo.py), benchmarks/disagg_benchmarks/disagg_prefill_proxy_server.py.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, ClientTimeout, hdrs
from multidict import CIMultiDict

from pdinfra_router.members import Member

REQUEST_ID = "X-Request-Id"
BOOTSTRAP_TIMEOUT = ClientTimeout(total=5)


@dataclass(frozen=True)
class Order:
    """One completion: ``path`` with its query, ``document`` the parsed ``body``."""

    path: str
    headers: CIMultiDict[str]
    body: bytes
    document: Mapping[str, Any]
    request_id: str


@dataclass(frozen=True)
class Message:
    """What one engine is sent."""

    headers: CIMultiDict[str]
    body: bytes


@dataclass(frozen=True)
class Plan:
    """One request for a pair.

    ``decode`` makes decode's message of the document that prefill answered; if ``together``, both
    are sent at once and it is given an empty one.
    """

    prefill: Message
    decode: Callable[[Mapping[str, Any]], Message]
    together: bool = False


@dataclass(frozen=True)
class Protocol:
    """``plan`` raises ClientError, TimeoutError or ValueError where prefill does not tell its part.

    ``alone``: whether an engine answers a request that names no partner.
    """

    plan: Callable[[ClientSession, Order, Member, Member], Awaitable[Plan]]
    alone: bool = True


async def sequential(session: ClientSession, order: Order, prefill: Member, decode: Member) -> Plan:
    """Ask prefill for one token, then decode: the connector finds the KV by the prompt."""
    return Plan(
        _message(order, order.request_id, _prefill(order)),
        lambda _: Message(_headers(order, order.request_id), order.body),
    )


async def p2p(session: ClientSession, order: Order, prefill: Member, decode: Member) -> Plan:
    """Do as ``sequential``; the request's id names both ends (vLLM docs, p2p_nccl_connector)."""
    name = f"___prefill_addr_{prefill.kv}___decode_addr_{decode.kv}_{uuid.uuid4().hex}"
    return Plan(
        _message(order, name, _prefill(order)),
        lambda _: Message(_headers(order, name), order.body),
    )


async def nixl(session: ClientSession, order: Order, prefill: Member, decode: Member) -> Plan:
    """Hand what prefill answers as kv_transfer_params on to decode."""
    asked = {
        "do_remote_decode": True,
        "do_remote_prefill": False,
        "remote_engine_id": None,
        "remote_block_ids": None,
        "remote_host": None,
        "remote_port": None,
    }

    def then(answer: Mapping[str, Any]) -> Message:
        given = answer.get("kv_transfer_params")
        return _message(order, order.request_id, {**order.document, "kv_transfer_params": given})

    document = {**_prefill(order), "kv_transfer_params": asked}
    return Plan(_message(order, order.request_id, document), then)


async def mooncake(session: ClientSession, order: Order, prefill: Member, decode: Member) -> Plan:
    """Send to both at once; they find each other by the bootstrap server's engine id.

    It is asked each time: an engine that was started anew has another id. It knows one engine for
    each data-parallel rank, and the request must reach the one that decode is told.
    """
    url = f"{prefill.kv}/query"
    async with session.get(url, timeout=BOOTSTRAP_TIMEOUT, raise_for_status=True) as answer:
        ranks = json.loads(await answer.read())
    if not ranks:
        raise ValueError("prefill's bootstrap server knows no engine yet")
    rank = random.choice(sorted(ranks))
    transfer = f"xfer-{uuid.uuid4().hex}"
    sent = {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": transfer}
    fetched = {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_bootstrap_addr": prefill.kv,
        "remote_engine_id": ranks[rank]["engine_id"],
        "transfer_id": transfer,
    }
    document = {**_prefill(order), "kv_transfer_params": sent}
    first = _message(order, order.request_id, document)
    if len(ranks) > 1:
        first.headers["X-data-parallel-rank"] = rank
    second = _message(order, order.request_id, {**order.document, "kv_transfer_params": fetched})
    return Plan(first, lambda _: second, together=True)


async def lmcache(session: ClientSession, order: Order, prefill: Member, decode: Member) -> Plan:
    """Tell prefill where decode takes KV: ``host|ports of its ranks|ports to allocate at``.

    Source: lmcache 0.5.6, v1/storage_backend/pd_backend.py.
    """
    host, first, second = decode.kv.split("|")
    spec = {
        "req_id": order.request_id,
        "receiver_host": host,
        "receiver_init_port": [int(port) for port in first.split(",")],
        "receiver_alloc_port": [int(port) for port in second.split(",")],
    }
    document = {**_prefill(order), "kv_transfer_params": {"disagg_spec": spec}}
    return Plan(
        _message(order, order.request_id, document),
        lambda _: Message(_headers(order, order.request_id), order.body),
    )


PROTOCOLS = {
    "nixl": Protocol(nixl),
    "mooncake": Protocol(mooncake),
    "sequential": Protocol(sequential),
    "lmcache": Protocol(lmcache),
    # PyNcclConnector's decode waits until prefill has computed the same prompt, and prefill's
    # buffer keeps what nobody fetches (vLLM v0.7.2, simple_buffer.py).
    "pynccl": Protocol(sequential, alone=False),
    # P2pNcclConnector reads both addresses from every request's id and fails without.
    "p2p": Protocol(p2p, alone=False),
}


def _prefill(order: Order) -> dict[str, Any]:
    """Return the request for one token that is not streamed."""
    document = dict(order.document)
    for name in ("stream_options", "min_tokens"):
        document.pop(name, None)
    limits = [name for name in ("max_tokens", "max_completion_tokens") if name in document]
    if not limits:
        limits = ["max_completion_tokens" if "messages" in document else "max_tokens"]
    return {**document, **dict.fromkeys(limits, 1), "stream": False}


def _message(order: Order, request_id: str, document: Mapping[str, Any]) -> Message:
    """Return a message with another document than the client's."""
    return Message(_headers(order, request_id), json.dumps(document).encode())


def _headers(order: Order, request_id: str) -> CIMultiDict[str]:
    """Return the client's headers with the request's id."""
    headers = CIMultiDict(order.headers)
    headers[REQUEST_ID] = request_id
    headers[hdrs.CONTENT_TYPE] = "application/json"
    # Prefill's answer is read here, and a compressed stream comes in blocks.
    headers.popall(hdrs.ACCEPT_ENCODING, None)
    return headers
