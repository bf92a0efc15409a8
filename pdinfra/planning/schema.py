"""The inventory's JSON Schema, generated from its model."""

from __future__ import annotations

from typing import Any

from pdinfra.model.inventory import HostSettings


def variables_schema() -> dict[str, Any]:
    """Return the schema of a group_vars or host_vars file, or of `vars` in a hosts file.

    Variables of others (``ansible_*``, the site's own) are allowed; an unknown ``pd_`` one is not.
    """
    schema = HostSettings.model_json_schema(by_alias=True)
    schema |= {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "pdinfra inventory variables",
        "patternProperties": {"^(?!pd_)": {}},
        "additionalProperties": False,
    }
    return schema
