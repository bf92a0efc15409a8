"""Whether a service's engines can be measured one by one."""

from __future__ import annotations

from pdinfra.driver.look import INVALID, DriverError
from pdinfra.model.plan import Plan


def need_engines(plan: Plan) -> None:
    """Raise DriverError for a deployment whose engines are openYuanrong's own actors."""
    if plan.instances:
        return
    cause = "its engines are openYuanrong's own: they have no addresses, and no counters to read"
    fix = "measure as the guide does, by `vllm bench serve` with the file of `bench dataset`"
    raise DriverError([f"pd_connector {plan.connector}: {cause}. Fix: {fix}"], INVALID)
