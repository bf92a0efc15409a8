"""Whether the data system is one: its members by etcd's word, and keys that hosts read of others.

No program's own word counts: a worker with a wrong etcd or master calls itself healthy (measured).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdinfra.model.plan import Store
from pdinfra.model.proof import KeyRead, StoreProof

PREFIX = "/datasystem/cluster/"
Results = Mapping[str, Mapping[str, Any]]
"""Of one task, by host, as Ansible registers them."""


def store_proof(
    store: Store, token: str, seen: Results, written: Results, read: Results
) -> StoreProof:
    """Judge what the probes brought.

    seen: etcd's answer of its members' hosts; written, read: of the workers' hosts, in ``read`` one
    result for each worker in the plan's order. Hosts that were not asked are left out.
    """
    problems = []
    ready, trouble = _ready(seen)
    if store.master and seen and not trouble:
        if store.master not in ready:
            problems.append(f"the data system's master: etcd does not know it ({store.master})")
        ready.discard(store.master)
    planned = {worker.endpoint: worker for worker in store.workers if worker.host in written}
    if seen and trouble:
        problems.append(trouble)
    elif seen:
        for endpoint, worker in planned.items():
            if endpoint not in ready:
                problems.append(f"{worker.id}: etcd does not know it as ready ({endpoint})")
    for worker in store.workers:
        if worker.host in written and (why := _failed(written[worker.host])):
            problems.append(f"{worker.id}: does not take a key: {why}")
    reads = []
    for reader in planned.values():
        results = read.get(reader.host, {}).get("results", [])
        for writer, result in zip(store.workers, results, strict=False):
            if writer.host not in written:
                continue
            why = _failed(result)
            found = str(result.get("stdout", "")).strip()
            if not why and found != token:
                why = "the value is not the one that was written"
            reads.append(KeyRead(writer=writer.id, reader=reader.id, ok=not why))
            if why and not _failed(written[writer.host]):
                problems.append(f"{reader.id}: does not read what {writer.id} wrote: {why}")
    return StoreProof(
        ok=not problems, members=tuple(sorted(ready)), reads=tuple(reads), problems=tuple(problems)
    )


def with_count(proof: StoreProof, counted: Results) -> StoreProof:
    """Return the proof with what openYuanrong's master said when it was asked for its nodes."""
    wrong = [f"openYuanrong: {_failed(each)}" for each in counted.values() if _failed(each)]
    problems = (*proof.problems, *wrong)
    return proof.model_copy(update={"ok": not problems, "problems": problems})


def _ready(seen: Results) -> tuple[set[str], str]:
    """Return the workers that etcd calls ready, by the first member that answered, or why none."""
    why = ""
    for host, result in seen.items():
        why = _failed(result)
        if why:
            why = f"etcd on {host} does not answer: {why}"
            continue
        lines = str(result.get("stdout", "")).splitlines()
        pairs = zip(lines[::2], lines[1::2], strict=False)
        return {k.removeprefix(PREFIX) for k, v in pairs if v.endswith(";ready")}, ""
    return set(), why


def _failed(result: Mapping[str, Any]) -> str:
    """Return what went wrong with one probe; empty if nothing did."""
    if result.get("rc") == 0:
        return ""
    said = (str(result.get(key) or "").strip() for key in ("stderr", "stdout", "msg"))
    return next((text.splitlines()[-1][:300] for text in said if text), "no answer")
