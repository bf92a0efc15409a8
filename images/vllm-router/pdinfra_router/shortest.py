"""Prompts that are too short for a connector: ExampleConnector's engine dies of one token.

Source: vLLM 0.32, measured; its align_to_block_size of a prompt of 1 token is negative.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import ClientSession, hdrs
from multidict import CIMultiDict

from pdinfra_router.exchange import Whole, read
from pdinfra_router.protocols import Message, Order
from pdinfra_router.seats import Seat
from pdinfra_router.warmup import TOKEN_BYTES

JSON = "application/json"


async def refusal(session: ClientSession, seat: Seat, order: Order, least: int) -> Whole | None:
    """Return what to tell a client whose prompt has fewer tokens than ``least``, else None.

    A member is asked only where the text is so short that it could be. Raises LegError.
    """
    if least <= 0:
        return None
    prompt = _prompt(order.document)
    if isinstance(prompt, list):
        return _refused(len(prompt), least) if len(prompt) < least else None
    if len(str(prompt).encode()) >= TOKEN_BYTES * least:
        return None
    wanted = {k: order.document[k] for k in ("model", "prompt", "messages") if k in order.document}
    if "prompt" in wanted:
        wanted["prompt"] = prompt
    headers = CIMultiDict({**order.headers, hdrs.CONTENT_TYPE: JSON})
    message = Message(headers, json.dumps(wanted).encode())
    answer = await read(session, seat, "POST", "/tokenize", message)
    if answer.status != 200:
        return answer
    count = int(json.loads(answer.body)["count"])
    return _refused(count, least) if count < least else None


def _prompt(document: Mapping[str, Any]) -> Any:
    """Return the one prompt: text, a list of token ids, or a conversation's text."""
    if "messages" in document:
        return json.dumps(document["messages"], ensure_ascii=False)
    prompt = document.get("prompt", "")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], list | str):
        return prompt[0]
    return prompt


def _refused(count: int, least: int) -> Whole:
    """Return the error in OpenAI's form."""
    error = {
        "message": f"the prompt has {count} tokens; this service takes {least} or more",
        "type": "invalid_request_error",
        "param": "prompt",
        "code": 400,
    }
    headers = CIMultiDict({hdrs.CONTENT_TYPE: JSON})
    return Whole(400, headers, json.dumps({"error": error}).encode())
