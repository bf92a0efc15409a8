"""What weights are called in the data system.

Two engines share weights only if everything that shapes a rank's tensors is equal, so
all of it is in the name. openYuanrong's own patch (get_model_key) knows the ranks only:
there, two models in one data system are one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

FORMAT = 1
"""Version of names and manifests; another one is another name."""

PREFIX = "pdinfra-weights"


@dataclass(frozen=True)
class Names:
    """The keys of one rank of one model."""

    base: str

    @property
    def manifest(self) -> str:
        """Key of what says which chunks there are."""
        return f"{self.base}-manifest"

    @property
    def claim(self) -> str:
        """Key that the one instance holds that is publishing now."""
        return f"{self.base}-claim"

    def chunk(self, publication: str, index: int) -> str:
        """Key of one chunk. A publication's own: nobody else writes or deletes it."""
        return f"{self.base}-{publication}-{index}"

    def own(self, key: str) -> bool:
        """Return whether a key is one of these. A damaged manifest may name any."""
        return key.startswith(f"{self.base}-")


def names(facts: Mapping[str, object]) -> Names:
    """Return the names for a rank's facts (model, versions, dtype, ranks: anything JSON has)."""
    text = json.dumps({**facts, "format": FORMAT}, sort_keys=True, separators=(",", ":"))
    return Names(f"{PREFIX}-{hashlib.sha256(text.encode()).hexdigest()[:40]}")
