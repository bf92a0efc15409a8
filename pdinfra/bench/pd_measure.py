"""Put every load of `bench pd` on one service that is up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from pdinfra.bench.counting import moved_of, settled, sources
from pdinfra.bench.dataset import Shape, generate, jsonl
from pdinfra.bench.engines import WARM_UP_SEED, answering, shortest_limit, tokens_per_word, warm_up
from pdinfra.bench.pd_result import LoadRow, ServiceResult, load_row
from pdinfra.bench.pd_wish import Cell, PdWish
from pdinfra.bench.serve import Job, serve
from pdinfra.driver.look import INVALID, DriverError
from pdinfra.model.plan import Container, Plan
from pdinfra.verify.engines import Client


@dataclass(frozen=True)
class PdBench:
    """What to measure, from where. ``say`` takes a line to keep, ``show`` one for the moment.

    load_from: the host that makes the load, one with an engine; the same for both services.
    there: makes a command one that runs on a host of this name.
    """

    form: Literal["pd", "mixed"]
    inventory: str
    plan: Plan
    wish: PdWish
    load_from: str
    image: str | None
    there: Callable[[str, Sequence[str]], list[str]]
    say: Callable[[str], None]
    show: Callable[[str], None]

    @property
    def container(self) -> Container:
        """An engine's container on the host that makes the load."""
        containers = self.plan.host(self.load_from).containers
        return next(c for c in containers if c.kind == "instance")


def measure(bench: PdBench) -> ServiceResult:
    """Put one load after another on the service. Raises DriverError."""
    plan = bench.plan
    with Client() as client, answering(plan):
        loads = _loads(client, bench)
    return ServiceResult(
        form=bench.form,
        inventory=bench.inventory,
        service=plan.service,
        stack=plan.stack,
        connector=plan.connector if bench.form == "pd" else "none",
        accelerator=plan.accelerator,
        model=plan.model_name,
        engines=dict(Counter(instance.role for instance in plan.instances)),
        cards=sum(len(cards) for instance in plan.instances for *_, cards in instance.places),
        addresses=tuple(sorted({host.address for host in plan.active})),
        load_from=bench.load_from,
        image=bench.image or bench.container.spec.image,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        loads=loads,
    )


def _loads(client: Client, bench: PdBench) -> tuple[LoadRow, ...]:
    """Measure every cell. Raises DriverError if the model does not take one."""
    plan, wish = bench.plan, bench.wish
    limit = shortest_limit(client, plan)
    if limit is not None and (problems := wish.too_long(limit)):
        raise DriverError(problems, INVALID)
    tokens = tokens_per_word(client, plan, wish.seed)
    return tuple(
        _measured(client, bench, cell, wish.dataset(number, tokens))
        for number, cell in enumerate(wish.cells)
    )


def _measured(client: Client, bench: PdBench, cell: Cell, shape: Shape) -> LoadRow:
    """Warm up, put one load on the service, and read the caches' counters around it."""
    plan = bench.plan
    about = f"{'PD' if bench.form == 'pd' else 'mixed'}, {cell.label}"
    bench.show(f"{about}: warm-up")
    # Each engine gets one at least; that every pair has met before, `up` has proven.
    count = max(cell.concurrency, len(plan.instances))
    strangers = replace(shape, groups=count, seed=shape.seed + WARM_UP_SEED)
    warm_up(client, plan, generate(strangers), cell.output_tokens)
    readers = [i for i in plan.instances if i.role != "decode"]
    before = sources(client, readers)
    bench.show(f"{about}: starting vllm bench serve on {bench.load_from}")
    found = serve(
        _job(bench, cell, shape),
        jsonl(generate(shape)),
        lambda command: bench.there(bench.load_from, command),
        lambda done, of: bench.show(f"{about}: {done} of {of} requests"),
    )
    expected = int(found.get("total_input_tokens", 0))
    after = settled(client, readers, readers, before, expected)
    read = moved_of(before, after, readers)
    made = load_row(cell, shape, found, read.hit_rate if read else None)
    bench.say(
        f"{about}: TTFT {made.ttft_median_ms:.0f} ms, TPOT {made.tpot_median_ms:.1f} ms, "
        f"{made.output_tokens_per_second:.0f} tokens/s; {made.seconds:.0f} s"
    )
    return made


def _job(bench: PdBench, cell: Cell, shape: Shape) -> Job:
    """Return one load. Answers have exactly the tokens asked for: the model may not end early."""
    plan, spec = bench.plan, bench.container.spec
    return Job(
        service=plan.service,
        host=bench.load_from,
        url=plan.router.url,
        model=plan.model_name,
        tokenizer=plan.host(bench.load_from).models[0].path,
        spec=spec,
        image=bench.image or spec.image,
        requests=shape.size,
        concurrency=cell.concurrency,
        output_tokens=cell.output_tokens,
        template=False,
        seconds=math.ceil(bench.wish.max_minutes * 60),
        ignore_eos=True,
    )
