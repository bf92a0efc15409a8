"""How verify hands one prompt from a prefill to a decode, by the plan's protocol.

It speaks to the engines itself: a router that hides a fault would hide it here, too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pdinfra.verify.engines import REMOTE_DECODE, Client, EngineError


@dataclass(frozen=True)
class End:
    """One of the two engines; ``kv`` is where its connector is asked for KV, if requests say so."""

    id: str
    url: str
    kv: str


class AtEndError(EngineError):
    """One of the two did not do its part; ``end`` says which."""

    def __init__(self, end: End, text: object) -> None:
        """Keep who it was."""
        super().__init__(str(text))
        self.end = end


Body = Mapping[str, Any]
Way = Callable[[Client, End, End, Body], dict[str, Any]]


def way(protocol: str) -> Way:
    """Return what hands a prompt over and returns decode's answer.

    It raises AtEndError. A connector that is not known is handed over as NIXL's is.
    """
    return WAYS.get(protocol, _nixl)


def _ask(
    client: Client, end: End, body: Body, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return an engine's answer. Raises AtEndError."""
    try:
        return client.complete(end.url, dict(body), headers)
    except EngineError as error:
        raise AtEndError(end, error) from error


def _nixl(client: Client, prefill: End, decode: End, body: Body) -> dict[str, Any]:
    """Hand on what prefill answers of its KV."""
    handed = _ask(client, prefill, {**body, "max_tokens": 1, "kv_transfer_params": REMOTE_DECODE})
    params = handed.get("kv_transfer_params")
    if not params:
        raise AtEndError(prefill, "its answer carries no kv_transfer_params: KV transfer is off")
    return _ask(client, decode, {**body, "kv_transfer_params": params})


def _sequential(client: Client, prefill: End, decode: End, body: Body) -> dict[str, Any]:
    """Ask prefill, then decode: the connector knows the KV by the prompt."""
    _ask(client, prefill, {**body, "max_tokens": 1})
    return _ask(client, decode, body)


def _p2p(client: Client, prefill: End, decode: End, body: Body) -> dict[str, Any]:
    """Ask both under an id that names both (vLLM docs design/p2p_nccl_connector)."""
    name = f"___prefill_addr_{prefill.kv}___decode_addr_{decode.kv}_{uuid.uuid4().hex}"
    headers = {"X-Request-Id": name}
    _ask(client, prefill, {**body, "max_tokens": 1}, headers)
    return _ask(client, decode, body, headers)


def _lmcache(client: Client, prefill: End, decode: End, body: Body) -> dict[str, Any]:
    """Tell prefill where decode takes KV (lmcache 0.5.6, v1/storage_backend/pd_backend.py)."""
    host, first, second = decode.kv.split("|")
    spec = {
        "req_id": uuid.uuid4().hex,
        "receiver_host": host,
        "receiver_init_port": [int(port) for port in first.split(",")],
        "receiver_alloc_port": [int(port) for port in second.split(",")],
    }
    params = {"disagg_spec": spec}
    _ask(client, prefill, {**body, "max_tokens": 1, "kv_transfer_params": params})
    return _ask(client, decode, body)


def _mooncake(client: Client, prefill: End, decode: End, body: Body) -> dict[str, Any]:
    """Ask both at once; decode fetches (vLLM's mooncake_connector_proxy.py)."""
    try:
        ranks = client.document(f"{prefill.kv}/query")
        engine = next(iter(ranks.values()))["engine_id"]
    except (EngineError, StopIteration, KeyError, TypeError) as error:
        raise AtEndError(prefill, f"its bootstrap server names no engine: {error}") from error
    transfer = f"xfer-{uuid.uuid4().hex}"
    sent = {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": transfer}
    fetched = {
        "do_remote_decode": False,
        "do_remote_prefill": True,
        "remote_bootstrap_addr": prefill.kv,
        "remote_engine_id": engine,
        "transfer_id": transfer,
    }
    with ThreadPoolExecutor(1) as beside:
        first = beside.submit(
            _ask, client, prefill, {**body, "max_tokens": 1, "kv_transfer_params": sent}
        )
        answer = _ask(client, decode, {**body, "kv_transfer_params": fetched})
        first.result()
    return answer


WAYS: Mapping[str, Way] = {
    "nixl": _nixl,
    "sequential": _sequential,
    "pynccl": _sequential,
    "p2p": _p2p,
    "lmcache": _lmcache,
    "mooncake": _mooncake,
}
