"""The arithmetic of memory: numbers worked out by hand from vLLM's own formulas."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor.estimate import GIB, Demand, Split, demand, fitting_tokens, not_known, stages
from pdinfra.model.facts import ModelFact, Shape
from pdinfra.model.plan import ContainerSpec
from tests.unit.builders import good_model, plan, specs

QWEN = Shape(layers=48, head_dim=128, positions=131072, dtype="bfloat16")


def model(shape: Shape = QWEN, **more: Any) -> ModelFact:
    values = {"heads": 40, "kv_heads": 8, "weight_bytes": 29_540_067_328, "shape": shape}
    return good_model("/srv/m", **{**values, **more})


def told(*words: str) -> ContainerSpec:
    """Return an engine that was told these words, and nothing besides."""
    spec = specs(plan())["prefill-a-0"]
    return spec.model_copy(update={"command": ("vllm", "serve", "/srv/m", *words)})


def wanted(*words: str, of: ModelFact | None = None) -> Demand:
    return demand(of or model(), told(*words))


def test_qwen_14b_on_four_cards_by_hand() -> None:
    whole = wanted("--max-model-len", "4096")
    four = Split(4, 1)
    assert whole.weights_on(four) == 29_540_067_328 // 4
    # 48 layers, K and V, 2 of 8 KV heads on each card, 128 numbers of 2 bytes.
    assert whole.token_on(four) == 48 * 2 * 2 * 128 * 2 == 49_152
    assert whole.request_on(four) == 192 * 1024**2


def test_kv_heads_are_copied_where_there_are_more_cards() -> None:
    assert wanted().token_on(Split(8, 1)) == wanted().token_on(Split(40, 1)) == 48 * 2 * 128 * 2


def test_stage_with_most_layers_has_most_kv() -> None:
    assert wanted().token_on(Split(1, 5)) == 10 * 2 * 8 * 128 * 2


def test_latent_of_mla_is_whole_on_every_card() -> None:
    deepseek = model(Shape(layers=61, latent=576, dtype="bfloat16"), heads=128, kv_heads=128)
    of = wanted(of=deepseek)
    assert of.token_on(Split(1, 1)) == of.token_on(Split(16, 1)) == 61 * 576 * 2


@pytest.mark.parametrize(
    ("layers", "count", "shares"),
    [
        (48, 4, (12, 12, 12, 12)),
        (48, 5, (9, 10, 10, 10, 9)),
        (61, 2, (31, 30)),
        (5, 4, (1, 1, 2, 1)),
    ],
)
def test_layers_of_stages_are_vllms(layers: int, count: int, shares: tuple[int, ...]) -> None:
    assert stages(layers, count) == shares


def test_length_is_the_last_one_told_else_the_models_own() -> None:
    assert wanted().tokens == 131072
    assert wanted("--max-model-len", "4096", "--max-model-len=2048").tokens == 2048
    assert wanted("--max-model-len=32k").tokens == 0


@pytest.mark.parametrize(
    ("words", "element", "factor"),
    [
        (("--dtype", "auto"), 2, 1),
        (("--dtype", "float32"), 4, 2),
        (("--dtype", "float16", "--kv-cache-dtype", "fp8_e4m3"), 1, 1),
    ],
)
def test_type_decides_bytes(words: tuple[str, ...], element: int, factor: int) -> None:
    of = wanted(*words)
    assert (of.element, of.weights) == (element, factor * 29_540_067_328)


def test_32_bit_files_are_halved_by_auto() -> None:
    full = model(Shape(layers=4, head_dim=8, dtype="float32"), weight_bytes=GIB)
    assert wanted("--dtype", "auto", of=full).weights == GIB // 2


def test_quantized_files_are_what_the_cards_hold() -> None:
    small = model(QWEN.model_copy(update={"quantized": True}), weight_bytes=GIB)
    assert wanted("--dtype", "float32", of=small).weights == GIB
    assert not_known(small, told("--quantization", "awq")) == ""


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--quantization", "fp8"), "--quantization"),
        (("--quantization", "ascend"), ""),
        (("--cpu-offload-gb=8",), "--cpu-offload-gb"),
        ((), ""),
    ],
)
def test_options_that_make_the_sizes_worthless(words: tuple[str, ...], option: str) -> None:
    assert not_known(model(), told(*words)) == option


def test_next_split_is_the_smallest_that_fits_and_splits_the_heads() -> None:
    of = wanted("--max-model-len", "4096")
    assert of.smallest(Split(1, 1), 18 * GIB) == Split(2, 1)
    # 5 cards would have room, but 8 KV heads cannot be split over them; nor 6 or 7.
    assert of.smallest(Split(4, 1), 9 * GIB) == Split(8, 1)
    assert of.smallest(Split(1, 2), 12 * GIB) == Split(2, 2)


def test_no_split_makes_room_for_what_every_card_needs() -> None:
    assert wanted().smallest(Split(1, 1), 2 * GIB) is None


def test_proposed_length_is_of_whole_blocks() -> None:
    assert fitting_tokens(1000, 3) == 256
    assert fitting_tokens(-5, 3) == 0
