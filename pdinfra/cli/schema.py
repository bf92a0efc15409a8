"""`schema`: the JSON Schema of inventory variables, for editors."""

from __future__ import annotations

from pdinfra.cli.options import emit
from pdinfra.planning.schema import variables_schema


def schema() -> None:
    """Print the JSON Schema of group_vars and host_vars files (docs/inventory.schema.json)."""
    emit(variables_schema())
