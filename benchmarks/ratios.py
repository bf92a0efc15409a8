"""Measure the budgets of one host and print them as ratios.

Run from the repository with the images built (after one `make up`):

    .venv/bin/python benchmarks/ratios.py

1. `up` of a cold service, warm images ÷ the same containers started by hand and waited for (≤ 1.15)
2. a re-run with nothing to change, without verify ÷ `ansible -m ping` (≤ 2 on 8 hosts)
3. planning 1,000 instances: seconds (< 1) and MiB (< 200)
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measure import run, timed  # noqa: E402
from pdinfra.assets import Assets, load  # noqa: E402
from pdinfra.model.plan import Container, ContainerSpec, Plan  # noqa: E402
from pdinfra.planning import load as inventory  # noqa: E402
from pdinfra.planning.plan import build  # noqa: E402

LOCAL = ROOT / "inventories" / "local"
INSTANCES = 1000
MIB = 1024**2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--planning-only", action="store_true", help="budget 3 alone, no Docker")
    planning_only = parser.parse_args().planning_only
    seconds, mib = planning()
    print(f"planning {INSTANCES} instances: {seconds:.2f} s, {mib:.0f} MiB (budget 1 s, 200 MiB)")
    if planning_only:
        return
    down()
    ours = timed(lambda: run("python", "-m", "pdinfra", "up", "--yes"))
    again = median(timed(converge) for _ in range(3))
    ping = median(timed(reach) for _ in range(3))
    down()
    hand = timed(by_hand)
    down()
    print(f"cold service: up {ours:.1f} s ÷ by hand {hand:.1f} s = {ours / hand:.2f} (budget 1.15)")
    print(f"no change: {again:.1f} s ÷ ping {ping:.1f} s = {again / ping:.2f} (budget 2)")


def planning() -> tuple[float, float]:
    """Return seconds and peak MiB of planning, on top of what importing took."""
    hosts = [f"node{n}" for n in range(INSTANCES // 2)]
    groups = {"all": hosts, "prefill": hosts, "decode": hosts, "router": hosts[:1]}
    variables = {
        host: {"ansible_host": f"10.0.{n // 250}.{n % 250 + 1}"} for n, host in enumerate(hosts)
    }
    assets: Assets = load()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    plan = build(inventory.load(groups, variables), assets)
    seconds = time.perf_counter() - started
    if len(plan.instances) != INSTANCES:
        raise SystemExit(f"planned {len(plan.instances)} instances instead of {INSTANCES}")
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / MIB


def converge() -> None:
    """Run the whole site.yml without verify."""
    run("ansible-playbook", "-i", str(LOCAL), "site.yml", "--skip-tags", "verify")


def reach() -> None:
    """Do the least that Ansible can do on every host."""
    run("ansible", "-i", str(LOCAL), "all", "-m", "ping")


def down() -> None:
    """Remove the service's containers."""
    run("python", "-m", "pdinfra", "down")


def by_hand() -> None:
    """Start the plan's containers with `docker run`, and wait until all are healthy."""
    containers = local_plan().host("local").containers
    for container in containers:
        run(*docker_run(container))
    names = [container.name for container in containers]
    limit = time.monotonic() + 300
    while not all(health(name) == "healthy" for name in names):
        if time.monotonic() > limit:
            raise SystemExit("the containers started by hand are not healthy after 300 s")
        time.sleep(0.5)


def local_plan() -> Plan:
    """Return the plan of inventories/local."""
    groups = {"all": ["local"], "prefill": ["local"], "decode": ["local"], "router": ["local"]}
    return build(inventory.load(groups, {"local": {"ansible_connection": "local"}}), load())


def docker_run(container: Container) -> list[str]:
    """Return the command line that an engineer would type for one container."""
    spec: ContainerSpec = container.spec
    words = ["docker", "run", "-d", "--name", container.name, "--network", spec.network_mode]
    words += ["--init", "--shm-size", str(spec.shm_size), "--restart", spec.restart_policy]
    for flag, values in (
        ("--cap-drop", spec.cap_drop),
        ("--security-opt", spec.security_opts),
        ("-e", [f"{name}={value}" for name, value in spec.env.items()]),
        ("-v", [f"{mount.source}:{mount.target}:ro" for mount in spec.mounts]),
        ("--label", [f"{name}={value}" for name, value in container.labels.items()]),
    ):
        words += [word for value in values for word in (flag, value)]
    probe = " ".join(f"'{word}'" for word in spec.healthcheck.test[1:])
    words += ["--health-cmd", probe, "--health-interval", f"{spec.healthcheck.interval}s"]
    words += ["--health-start-period", f"{spec.healthcheck.start_period}s"]
    return [*words, spec.image, *spec.command]


def health(name: str) -> str:
    """Return Docker's word for a container's health."""
    found = json.loads(run("docker", "inspect", name))
    return str(found[0]["State"]["Health"]["Status"])


if __name__ == "__main__":
    main()
