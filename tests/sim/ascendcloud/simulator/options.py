"""The arguments of start_servers.sh: vLLM's, and two of its own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .refusal import RefusalError

BATCHING = ("fcfs", "gtsf")
ROUTING = ("RoundRobin", "FreeKVFirst", "BLB")
PORTS = range(1, 65536)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse, instead of printing the usage and ending with 2."""
        raise RefusalError(message)


@dataclass(frozen=True)
class Options:
    """What was asked for. ``rest`` is what only vLLM knows, in its order."""

    model: str
    model_names: tuple[str, ...]
    host: str
    port: int
    tensor_parallel_size: int
    max_model_len: int | None
    max_num_batched_tokens: int | None
    batching: str | None
    routing: str | None
    rest: tuple[str, ...]


def parse(words: Sequence[str]) -> Options:
    """Return the options; both ``--x=y`` and ``--x y`` do. Raises RefusalError.

    Defaults are vLLM's, except that there must be a model.
    """
    parser = _Parser(
        prog="start_servers.sh",
        description="pdinfra's SIMULATOR of AscendCloud-LLM's start_servers.sh. The cards are "
        "simulated; prefill and decode run the real vLLM on the CPU.",
        epilog="Everything else is handed on to vLLM.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", nargs="+", default=[])
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument("--prefill-batching-policy", choices=BATCHING)
    parser.add_argument("--prefill-routing-policy", choices=ROUTING)
    known, rest = parser.parse_known_args(list(words))
    if known.port not in PORTS:
        raise RefusalError(f"--port {known.port} is no port")
    return Options(
        model=known.model,
        model_names=tuple(known.served_model_name) or (known.model,),
        host=known.host,
        port=known.port,
        tensor_parallel_size=known.tensor_parallel_size,
        max_model_len=known.max_model_len,
        max_num_batched_tokens=known.max_num_batched_tokens,
        batching=known.prefill_batching_policy,
        routing=known.prefill_routing_policy,
        rest=tuple(rest),
    )


def check(options: Options, role: str) -> None:
    """Refuse arguments that do not go with the role, with each other or with the model."""
    if options.batching and role != "prefill":
        raise RefusalError(f"--prefill-batching-policy is for prefill instances, this is {role}")
    if options.routing and role != "scheduler":
        raise RefusalError(f"--prefill-routing-policy is for the scheduler, this is {role}")
    config = _model(options)
    length = options.max_model_len or config.get("max_position_embeddings")
    batched = options.max_num_batched_tokens
    if batched is not None and length is not None and batched < length:
        text = f"--max-num-batched-tokens {batched} is less than --max-model-len {length}"
        raise RefusalError(f"{text}: it must be greater or equal")


def _model(options: Options) -> dict[str, Any]:
    """Return the model's config.json. Raises RefusalError."""
    path = Path(options.model) / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise RefusalError(
            f"--model {options.model}: {path} cannot be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise RefusalError(f"--model {options.model}: {path} is no JSON: {error}") from None
    return config
