"""A listed model directory → what is there, and what is missing of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pdinfra.model.facts import ManifestFact, ModelFact
from pdinfra.reading.model_config import count, language_model, shape

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model")
WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
READ = (*WEIGHTS, ".json", ".model", ".txt", ".jinja", ".py")
"""What an engine reads of a directory; a README may differ from host to host."""
MANIFEST = ".pdinfra-model.json"
"""Written by the module pd_model when all files are there and verified."""
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def model_fact(path: str, raw: Mapping[str, Any]) -> ModelFact:
    """Read one directory: config.json, weights (all shards of an index), a tokenizer."""
    if raw["error"]:
        return ModelFact(path=path, error=raw["error"])
    files: Mapping[str, int] = raw["files"]
    texts: Mapping[str, str | None] = raw["texts"]
    missing = []
    config: Any = {}
    if "config.json" not in files:
        missing.append("config.json")
    else:
        config = _json(texts.get("config.json"))
        if not isinstance(config, dict):
            missing.append("config.json that is valid JSON")
            config = {}
    # vLLM reads the weights beside config.json; folders below hold other formats.
    weights = {n: size for n, size in files.items() if n.endswith(WEIGHTS) and "/" not in n}
    listed, broken = _listed(texts)
    missing += _missing_shards(weights, listed, broken)
    if not any(name in files for name in TOKENIZERS):
        missing.append("a tokenizer (tokenizer.json or tokenizer.model)")
    numbers = language_model(config)
    heads = count(numbers.get("num_attention_heads"))
    return ModelFact(
        path=path,
        missing=tuple(missing),
        heads=heads,
        kv_heads=count(numbers.get("num_key_value_heads")) or heads,
        weight_bytes=sum(weights[name] for name in _loaded(weights, listed)),
        shape=shape(config),
        files={n: size for n, size in files.items() if n.endswith(READ) and not ours(n)},
        manifest=_manifest(texts.get(MANIFEST), files),
    )


def ours(name: str) -> bool:
    """Tell whether a file is pdinfra's note of a delivery: no part of the model."""
    return name.startswith(".pdinfra-")


def _manifest(text: str | None, files: Mapping[str, int]) -> ManifestFact | None:
    """Read a delivery's manifest and compare its sizes; None if there is none that is valid."""
    found = _json(text)
    try:
        listed = {row["path"]: (int(row["size"]), str(row["sha256"])) for row in found["files"]}
        repo, revision = str(found["repo"]), str(found["revision"])
    except (KeyError, TypeError, ValueError):
        return None
    rows = "\n".join(f"{path} {sha256}" for path, (_, sha256) in sorted(listed.items()))
    wrong = [
        f"{path} missing" if path not in files else f"{path} has {files[path]} bytes, not {size}"
        for path, (size, _) in sorted(listed.items())
        if files.get(path) != size
    ]
    return ManifestFact(
        repo=repo,
        revision=revision,
        digest=hashlib.sha256(rows.encode()).hexdigest()[:16],
        wrong=tuple(wrong),
    )


def _listed(texts: Mapping[str, str | None]) -> tuple[set[str], str]:
    """Return the weight files that an index names, and the name of an index that is broken."""
    for name in INDEXES:
        if name not in texts:
            continue
        index = _json(texts[name])
        if not isinstance(index, dict):
            return set(), name
        shards = index.get("weight_map")
        if isinstance(shards, dict):
            return {str(shard) for shard in shards.values()}, ""
    return set(), ""


def _loaded(weights: Mapping[str, int], listed: set[str]) -> set[str]:
    """Return the files that vLLM loads: an index's, else those of the first kind there is."""
    kinds = ({name for name in weights if name.endswith(kind)} for kind in WEIGHTS)
    return (listed & weights.keys()) or next((names for names in kinds if names), set())


def _missing_shards(weights: Mapping[str, int], listed: set[str], broken: str) -> list[str]:
    """Return the weight files that are not there or empty."""
    if not weights:
        return ["weights (*.safetensors)"]
    if broken:
        return [f"{broken} that is valid JSON"]
    absent = sorted(listed - weights.keys())
    return absent + sorted(f"{name} (0 bytes)" for name, size in weights.items() if not size)


def _json(text: str | None) -> Any:
    """Return the parsed text, or None if there is none that parses."""
    try:
        return json.loads(text or "")
    except ValueError:
        return None
