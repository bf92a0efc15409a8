"""Which of two versions is the newer one, for versions as Huawei and vLLM write them."""

from __future__ import annotations

import re

PART = re.compile(r"\d+|rc", re.IGNORECASE)
LONGEST = 8

Order = tuple[tuple[int, int], ...]


def order(version: str) -> Order:
    """Return a key to compare versions by: 24.1.rc2.2 < 24.1.0, 0.10.0rc1 < 0.10.0, 25.5 = 25.5.0.

    A release candidate is older than the release of its numbers; what is left out counts as 0.
    """
    parts = [(0, 0) if part in ("rc", "RC") else (1, int(part)) for part in PART.findall(version)]
    return tuple([*parts, *[(1, 0)] * LONGEST][:LONGEST])


def within(version: str, low: str, high: str) -> bool:
    """Tell whether a version is in a range, both ends included, of the parts that the ends name.

    7.7.0.1.231 is within 7.0.0 to 7.7.0: the ends say nothing of the fourth part.
    """

    def cut(text: str, like: str) -> Order:
        return order(".".join(text.split(".")[: len(like.split("."))]))

    return order(low) <= cut(version, low) and cut(version, high) <= order(high)
