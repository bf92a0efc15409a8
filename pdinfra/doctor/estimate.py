"""The memory that an engine takes of each of its cards, in bytes: an estimate (docs/fit.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pdinfra.doctor.told import option
from pdinfra.model.facts import ModelFact
from pdinfra.model.plan import ContainerSpec

GIB = 1024**3
CARD_BYTES = 2 * GIB
"""Activations, CUDA's context and NCCL (vLLM PRs 10511 and 14447 print 0.6 to 3.1 GiB)."""
STEP = 128
"""A max_model_len that is proposed is a multiple of it: vLLM gives KV by blocks."""
CHANGED = ("cpu-offload-gb", "data-parallel-size", "kv-cache-memory-bytes")
"""With these something else than a share of the files, or of the card, counts."""
AS_STORED = ("", "ascend")
"""--quantization for which the files are what the cards hold; others may quantize in loading."""


@dataclass(frozen=True)
class Split:
    """Over how many cards a model is split: those of a layer, and stages of layers."""

    tensor: int
    pipeline: int

    @property
    def cards(self) -> int:
        """All cards of the engine."""
        return self.tensor * self.pipeline


@dataclass(frozen=True)
class Demand:
    """What an engine wants memory for, however it is split.

    ``weights`` are bytes of all cards together, ``element`` the bytes of one number of KV,
    ``tokens`` those of the longest request (0: not known).
    """

    model: ModelFact
    weights: int
    element: int
    tokens: int

    def weights_on(self, split: Split) -> int:
        """Return the bytes of weights on each card."""
        return self.weights // split.cards

    def token_on(self, split: Split) -> int:
        """Return the bytes of one token's KV on the fullest card; 0 where that is not known."""
        shape = self.model.shape
        # A latent is whole on every card of its layer, and a KV head is never split.
        heads = max(1, self.model.kv_heads // split.tensor)
        row = shape.latent or 2 * heads * shape.head_dim
        return max(stages(shape.layers, split.pipeline)) * row * self.element

    def request_on(self, split: Split) -> int:
        """Return the bytes of the longest request's KV on the fullest card; 0: not known."""
        return self.tokens * self.token_on(split)

    def smallest(self, split: Split, room: int) -> Split | None:
        """Return the next larger split that fits into ``room`` bytes of each card, stages kept."""
        for tensor in range(split.tensor + 1, self.model.heads + 1):
            larger = Split(tensor, split.pipeline)
            need = self.weights_on(larger) + self.request_on(larger) + CARD_BYTES
            if self.model.splits_over(tensor) and need <= room:
                return larger
        return None


def stages(layers: int, count: int) -> tuple[int, ...]:
    """Return how many layers each of ``count`` pipeline stages gets.

    Source: vLLM 0.32, distributed/utils.py, get_pp_indices: what is left over goes to the stages
    before the last one, which has the output's embedding.
    """
    even, rest = divmod(layers, count)
    return tuple(even + (count - 1 - rest <= stage < count - 1) for stage in range(count))


def demand(model: ModelFact, spec: ContainerSpec) -> Demand:
    """Return what an engine that was told this wants for this model."""
    return Demand(
        model=model,
        weights=int(model.weight_bytes * _widened(model, option(spec, "dtype"))),
        element=_element(spec),
        tokens=_longest(model, option(spec, "max-model-len")),
    )


def not_known(model: ModelFact, spec: ContainerSpec) -> str:
    """Return the option that makes the estimate worthless; empty if none does."""
    given = [name for name in CHANGED if option(spec, name)]
    if option(spec, "quantization") not in AS_STORED and not model.shape.quantized:
        given.append("quantization")
    return f"--{given[0]}" if given else ""


def fitting_tokens(room: int, token: int) -> int:
    """Return the largest max_model_len to propose for ``room`` bytes, ``token`` for each token."""
    return max(0, room // token // STEP * STEP)


def _widened(model: ModelFact, told: str) -> float:
    """Return how much larger than its files the model is in memory."""
    shape = model.shape
    if shape.quantized or not shape.dtype:
        return 1.0
    return _width(told) / _width(shape.dtype)


def _width(dtype: str) -> int:
    """Return the bytes of one number; `auto` makes 16 bits of 32 (vLLM 0.32, config/model.py)."""
    return 4 if dtype in ("float32", "float") else 2


def _element(spec: ContainerSpec) -> int:
    """Return the bytes of one number of KV."""
    kept: Callable[[str], bool] = option(spec, "kv-cache-dtype").startswith
    return 1 if kept("fp8") or kept("int8") else _width(option(spec, "dtype"))


def _longest(model: ModelFact, told: str) -> int:
    """Return the tokens of the longest request: as told, else the model's own."""
    if not told:
        return model.shape.positions
    return int(told) if told.isdecimal() else 0
