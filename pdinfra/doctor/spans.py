"""Engines over several hosts: whether what they send between hosts is little."""

from __future__ import annotations

from collections.abc import Iterator

from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.plan import Plan

TENSOR_PARALLEL = Rule(
    id="tensor-parallel-host",
    what="The cards that share every layer (tensor parallel) are on one host.",
    expected="tensor_parallel_size divides the cards on each host",
    fix="make tensor_parallel_size what one host has, pipeline_parallel_size the number of hosts",
    source="vLLM docs serving/parallelism_scaling: all of a layer's activations cross the network",
    severity="warn",
)
RULES: tuple[Rule, ...] = (TENSOR_PARALLEL,)


def span_checks(plan: Plan) -> Iterator[Check]:
    """Yield one check for each instance over several hosts, by the plan alone."""
    for instance in plan.engines:
        if not instance.parts:
            continue
        hosts = 1 + len(instance.parts)
        size = instance.tensor_parallel_size
        here = size * instance.pipeline_parallel_size // hosts
        found = f"{instance.id}: tensor_parallel_size {size}, {here} ranks on each of {hosts} hosts"
        rule = TENSOR_PARALLEL
        yield rule.ok(instance.host, found) if here % size == 0 else rule.bad(instance.host, found)
