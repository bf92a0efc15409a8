"""What vLLM is started with below a prefill or decode instance."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.sim.ascendcloud.simulator import engine, member, options, tables
from tests.unit.sim.ascendcloud.instances import HOST, Node, local_name


def started(node: Node, local: str, *words: str, port: int = 8088) -> tuple[list[str], Any]:
    found = tables.read(node.container(local))
    asked = options.parse(node.arguments(*words, port=port))
    return engine.command(found, asked), engine.environment(found, asked, HOST)


def test_prefill_produces_and_decode_consumes(node: Node) -> None:
    for local, role in ((local_name("01"), "kv_producer"), (local_name("23"), "kv_consumer")):
        command, _ = started(node, local)
        config = json.loads(command[command.index("--kv-transfer-config") + 1])
        assert (config["kv_connector"], config["kv_role"]) == ("NixlConnector", role)


def test_guides_arguments_reach_vllm_in_both_spellings(node: Node) -> None:
    command, _ = started(
        node, local_name("01"), "--quantization=awq", "--gpu-memory-utilization", "0.9",
        "--prefill-batching-policy", "gtsf",
    )  # fmt: skip
    text = " ".join(command)
    for word in ("--max-num-seqs=256", "--quantization=awq", "--gpu-memory-utilization 0.9"):
        assert word in text
    assert "--max-model-len 4096 --max-num-batched-tokens 4096" in text
    assert "policy" not in text
    assert "--served-model-name tiny --tensor-parallel-size 1 --dtype float32" in text


def test_neighbours_on_a_host_have_ports_of_their_own(node: Node) -> None:
    used: set[int] = set()
    for port in range(8088, 8098):
        _, env = started(node, local_name("01"), port=port)
        first = int(env["VLLM_NIXL_SIDE_CHANNEL_PORT"])
        assert int(env["VLLM_PORT"]) == first + 1
        used.update(range(first, first + engine.SLOT))
    assert len(used) == 10 * engine.SLOT


def test_instance_says_who_it_is_besides_what_vllm_serves(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, env = started(node, local_name("23"))
    monkeypatch.setenv(member.VARIABLE, env[member.VARIABLE])
    passed: list[str] = []
    sent: list[Any] = []

    async def vllm(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])

    async def receive() -> Any:
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    async def both() -> None:
        app = member.Middleware(vllm)
        for path in ("/health", member.PATH):
            await app({"type": "http", "path": path}, receive, send)

    asyncio.run(both())
    assert passed == ["/health"]
    body = json.loads(sent[1]["body"])
    assert (body["role"], body["server"], body["models"]) == (
        "decode",
        "127.0.0.1 devices 2,3",
        ["tiny"],
    )
