"""Reading the tables of this package."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml

TAG = re.compile(r"/vllm-ascend:(v\d[\w.]*)")


def read(name: str) -> Any:
    """Return what a data file of this package says; name: with its ending."""
    text = files("pdinfra.versions").joinpath(name).read_text(encoding="utf-8")
    return yaml.safe_load(text)


def vllm_ascend(image: str) -> str | None:
    """Return the version that an image of vllm-ascend has in its tag; None: it tells none."""
    tag = TAG.search(image)
    return tag.group(1) if tag else None
