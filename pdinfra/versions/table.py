"""Reading the tables of this package."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml

TAG = re.compile(r"/vllm-ascend:(v\d[\w.]*)")
A3 = re.compile(r"/vllm-ascend:[\w.]+-a3(?![\w.])")


class VersionError(ValueError):
    """The tables have no answer; the text says what is wrong and what would be right."""


def read(name: str) -> Any:
    """Return what a data file of this package says; name: with its ending."""
    text = files("pdinfra.versions").joinpath(name).read_text(encoding="utf-8")
    return yaml.safe_load(text)


def vllm_ascend(image: str) -> str | None:
    """Return the version that an image of vllm-ascend has in its tag; None: it tells none."""
    tag = TAG.search(image)
    return tag.group(1) if tag else None


def is_a3(image: str) -> bool:
    """Tell whether an image of vllm-ascend is made for A3 hosts; those for A2 say nothing of it."""
    return A3.search(image) is not None
