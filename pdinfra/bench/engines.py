"""A service's engines as a load needs them: whether they can be measured, from where, with what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pdinfra.bench.dataset import Shape, generate
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.model.plan import Container, HostPlan, Instance, Plan
from pdinfra.verify.engines import Client, EngineError

SAMPLE_WORDS = 256

WARM_UP_SEED = 1_000_000_000
"""Added to a dataset's seed: prompts of the same lengths that are none of the measured ones."""


@contextmanager
def answering(plan: Plan) -> Iterator[None]:
    """Say of an engine that does not answer what mends it. Raises DriverError for EngineError."""
    try:
        yield
    except EngineError as error:
        line = f"service {plan.service}: {error}"
        raise DriverError(
            [f"{line}. Fix: `status` shows who is missing, `up` mends"], FAILED
        ) from error


def need_engines(plan: Plan) -> None:
    """Raise DriverError for engines that are openYuanrong's own actors, or Ray Serve's replicas."""
    if plan.instances:
        return
    whose = "Ray Serve" if plan.ray else "openYuanrong"
    cause = f"its engines are {whose}'s own: they have no addresses, and no counters to read"
    fix = "measure as the guide does, by `vllm bench serve` with the file of `bench dataset`"
    thing = "pd_stack ray" if plan.ray else f"pd_connector {plan.connector}"
    raise DriverError([f"{thing}: {cause}. Fix: {fix}"], INVALID)


def load_host(plan: Plan) -> tuple[HostPlan, Container]:
    """Return the host that makes the load, and an engine's container there.

    It takes a host with an engine's image and the model: the router's, if it has them, else one
    that does not prefill, because time to first token is prefill's.
    """
    order = {"decode": 1, "mixed": 2, "prefill": 3}

    def rank(instance: Instance) -> int:
        return 0 if instance.host == plan.router.host else order[instance.role]

    best = min(plan.instances, key=rank)
    host = plan.host(best.host)
    return host, next(c for c in host.containers if c.id == best.id)


def tokens_per_word(client: Client, plan: Plan, seed: int) -> float:
    """Return how many tokens a random word has, by the model's tokenizer. Raises EngineError."""
    (sample,) = generate(Shape(1, 1, 1, SAMPLE_WORDS - 1, seed))
    url = plan.instances[0].url
    return client.tokens(url, {"model": plan.model_name, "prompt": sample}) / SAMPLE_WORDS


def shortest_limit(client: Client, plan: Plan) -> int | None:
    """Return the tokens that a request may have on every engine, None if unknown.

    Raises EngineError.
    """
    limits = [client.max_model_len(instance.url) for instance in plan.instances]
    return min((limit for limit in limits if limit is not None), default=None)


def warm_up(client: Client, plan: Plan, prompts: Sequence[str], output_tokens: int) -> None:
    """Send these prompts through the router, all at a time. Raises EngineError."""
    bodies = [
        {"model": plan.model_name, "prompt": prompt, "max_tokens": output_tokens}
        for prompt in prompts
    ]
    with ThreadPoolExecutor(max_workers=len(bodies)) as pool:
        list(pool.map(lambda body: client.complete(plan.router.url, body), bodies))
