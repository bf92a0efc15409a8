"""Write a Qwen2 model of random weights, of any size, to measure how fast models load.

    .venv/bin/python benchmarks/make_model.py /srv/models/random-1g --gb 1.2

It has the tokenizer of pdinfra's tiny model and answers nonsense, the same nonsense for
the same seed. Needs the standard library only; one tensor is in memory at a time.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from random import Random
from typing import BinaryIO

TINY = Path(__file__).resolve().parent.parent / "roles" / "model" / "files" / "tiny-qwen2" / "model"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")

HIDDEN = 1536
HEADS = 12
KV_HEADS = 2
INTERMEDIATE = 4 * HIDDEN
SHARD = 500_000_000
"""Bytes of one file, about."""

Shape = tuple[int, ...]

BITS = {"bfloat16": 16, "float32": 32}
EXPONENT = {"bfloat16": 7, "float32": 23}
"""Where the exponent begins in a value, bits."""
BIAS = 127
SMALL = BIAS - 6
"""Exponent of every weight: plus or minus 2**-6 to 2**-5, a model that stays finite."""


def main() -> None:
    """Read the options, write the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="directory to write; must not exist")
    parser.add_argument("--gb", type=float, default=1.2, help="size of the weights, at least")
    parser.add_argument("--dtype", choices=sorted(BITS), default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    size = write_model(options.out, options.gb * 1e9, options.dtype, options.seed)
    print(json.dumps({"out": str(options.out), "bytes": size}))


def write_model(out: Path, least: float, dtype: str, seed: int) -> int:
    """Write a model of at least so many bytes; return how many its weights have."""
    config = json.loads((TINY / "config.json").read_text())
    layer = sum(prod(shape) for _, shape in layer_tensors(0)) * BITS[dtype] // 8
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": max(1, -int(-least // layer)),
        "torch_dtype": dtype,
    }
    config["max_window_layers"] = config["num_hidden_layers"]
    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in TOKENIZER:
        if (TINY / name).exists():
            shutil.copyfile(TINY / name, out / name)
    shards = list(_shards(config, dtype))
    random, total = Random(seed), 0
    index: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        with (out / name).open("wb") as file:
            total += _write_shard(file, tensors, dtype, random)
        index |= dict.fromkeys(tensors, name)
    document = {"metadata": {"total_size": total}, "weight_map": index}
    (out / "model.safetensors.index.json").write_text(json.dumps(document) + "\n")
    return total


def layer_tensors(number: int) -> Iterator[tuple[str, Shape]]:
    """Yield names and shapes of one layer's tensors, as Qwen2 has them."""
    kv = HIDDEN // HEADS * KV_HEADS
    shapes: dict[str, Shape] = {
        "input_layernorm.weight": (HIDDEN,),
        "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        "self_attn.q_proj.bias": (HIDDEN,),
        "self_attn.k_proj.weight": (kv, HIDDEN),
        "self_attn.k_proj.bias": (kv,),
        "self_attn.v_proj.weight": (kv, HIDDEN),
        "self_attn.v_proj.bias": (kv,),
        "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        "post_attention_layernorm.weight": (HIDDEN,),
        "mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
    }
    for name, shape in shapes.items():
        yield f"model.layers.{number}.{name}", shape


def values(shape: Shape, dtype: str, random: Random | None) -> bytes:
    """Return random small values, or ones without a generator."""
    count, width = prod(shape), BITS[dtype] // 8
    exponent = SMALL if random else BIAS
    fixed = (exponent << EXPONENT[dtype]).to_bytes(width, "little")
    if random is None:
        return fixed * count
    # Sign and fraction stay random, the exponent is fixed: two operations on one big number.
    free = (1 << (BITS[dtype] - 1)) | ((1 << EXPONENT[dtype]) - 1)
    mask = int.from_bytes(free.to_bytes(width, "little") * count, "little")
    drawn = int.from_bytes(random.randbytes(count * width), "little")
    whole = drawn & mask | int.from_bytes(fixed * count, "little")
    return whole.to_bytes(count * width, "little")


def _shards(config: dict[str, int], dtype: str) -> Iterator[dict[str, Shape]]:
    """Yield the tensors of each file."""
    now: dict[str, Shape] = {
        "model.embed_tokens.weight": (config["vocab_size"], HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for number in range(config["num_hidden_layers"]):
        now |= dict(layer_tensors(number))
        if sum(map(prod, now.values())) * BITS[dtype] // 8 >= SHARD:
            yield now
            now = {}
    if now:
        yield now


def _write_shard(file: BinaryIO, tensors: dict[str, Shape], dtype: str, random: Random) -> int:
    """Write one safetensors file; return the bytes of its tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    kind = {"bfloat16": "BF16", "float32": "F32"}[dtype]
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name, shape in tensors.items():
        file.write(values(shape, dtype, None if "norm" in name else random))
    return end


if __name__ == "__main__":
    main()
