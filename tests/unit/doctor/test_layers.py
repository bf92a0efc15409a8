"""Pipelines whose stages get too few layers, or not equally many."""

from __future__ import annotations

from pdinfra.doctor.layers import layer_checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import Shape
from tests.unit.builders import NVIDIA, facts, good_model, plan

MIXED = {"mixed": ["a"], "router": ["a"]}


def checked(stages: int, layers: int) -> list[Check]:
    of = plan(MIXED, {**NVIDIA, "pd_pipeline_parallel_size": stages})
    model = good_model(of.host("a").models[0].path, shape=Shape(layers=layers))
    return list(layer_checks(of, {"a": facts(of.host("a"), models=(model,))}))


def test_layers_that_all_stages_share_evenly_are_well() -> None:
    (found,) = checked(4, 48)
    assert (found.status, found.found) == (
        "ok",
        "mixed-a-0: 48 layers, 12, 12, 12, 12 on the stages",
    )


def test_uneven_stages_are_a_warning_that_names_even_ones() -> None:
    (found,) = checked(5, 48)
    assert (found.id, found.status) == ("model-layers", "warn")
    assert found.found == "mixed-a-0: 48 layers, 9, 10, 10, 10, 9 on the stages"
    assert found.fix == "set pd_pipeline_parallel_size to one of 1, 2, 3, 4, 6, 8"


def test_stage_without_a_layer_is_a_fault_of_the_inventory() -> None:
    (found,) = checked(8, 4)
    assert (found.status, found.invalid) == ("fail", True)
    assert found.found == "mixed-a-0: 4 layers for 8 stages"
    assert found.fix == "set pd_pipeline_parallel_size to 4 at most"


def test_one_stage_or_an_unknown_model_is_not_looked_at() -> None:
    assert checked(1, 48) == []
    assert checked(4, 0) == []


def test_model_on_a_host_that_was_not_looked_at_is_not_judged() -> None:
    of = plan(MIXED, {**NVIDIA, "pd_pipeline_parallel_size": 4})
    assert list(layer_checks(of, {})) == []
