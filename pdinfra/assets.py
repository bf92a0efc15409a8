"""What the repository ships to hosts, by content: image definitions and the tiny model.

Read once by whoever asks for a plan; planning itself does no I/O.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).resolve().parent.parent
TINY_MODEL = ROOT / "roles" / "model" / "files" / "tiny-qwen2" / "model"
DEFINITIONS = ("vllm-cpu", "vllm-router", "yuanrong")
ON_VENDORS = "vllm-ascend-yuanrong"
"""The definition that goes on top of a vendor's image, with pdinfra.yuanrong inside."""


class Assets(BaseModel):
    """Digests (12 hex digits) of what built images and the shipped model are made from."""

    model_config = ConfigDict(frozen=True)

    definitions: dict[str, str]
    tiny_model: str
    tiny_heads: int
    tiny_kv_heads: int
    tiny_bytes: int


@cache
def load() -> Assets:
    """Read the repository's files. Raises OSError if the checkout is incomplete."""
    config = json.loads((TINY_MODEL / "config.json").read_text(encoding="utf-8"))
    return Assets(
        definitions={
            **{
                name: digest(ROOT / "images" / "base", ROOT / "images" / name)
                for name in DEFINITIONS
            },
            ON_VENDORS: digest(ROOT / "images" / ON_VENDORS, ROOT / "pdinfra" / "yuanrong"),
        },
        tiny_model=digest(TINY_MODEL),
        tiny_heads=config["num_attention_heads"],
        tiny_kv_heads=config["num_key_value_heads"],
        tiny_bytes=sum(f.stat().st_size for f in TINY_MODEL.glob("*.safetensors")),
    )


def digest(*folders: Path) -> str:
    """Return 12 hex digits over the names and contents of all files below the folders."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if "__pycache__" in path.parts:
                continue
            total.update(str(path.relative_to(folder)).encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]
