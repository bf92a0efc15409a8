"""A table's bytes, as json.dump(table, file, indent=4) of the vendors' Python tools has them."""

from __future__ import annotations

import json
from typing import Any

Document = dict[str, Any]
"""One table; its keys keep the order in which they are written."""


def dump(document: Document) -> str:
    """Return the text: 4 spaces, keys in order, ASCII, no newline at the end."""
    return json.dumps(document, indent=4)
