"""What verify sends to prefill and decode, by protocol."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from pdinfra.verify.engines import Client, EngineError
from pdinfra.verify.handover import AtEndError, End, way

PREFILL = End("p", "http://p:8100", "p:5600")
DECODE = End("d", "http://d:8200", "d:5700")
BODY = {"model": "m", "prompt": "x", "max_tokens": 8}


class Recorder(Client):
    """FAKE client: remembers what engines are sent; prefill waits until decode was asked too."""

    def __init__(self, *, together: bool = False, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.sent: dict[str, tuple[dict[str, Any], Mapping[str, str] | None]] = {}
        self.order: list[str] = []
        self.together = together
        self.given = answer or {}
        self.asked = threading.Event()

    def complete(
        self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        self.sent[url] = (body, headers)
        self.order.append(url)
        if self.together and url == PREFILL.url:
            assert self.asked.wait(10), "decode was not asked while prefill works"
        if url == DECODE.url:
            self.asked.set()
        return dict(self.given) if url == PREFILL.url else {"choices": [{"text": "y"}]}

    def document(self, url: str) -> dict[str, Any]:
        if not self.given.get("engine"):
            raise EngineError(f"{url} answered 404")
        return {"0": {"engine_id": self.given["engine"]}}


@pytest.mark.parametrize("protocol", ["sequential", "pynccl"])
def test_prefill_computes_one_token_and_decode_gets_the_request_as_it_is(protocol: str) -> None:
    client = Recorder()
    way(protocol)(client, PREFILL, DECODE, BODY)
    assert client.order == [PREFILL.url, DECODE.url]
    assert client.sent[PREFILL.url] == ({**BODY, "max_tokens": 1}, None)
    assert client.sent[DECODE.url] == (BODY, None)


def test_p2p_names_both_ends_in_one_id() -> None:
    client = Recorder()
    way("p2p")(client, PREFILL, DECODE, BODY)
    ids = [dict(headers or {})["X-Request-Id"] for _, headers in client.sent.values()]
    assert ids[0] == ids[1]
    # As vLLM v0.9.2 to v0.23.0 look for it (p2p_nccl_connector.py, parse_request_id).
    to_decode = re.search(r"___decode_addr_(.*):(\d+)", ids[0])
    to_prefill = re.search(r"___prefill_addr_(.*):(\d+)___", ids[0])
    assert to_decode is not None
    assert to_decode.groups() == ("d", "5700")
    assert to_prefill is not None
    assert to_prefill.groups() == ("p", "5600")


def test_nixl_hands_on_what_prefill_answered() -> None:
    params = {"remote_block_ids": [1, 2], "remote_engine_id": "e"}
    client = Recorder(answer={"kv_transfer_params": params})
    way("nixl")(client, PREFILL, DECODE, BODY)
    assert client.sent[PREFILL.url][0]["kv_transfer_params"]["do_remote_decode"] is True
    assert client.sent[DECODE.url][0]["kv_transfer_params"] == params


def test_mooncake_asks_both_at_once_with_one_transfer() -> None:
    client = Recorder(together=True, answer={"engine": "e-1"})
    prefill = End("p", PREFILL.url, "http://p:5600")
    way("mooncake")(client, prefill, DECODE, BODY)
    sent = client.sent[PREFILL.url][0]["kv_transfer_params"]
    fetched = client.sent[DECODE.url][0]["kv_transfer_params"]
    assert sent["transfer_id"] == fetched["transfer_id"]
    assert fetched["remote_engine_id"] == "e-1"
    assert fetched["remote_bootstrap_addr"] == "http://p:5600"


def test_mooncake_without_a_bootstrap_server_blames_prefill() -> None:
    with pytest.raises(AtEndError, match="names no engine") as caught:
        way("mooncake")(Recorder(), PREFILL, DECODE, BODY)
    assert caught.value.end is PREFILL


def test_lmcache_tells_prefill_the_ports_of_every_rank() -> None:
    client = Recorder()
    way("lmcache")(client, PREFILL, End("d", DECODE.url, "d|5700,5701|5702,5703"), BODY)
    spec = client.sent[PREFILL.url][0]["kv_transfer_params"]["disagg_spec"]
    assert spec["receiver_host"] == "d"
    assert spec["receiver_init_port"] == [5700, 5701]
    assert spec["receiver_alloc_port"] == [5702, 5703]
    assert "kv_transfer_params" not in client.sent[DECODE.url][0]
