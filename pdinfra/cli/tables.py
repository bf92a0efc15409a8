"""Plan, status, checks and proof as a person likes to read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.console import Group as Lines
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pdinfra.bench.compare import Comparison, comparison_notes, notes
from pdinfra.bench.picture import legend, panel, percent
from pdinfra.bench.result import Measurement, Row
from pdinfra.cli.bars import show_bars, show_notes
from pdinfra.driver.status import MemberStatus, ServiceStatus
from pdinfra.lab.status import LabStatus
from pdinfra.model.changes import ACTIONS, Change, summary
from pdinfra.model.checks import Check
from pdinfra.model.hosttests import HostTest
from pdinfra.model.proof import Proof
from pdinfra.ranktable.findings import Finding
from pdinfra.ranktable.picture import HostDrawn, InstanceDrawn
from pdinfra.ranktable.read import Role

SIGNS = {
    "create": ("+", "green"),
    "replace": ("±", "yellow"),
    "keep": ("=", "dim"),
    "remove": ("-", "red"),
}
OUTCOMES = {"passed": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "dim")}
ROLES: dict[Role, str] = {
    "scheduler": "yellow",
    "prefill": "blue",
    "decode": "green",
    "instance": "white",
}
MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def show_findings(console: Console, findings: Sequence[Finding], files: int) -> None:
    """Print what lint found, the count below."""
    table = new_table("", "rule", "file", "at", "found", "expected", "fix")
    mark, style = MARKS["fail"]
    for each in findings:
        cells = (each.rule, each.file, each.path, each.found, each.expected, each.fix)
        table.add_row(Text(mark, style), *map(Text, cells))
    if findings:
        console.print(table)
    line = f"{files} files: {len(findings)} findings" if findings else f"{files} files: all well"
    console.print(Text(line, style="bold red" if findings else "bold green"))


def show_hosts(console: Console, hosts: Sequence[HostDrawn]) -> None:
    """Draw every host with its instances, and these with their cards by rank."""
    for host in hosts:
        inside = [_instance(instance) for instance in host.members]
        title = Text(f"host {host.host}", style="bold")
        console.print(Panel(Columns(inside), title=title, title_align="left", box=box.ROUNDED))


def _instance(instance: InstanceDrawn) -> Panel:
    """Return one instance's box."""
    style = ROLES[instance.role]
    lines = [
        Text(f"rank {card.rank_id:<3} device {card.device_id:<3} {card.device_ip}")
        for card in instance.cards
    ]
    inside = Lines(*(lines or [Text("the service's entry")]))
    title = Text(instance.title, style=f"bold {style}")
    return Panel(inside, title=title, title_align="left", border_style=style, box=box.SQUARE)


def show_changes(console: Console, changes: Sequence[Change]) -> None:
    """Print the plan: every change with its reason, the counts below."""
    table = new_table("", "action", "what", "host", "why")
    for change in changes:
        sign, style = SIGNS[change.action]
        fields = list(map(str, change.fields))
        more = change.reason.removeprefix("; ".join(fields)).removeprefix("; ")
        why = "\n".join([*fields, *([more] if more else [])])
        row = (sign, change.action, f"{change.kind} {change.id}", change.host, why)
        table.add_row(*(Text(cell, style=style) for cell in row))
    console.print(table)
    counts = summary(changes)
    line = ", ".join(f"{counts[action]} to {action}" for action in ACTIONS)
    console.print(Text(f"Plan: {line}.", style="bold"))


def show_status(console: Console, status: ServiceStatus) -> None:
    """Print everything of the service with its state."""
    table = new_table("", "id", "role", "host", "url", "state", "answers")
    for member in (status.router, *status.instances, *status.nodes, *status.stores):
        table.add_row(*_member(member))
    console.print(table)
    if status.agents is not None:
        console.print(Text(f"openYuanrong's master counts {status.agents} agents."))
    word, style = ("healthy", "green") if status.healthy else ("NOT healthy", "red")
    console.print(Text(f"Service {status.service} is {word}.", style=f"bold {style}"))


