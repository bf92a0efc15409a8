"""Measure time to first token of a running service, by prompt length, with its caches' hits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pdinfra.bench.counting import moved_of, settled, sources
from pdinfra.bench.dataset import Shape, generate, jsonl
from pdinfra.bench.engines import (
    WARM_UP_SEED,
    answering,
    load_host,
    need_engines,
    shortest_limit,
    tokens_per_word,
    warm_up,
)
from pdinfra.bench.result import Measurement, Row, caching, row
from pdinfra.bench.serve import Job, serve
from pdinfra.bench.wish import Wish
from pdinfra.driver.look import INVALID, DriverError
from pdinfra.model.plan import Container, HostPlan, Plan
from pdinfra.verify.engines import Client, EngineError


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
    with Client() as client, answering(plan):
        shapes, template = _prepared(client, bench)
        own = [client.prefix_caching(i.url) for i in plan.instances]
        job = _job(bench, host, container, template)
        rows = [_measured(client, bench, job, n, shape) for n, shape in shapes.items()]
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


def _prepared(client: Client, bench: Bench) -> tuple[dict[int, Shape], bool]:
    """Return each length's dataset, and whether the model has a chat template.

    Raises DriverError if a length is too long for the model.
    """
    plan, wish = bench.plan, bench.wish
    url, model = plan.instances[0].url, plan.model_name
    limit = shortest_limit(client, plan)
    if limit is not None and (problems := wish.too_long(limit)):
        raise DriverError(problems, INVALID)
    tokens = tokens_per_word(client, plan, wish.seed)
    try:
        client.tokens(url, {"model": model, "messages": [{"role": "user", "content": "x"}]})
    except EngineError:
        return wish.shapes(tokens), False
    return wish.shapes(tokens), True


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
    before = sources(client, plan.instances)
    bench.show(f"{about}: starting vllm bench serve on {job.host}")
    found = serve(
        job,
        jsonl(generate(shape)),
        lambda command: bench.there(job.host, command),
        lambda done, of: bench.show(f"{about}: {done} of {of} requests"),
    )
    after = settled(
        client, plan.instances, readers, before, int(found.get("total_input_tokens", 0))
    )
    made = row(
        length, shape, found, moved_of(before, after, readers), moved_of(before, after, writers)
    )
    bench.say(f"{about}: TTFT {made.ttft_mean_ms:.0f} ms on average, {made.seconds:.0f} s")
    return made


def _warm_up(client: Client, bench: Bench, shape: Shape) -> None:
    """Send as many prompts as are measured at a time, none of them a measured one."""
    wish = bench.wish
    strangers = replace(
        shape, groups=wish.concurrency, prompts_per_group=1, seed=shape.seed + WARM_UP_SEED
    )
    warm_up(client, bench.plan, generate(strangers), wish.output_tokens)
