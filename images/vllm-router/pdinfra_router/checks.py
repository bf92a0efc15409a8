"""What a body must be before anything is done with it; the rest is for the engines to judge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from pdinfra_router.errors import RefusedError

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
PROMPTS = 2048
"""Prompts of one request; OpenAI takes as many inputs for embeddings."""


def document(path: str, body: bytes) -> dict[str, Any]:
    """Return the request's JSON object. Raises RefusedError with status 400."""
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_json)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not JSON", code="invalid_json") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "the body is not a JSON object", code="invalid_json")
    _model(found)
    if path == CHAT:
        _messages(found)
    else:
        _prompt(found)
    _options(found)
    return found


def scores_prompt(document: Mapping[str, Any]) -> str:
    """Return the parameter that asks for the prompt's own logprobs, else an empty string."""
    if document.get("prompt_logprobs") is not None:
        return "prompt_logprobs"
    # 0 asks for the logprobs of the tokens themselves.
    asked = document.get("logprobs")
    return "echo" if document.get("echo") and asked is not None and asked is not False else ""


def _no_json(name: str) -> NoReturn:
    """Refuse what Python takes for JSON and nobody else does."""
    raise ValueError(name)


def _model(found: Mapping[str, Any]) -> None:
    """Check who is to answer."""
    if found.get("model") is None:
        _missing("model")
    if not isinstance(found["model"], str):
        _wrong("model", "a string")


def _messages(found: Mapping[str, Any]) -> None:
    """Check a conversation."""
    messages = found.get("messages")
    if messages is None:
        _missing("messages")
    if not isinstance(messages, list) or not messages:
        _wrong("messages", "a list of at least one message")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            _wrong(f"messages[{number}]", "an object with a role")


def _prompt(found: Mapping[str, Any]) -> None:
    """Check a prompt or a list of them."""
    if found.get("prompt_embeds") is not None:
        # A list of them has the fault that a list of prompts has, and cannot be told from one.
        raise RefusedError(400, "prompt_embeds is not served here", param="prompt_embeds")
    prompt = found.get("prompt")
    if prompt is None:
        _missing("prompt")
    if isinstance(prompt, str):
        return
    if not isinstance(prompt, list) or not prompt:
        _wrong("prompt", "a string, a list of strings, of token ids, or of lists of token ids")
    if _ids(prompt):
        return
    texts = all(isinstance(each, str) for each in prompt)
    if not texts and not all(isinstance(each, list) and each and _ids(each) for each in prompt):
        _wrong("prompt", "a string, a list of strings, of token ids, or of lists of token ids")
    if len(prompt) > PROMPTS:
        raise RefusedError(400, f"more than {PROMPTS} prompts in one request", param="prompt")


def _ids(values: list[Any]) -> bool:
    """Tell whether a list is one prompt, of token ids."""
    return all(type(each) is int for each in values)


def _options(found: Mapping[str, Any]) -> None:
    """Check what this entry reads itself, and what vllm-router would answer with a riddle."""
    for name in ("stream", "echo"):
        if not isinstance(found.get(name), bool | None):
            _wrong(name, "a boolean")
    for name, least in (("max_tokens", 0), ("max_completion_tokens", 0), ("n", 1), ("best_of", 1)):
        value = found.get(name)
        if value is not None and (type(value) is not int or value < least):
            _wrong(name, f"a whole number of at least {least}")
    if not isinstance(found.get("stream_options"), dict | None):
        _wrong("stream_options", "an object")
    if found.get("kv_transfer_params") is not None:
        # It names the host that decode connects to: the router's business alone.
        raise RefusedError(400, "kv_transfer_params is not a client's", param="kv_transfer_params")


def _missing(name: str) -> NoReturn:
    """Refuse for want of a parameter."""
    message = f"you must provide the parameter '{name}'"
    raise RefusedError(400, message, param=name, code="missing_required_parameter")


def _wrong(name: str, wanted: str) -> NoReturn:
    """Refuse a parameter."""
    message = f"'{name}' must be {wanted}"
    raise RefusedError(400, message, param=name, code="invalid_type")