def _member(member: MemberStatus) -> list[Text]:
    """Return one row."""
    well = member.ready and member.state == "running"
    mark, style = MARKS["ok" if well else "fail"]
    cells = [member.id, member.role, member.host, member.url, member.state]
    answers = "yes" if member.ready else "no"
    return [Text(mark, style), *map(Text, cells), Text(answers, style)]


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print all findings, bad ones first, with their fixes; the counts below."""
    table = new_table("", "check", "host", "found", "expected", "fix")
    order = ("fail", "warn", "ok")
    for check in sorted(checks, key=lambda check: order.index(check.status)):
        mark, style = MARKS[check.status]
        cells = (check.id, check.host, check.found, check.expected, check.fix)
        table.add_row(Text(mark, style), *map(Text, cells))
    console.print(table)
    count = Counter(check.status for check in checks)
    line = f"{len(checks)} checks: {count['ok']} ok, {count['warn']} warn, {count['fail']} fail"
    console.print(Text(line, style="bold"))


def show_host_tests(console: Console, tests: Sequence[HostTest]) -> None:
    """Print every test of the hosts, the counts below."""
    table = new_table("", "host", "what", "found", "expected")
    for test in tests:
        mark, style = OUTCOMES[test.outcome]
        cells = (test.host, test.test, test.found, test.expected)
        table.add_row(Text(mark, style), *map(Text, cells))
    console.print(table)
    counts: Counter[str] = Counter(test.outcome for test in tests)
    line = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)
    console.print(Text(f"Tests of the hosts: {line}.", style="bold"))


def show_proof(console: Console, proof: Proof, url: str) -> None:
    """Print the sentence that KV moved, or what did not hold."""
    if proof.store is not None and proof.store.ok:
        line = (
            f"✓ Data system: {len(proof.store.members)} workers ready in etcd, "
            f"every key read on every host ({len(proof.store.reads)} of {len(proof.store.reads)})."
        )
        console.print(Text(line, "green"), soft_wrap=True)
    for pair in proof.pairs:
        if pair.ok and pair.external_tokens is None:
            line = f"✓ {pair.prefill} and {pair.decode} answered one after the other."
            console.print(Text(line, "green"), soft_wrap=True)
        elif pair.ok:
            line = (
                f"✓ KV moved: {pair.external_tokens} of {pair.prompt_tokens} prompt tokens "
                f"went from {pair.prefill} to {pair.decode} (decode's own counter {pair.counter})."
            )
            console.print(Text(line, "green"), soft_wrap=True)
    for problem in proof.problems:
        console.print(Text(f"✗ {problem}", "red"), soft_wrap=True)
    for note in proof.notes:
        console.print(Text(f"! {note}", "yellow"), soft_wrap=True)
    if proof.completion.text:
        tokens = proof.completion.completion_tokens
        line = f"✓ {url} answers “{proof.completion.prompt}” with {tokens} tokens:"
        console.print(Text(line, "green"), soft_wrap=True)
        console.print(Text(f"  {proof.completion.text.strip()}", "italic"), soft_wrap=True)


def show_lab(console: Console, lab: LabStatus) -> None:
    """Print a lab's hosts, and the registry's two names."""
    table = new_table("", "host", "address", "state", "systemd", "docker", "groups", "faults")
    for host in lab.hosts:
        mark, style = MARKS["warn" if host.faults else "ok" if host.booted else "fail"]
        cells = (host.name, host.address, host.state, host.systemd, host.engine)
        lists = (", ".join(host.groups), ", ".join(host.faults))
        table.add_row(Text(mark, style), *map(Text, (*cells, *lists)))
    console.print(table)
    if lab.registry is not None:
        names = f"push to {lab.registry.push}/…, hosts pull from {lab.registry.pull}/…"
        console.print(Text(f"Registry is {lab.registry.state}: {names}"), soft_wrap=True)
    if not lab.hosts:
        console.print(Text(f"Lab {lab.name} is not up."))


def show_words(console: Console, head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> None:
    """Print words and what they mean."""
    table = new_table(*head)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def show_measurement(console: Console, found: Measurement) -> None:
    """Print one service's times and hits by prompt length, and their picture."""
    table = _ttft_table()
    for row in found.rows:
        table.add_row(*_ttft_cells(row, found.stack))
    console.print(table)
    show_bars(console, [panel(found)], legend(found))
    show_notes(console, notes(found))


def show_comparison(console: Console, found: Comparison) -> None:
    """Print both services' times and hits by prompt length, the differences, and a picture."""
    table = _ttft_table()
    for (mine, other), change in zip(found.pairs, found.differences, strict=True):
        table.add_row(*_ttft_cells(mine, f"with ({found.first.stack})"))
        table.add_row(*_ttft_cells(other, f"without ({found.second.stack})"))
        changed = (
            change.ttft_mean_percent,
            change.ttft_median_percent,
            change.ttft_p99_percent,
            change.requests_per_second_percent,
        )
        cells = [f"{value:+.1f} %" for value in changed]
        table.add_row("", "difference", *cells, style="bold", end_section=True)
    console.print(table)
    show_bars(console, [panel(found)], legend(found))
    show_notes(console, comparison_notes(found))


def _ttft_table() -> Table:
    """Return the empty table of times to first token."""
    return new_table(
        "prompt tokens", "service", "TTFT mean ms", "median", "P99",
        "requests/s", "tokens/s", "hit rate", "local", "external",
    )  # fmt: skip


def _ttft_cells(row: Row, service: str) -> list[str]:
    """Return one row; hits are shares of the prompts' tokens, by where prefill found them."""
    hits = row.prefill_tokens
    total = hits.computed + hits.local + hits.external if hits else 0
    parts = (hits.local / total, hits.external / total) if hits and total else (None, None)
    return [
        f"{row.prompt_tokens:.0f} (~{row.length})",
        service,
        f"{row.ttft_mean_ms:.1f}",
        f"{row.ttft_median_ms:.1f}",
        f"{row.ttft_p99_ms:.1f}",
        f"{row.requests_per_second:.2f}",
        f"{row.tokens_per_second:.0f}",
        *map(percent, (row.hit_rate, *parts)),
    ]


def new_table(*columns: str) -> Table:
    """Return an empty table in the house style."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
