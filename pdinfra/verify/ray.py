"""Replicas that Ray Serve keeps: requests go in at its entry, counters tell who worked.

Every node shows the counters of its engines at its metrics port, as vLLM has them, with the
replica's id (Ray 2.60, measured); which replica gets a request is Ray's business.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pdinfra.model.plan import Plan, RayCluster, Replica
from pdinfra.model.proof import PairProof
from pdinfra.stacks.ray import METRICS_SECONDS
from pdinfra.verify.counters import EXTERNAL
from pdinfra.verify.engines import Client, EngineError
from pdinfra.verify.scheduler import Seen

AT_ONCE = 8
"""Requests of one round, side by side: Ray gives them to whoever has least to do."""
ROUNDS = 12
COUNTER_SECONDS = 4.0 * METRICS_SECONDS
"""Processes hand their counters over every METRICS_SECONDS, and the node every few seconds on."""
DONE = "ray_vllm_request_success_total"
SOURCES = "ray_vllm_prompt_tokens_by_source_total"


@dataclass(frozen=True)
class Worked:
    """What one replica did since it started: requests that it ended, tokens from other engines."""

    requests: int = 0
    external: int = 0


Counted = dict[str, dict[str, Worked]]
"""By a node's address, what each of its replicas did, by Ray's id."""


def replicas_behind(client: Client, plan: Plan, ray: RayCluster, body: Mapping[str, Any]) -> Seen:
    """Send requests until every planned replica was seen at work, or enough were sent."""
    seen = Seen()
    try:
        before = _counted(client, ray)
    except EngineError as error:
        seen.problems.append(f"Ray's counters: {error}")
        return seen
    tokens, idle = 0, list(ray.replicas)
    moved: dict[str, int] = {}
    for _ in range(ROUNDS):
        try:
            tokens = _round(client, plan, body)
        except EngineError as error:
            seen.problems.append(f"router: {error}")
            return seen
        idle, moved = _settled(client, ray, before)
        if not idle:
            break
    seen.problems += [
        f"{each.id}: no request reached it, of {ROUNDS * AT_ONCE} that were answered"
        for each in idle
    ]
    _judge(seen, ray, moved, tokens)
    return seen


def counts(text: str) -> dict[str, Worked]:
    """Read a node's metrics: what each of its replicas did, by Ray's id."""
    requests: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.labels.get("ReplicaId", "")
            if sample.name == DONE:
                requests[name] = requests.get(name, 0) + int(sample.value)
            if sample.name == SOURCES and sample.labels.get("source") == EXTERNAL:
                tokens[name] = tokens.get(name, 0) + int(sample.value)
    return {
        n: Worked(requests.get(n, 0), tokens.get(n, 0)) for n in requests.keys() | tokens.keys()
    }


def _counted(client: Client, ray: RayCluster) -> Counted:
    """Ask all nodes that have replicas. Raises EngineError."""
    nodes = dict.fromkeys(replica.address for replica in ray.replicas)
    urls = {address: f"http://{_bracketed(address)}:{ray.metrics_port}" for address in nodes}
    return {address: client.metrics(url, counts) for address, url in urls.items()}


def _bracketed(address: str) -> str:
    """Return an address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


def _round(client: Client, plan: Plan, body: Mapping[str, Any]) -> int:
    """Send requests that no cache knows, side by side; return one prompt's tokens."""

    def one(_: int) -> int:
        prompt = f"{uuid.uuid4()} {body['prompt']}"
        answer = client.complete(plan.router.url, {**body, "prompt": prompt, "max_tokens": 8})
        return int((answer.get("usage") or {}).get("prompt_tokens") or 0)

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return max(pool.map(one, range(AT_ONCE)))


def _settled(
    client: Client, ray: RayCluster, before: Counted
) -> tuple[list[Replica], dict[str, int]]:
    """Return who did nothing yet, and by host's address the tokens that came from other engines.

    Waits as long as counters may take, not longer than until all have worked.
    """
    limit = time.monotonic() + COUNTER_SECONDS
    while True:
        idle, moved = _since(before, _counted(client, ray), ray)
        if (not idle and (moved or not _paired(ray))) or time.monotonic() > limit:
            return idle, moved
        time.sleep(0.5)


def _since(before: Counted, now: Counted, ray: RayCluster) -> tuple[list[Replica], dict[str, int]]:
    """Return planned replicas beyond those that worked on their host, and tokens moved there."""
    worked: dict[str, int] = {}
    moved: dict[str, int] = {}
    for address, mine in now.items():
        for name, done in mine.items():
            old = before.get(address, {}).get(name, Worked())
            worked[address] = worked.get(address, 0) + (done.requests > old.requests)
            if done.external > old.external:
                moved[address] = moved.get(address, 0) + done.external - old.external
    idle = []
    busy: dict[str, int] = {}
    for replica in ray.replicas:
        if worked.get(replica.address, 0) < 1:
            idle.append(replica)
        else:
            busy[replica.role] = busy.get(replica.role, 0) + 1
        worked[replica.address] = worked.get(replica.address, 0) - 1
    return [each for each in idle if busy.get(each.role, 0) < ray.fewest(each.role)], moved


def _paired(ray: RayCluster) -> bool:
    """Tell whether KV is handed over."""
    return any(replica.role == "decode" for replica in ray.replicas)


def _judge(seen: Seen, ray: RayCluster, moved: Mapping[str, int], tokens: int) -> None:
    """Add one proof for each decode: from whom its KV came is known where there is one prefill."""
    prefills = [replica for replica in ray.replicas if replica.role == "prefill"]
    name = prefills[0].id if len(prefills) == 1 else "one of prefill"
    for replica in ray.replicas:
        if replica.role != "decode":
            continue
        got = moved.get(replica.address, 0)
        error = None if got else "all prompts were computed by the engine that answered"
        seen.pairs.append(
            PairProof(
                prefill=name,
                decode=replica.id,
                ok=bool(got),
                prompt_tokens=tokens,
                external_tokens=got,
                counter=SOURCES,
                error=error,
            )
        )
    if len(prefills) > 1:
        seen.unseen.append("which prefill replica a prompt went to is Ray Serve's business")
