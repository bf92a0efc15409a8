"""Pipelines: whether every stage of an engine gets layers of the model, and equally many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pdinfra.doctor.estimate import stages
from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Instance, Plan

LAYERS = Rule(
    id="model-layers",
    what="Every stage of a pipeline gets layers of the model, and all get equally many.",
    expected="pipeline_parallel_size divides the model's layers",
    fix="set pd_pipeline_parallel_size to a divisor of num_hidden_layers",
    source="vLLM 0.32, distributed/utils.py, get_pp_indices: the slowest stage sets the pace",
    severity="warn",
)
RULES: tuple[Rule, ...] = (LAYERS,)


def layer_checks(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Yield one check for each pipeline whose first host has the model."""
    for instance in plan.engines:
        if instance.pipeline_parallel_size == 1 or instance.host not in facts:
            continue
        model = facts[instance.host].whole_model(plan.host(instance.host).models)
        if model is not None and model.shape.layers:
            yield _layers(instance, model.shape.layers)


def _layers(instance: Instance, layers: int) -> Check:
    """Compare layers and stages."""
    count = instance.pipeline_parallel_size
    if layers < count:
        found = f"{instance.id}: {layers} layers for {count} stages"
        fix = f"set pd_pipeline_parallel_size to {layers} at most"
        check = LAYERS.bad(instance.host, found, fix=fix, severity="fail")
        return check.model_copy(update={"invalid": True})
    shares = ", ".join(map(str, stages(layers, count)))
    found = f"{instance.id}: {layers} layers, {shares} on the stages"
    if layers % count == 0:
        return LAYERS.ok(instance.host, found)
    even = [str(n) for n in range(1, min(layers, 2 * count) + 1) if layers % n == 0]
    fix = f"set pd_pipeline_parallel_size to one of {', '.join(even)}"
    return LAYERS.bad(instance.host, found, fix=fix)
