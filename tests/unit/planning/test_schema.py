"""The JSON Schema that editors check an inventory with."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from pdinfra.assets import ROOT
from pdinfra.model.inventory import HostSettings
from pdinfra.planning.place import INTERNAL_PORT
from pdinfra.planning.schema import variables_schema


def errors(variables: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft7Validator(variables_schema())
    return [error.message for error in validator.iter_errors(variables)]


def test_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(variables_schema())


def test_schema_accepts_the_inventory_that_is_shipped() -> None:
    text = (ROOT / "inventories" / "local" / "group_vars" / "all.yml").read_text(encoding="utf-8")
    assert errors(yaml.safe_load(text)) == []


def test_schema_accepts_what_others_define() -> None:
    assert errors({"ansible_host": "10.0.0.1", "ntp_server": "x"}) == []


@pytest.mark.parametrize(
    "variables",
    [
        {"pd_conector": "NixlConnector"},
        {"pd_decode": {"kv_cach_gib": 1}},
        {"pd_router_port": 80},
        {"pd_accelerator": "tpu"},
        {"pd_instances": [{"port": 8100}]},
        {"pd_instances": []},
    ],
)
def test_schema_refuses_what_loading_refuses(variables: dict[str, Any]) -> None:
    assert errors(variables)


def test_every_variable_says_what_it_is_for() -> None:
    properties = variables_schema()["properties"]
    assert set(properties) == {f"pd_{name}" for name in HostSettings.model_fields}
    assert all(entry.get("description") for entry in properties.values())


def test_description_of_the_internal_port_tells_its_real_default() -> None:
    described = variables_schema()["properties"]["pd_internal_port"]["description"]
    assert str(INTERNAL_PORT) in described
