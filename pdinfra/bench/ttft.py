"""Measure time to first token of a running service, by prompt length, with its caches' hits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pdinfra.bench.dataset import Shape, generate, jsonl
from pdinfra.bench.engines import need_engines
from pdinfra.bench.result import Measurement, Row, Tokens, caching, moved, row
from pdinfra.bench.serve import Job, serve
from pdinfra.bench.wish import Wish
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.model.plan import Container, HostPlan, Instance, Plan
from pdinfra.verify.engines import Client, EngineError

SAMPLE_WORDS = 256
COUNTER_SECONDS = 10.0
"""vLLM writes its counters a moment after the answer."""

WARM_UP_SEED = 1_000_000_000
"""Added to a dataset's seed: prompts of the same lengths that are none of the measured ones."""

Sources = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Bench:
    """What to measure, from where. ``say`` takes a line to keep, ``show`` one for the moment.

    there: makes a command one that runs on a host of this name.
    """

    inventory: str
    plan: Plan
    wish: Wish
    image: str | None
    there: Callable[[str, Sequence[str]], list[str]]
    say: Callable[[str], None]
    show: Callable[[str], None]


def measure(bench: Bench) -> Measurement:
    """Put the load of each length on the service, one after another. Raises DriverError."""
    plan, wish = bench.plan, bench.wish
    need_engines(plan)
    host, container = load_host(plan)
    with Client() as client:
        try:
            shapes, template = _prepared(client, bench)
            own = [client.prefix_caching(i.url) for i in plan.instances]
            job = _job(bench, host, container, template)
            rows = [_measured(client, bench, job, n, shape) for n, shape in shapes.items()]
        except EngineError as error:
            line = f"service {plan.service}: {error}"
            raise DriverError(
                [f"{line}. Fix: `status` shows who is missing, `up` mends"], FAILED
            ) from error
    return Measurement(
        inventory=bench.inventory,
        service=plan.service,
        stack=plan.stack,
        connector=plan.connector,
        model=plan.model_name,
        addresses=tuple(sorted({h.address for h in plan.active})),
        load_from=host.name,
        image=job.image,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        concurrency=wish.concurrency,
        output_tokens=wish.output_tokens,
        prefix_caching=caching(own),
        template=template,
        rows=tuple(rows),
    )


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


def _prepared(client: Client, bench: Bench) -> tuple[dict[int, Shape], bool]:
    """Return each length's dataset, and whether the model has a chat template.

    Raises DriverError if a length is too long for the model.
    """
    plan, wish = bench.plan, bench.wish
    url, model = plan.instances[0].url, plan.model_name
    limits = [client.max_model_len(instance.url) for instance in plan.instances]
    known = [limit for limit in limits if limit is not None]
    if known and (problems := wish.too_long(min(known))):
        raise DriverError(problems, INVALID)
    (sample,) = generate(Shape(1, 1, 1, SAMPLE_WORDS - 1, wish.seed))
    tokens = client.tokens(url, {"model": model, "prompt": sample})
    try:
        client.tokens(url, {"model": model, "messages": [{"role": "user", "content": "x"}]})
    except EngineError:
        return wish.shapes(tokens / SAMPLE_WORDS), False
    return wish.shapes(tokens / SAMPLE_WORDS), True


def _job(bench: Bench, host: HostPlan, container: Container, template: bool) -> Job:
    """Return what is the same for each length."""
    plan, wish = bench.plan, bench.wish
    return Job(
        service=plan.service,
        host=host.name,
        url=plan.router.url,
        model=plan.model_name,
        tokenizer=host.models[0].path,
        spec=container.spec,
        image=bench.image or container.spec.image,
        requests=wish.groups * wish.prompts_per_group,
        concurrency=wish.concurrency,
        output_tokens=wish.output_tokens,
        template=template,
        seconds=math.ceil(wish.max_minutes * 60),
    )


def _measured(client: Client, bench: Bench, job: Job, length: int, shape: Shape) -> Row:
    """Warm up, measure one length, and read the counters around it."""
    plan = bench.plan
    readers = [i for i in plan.instances if i.role != "decode"]
    writers = [i for i in plan.instances if i.role == "decode"]
    about = f"{shape.size} prompts of about {length} tokens"
    bench.show(f"{about}: warm-up")
    _warm_up(client, bench, shape)
    before = _sources(client, plan.instances)
    bench.show(f"{about}: starting vllm bench serve on {job.host}")
    found = serve(
        job,
        jsonl(generate(shape)),
        lambda command: bench.there(job.host, command),
        lambda done, of: bench.show(f"{about}: {done} of {of} requests"),
    )
    after = _settled(
        client, plan.instances, readers, before, int(found.get("total_input_tokens", 0))
    )
    made = row(length, shape, found, _moved(before, after, readers), _moved(before, after, writers))
    bench.say(f"{about}: TTFT {made.ttft_mean_ms:.0f} ms on average, {made.seconds:.0f} s")
    return made


def _warm_up(client: Client, bench: Bench, shape: Shape) -> None:
    """Send as many prompts as are measured at a time, none of them a measured one."""
    wish = bench.wish
    strangers = replace(
        shape, groups=wish.concurrency, prompts_per_group=1, seed=shape.seed + WARM_UP_SEED
    )
    bodies = [
        {"model": bench.plan.model_name, "prompt": prompt, "max_tokens": wish.output_tokens}
        for prompt in generate(strangers)
    ]
    with ThreadPoolExecutor(max_workers=wish.concurrency) as pool:
        list(pool.map(lambda body: client.complete(bench.plan.router.url, body), bodies))


def _sources(client: Client, instances: Iterable[Instance]) -> Sources:
    """Return each engine's prompt tokens by source."""
    return {instance.id: client.sources(instance.url) for instance in instances}


def _settled(
    client: Client,
    instances: Sequence[Instance],
    readers: Sequence[Instance],
    before: Sources,
    expected: int,
) -> Sources:
    """Return the counters once they hold every measured prompt, or after a while as they are."""
    limit = time.monotonic() + COUNTER_SECONDS
    while True:
        after = _sources(client, instances)
        names = [reader.id for reader in readers]
        counted = sum(sum(after[name].values()) - sum(before[name].values()) for name in names)
        if counted >= expected or not any(after.values()) or time.monotonic() > limit:
            return after
        time.sleep(0.2)


def _moved(before: Sources, after: Sources, engines: Sequence[Instance]) -> Tokens | None:
    """Return the tokens by source of some engines."""
    return moved(before, {engine.id: after[engine.id] for engine in engines})
