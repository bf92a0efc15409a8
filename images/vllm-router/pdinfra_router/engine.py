"""What one engine tells of itself: health, its model's name, and what it has done so far."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout

from pdinfra_router.members import Member

TIMEOUT = ClientTimeout(total=5, sock_connect=2)
"""An engine's API process that is busy with 10,000 streams answers within seconds."""
SILENT = "does not answer /health"
WORK = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:iteration_tokens_total_count",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries_total",
    "vllm:external_prefix_cache_queries_total",
)
"""What only the engine's own steps move. kv_cache_usage_perc moves with each chunk of a long
prompt, while the counters of tokens move at its end (vLLM sends its scheduler's figures with every
step, also with those that finish no token)."""


async def health(session: ClientSession, member: Member) -> str:
    """Return what is wrong, empty if nothing; SILENT may be a busy engine."""
    try:
        async with session.get(f"{member.url}/health", timeout=TIMEOUT) as answer:
            return "" if answer.status == 200 else f"/health is {answer.status}"
    except ClientConnectorError:
        return "refuses connections"
    except (ClientError, TimeoutError, OSError):
        return SILENT


async def model(session: ClientSession, member: Member) -> str:
    """Return the name of the model that it serves, empty if it does not tell."""
    try:
        async with session.get(f"{member.url}/v1/models", timeout=TIMEOUT) as answer:
            document: Any = json.loads(await answer.read())
        return str(document["data"][0]["id"])
    except (ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError):
        return ""


async def work(session: ClientSession, member: Member) -> tuple[str, ...]:
    """Return the lines of /metrics that tell what was done, empty if it does not tell."""
    try:
        async with session.get(f"{member.url}/metrics", timeout=TIMEOUT) as answer:
            text = (await answer.read()).decode(errors="replace")
    except (ClientError, TimeoutError, OSError):
        return ()
    return tuple(line for line in text.splitlines() if line.startswith(WORK))
