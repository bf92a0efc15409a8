"""Measure the budgets of a fleet on a lab of 9 hosts, and print them as ratios.

Run from the repository with the images built (after one `make up`):

    .venv/bin/python benchmarks/fleet.py

The hosts, their engines, the router and every transfer are real; the vLLM engines are SIMULATED
(tests/sim/engine: they start in a second), so that what is measured is pdinfra and not vLLM.

1. converging 8 hosts that need no change, without verify ÷ `ansible -m ping` on them (≤ 2)
2. adding one instance to N hosts under load: wall time at N = 8 ÷ at N = 2 (≤ 1.2), no failed
   request, no other container touched
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measure import run, timed  # noqa: E402
from tests.load import Load  # noqa: E402

LAB = "bench"
INVENTORY = ROOT / "inventories" / f"lab-{LAB}"
IMAGE = "pdinfra-sim/vllm:1"
MOST = 9


def main() -> None:
    """Measure and print; the lab is taken down at the end."""
    lab("up", "--hosts", str(MOST))
    try:
        stand_in()
        small, large = adding(2), adding(8)
        place(8)
        up()
        ours = median(timed(converge) for _ in range(3))
        ping = median(timed(reach) for _ in range(3))
    finally:
        lab("down")
    print(f"no change, 8 hosts: {ours:.1f} s ÷ ping {ping:.1f} s = {ours / ping:.2f} (budget 2)")
    print(f"adding one: N=8 {large:.1f} s ÷ N=2 {small:.1f} s = {large / small:.2f} (budget 1.2)")


def stand_in() -> None:
    """Build the simulated engine's image, push it, and name it in the inventory."""
    bases = run("docker", "images", "pdinfra/base", "--format", "{{.Repository}}:{{.Tag}}").split()
    run("docker", "build", "-q", "--build-arg", f"BASE={bases[0]}", "-t", IMAGE, "tests/sim/engine")
    push = json.loads(lab("status", "--json"))["registry"]["push"]
    run("docker", "tag", IMAGE, f"{push}/{IMAGE}")
    run("docker", "push", "-q", f"{push}/{IMAGE}")
    path = INVENTORY / "group_vars" / "all.yml"
    known = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(known | {"pd_image": f"quay.io/{IMAGE}"}))


def adding(hosts: int) -> float:
    """Return the seconds of `up` with one host more than so many that run, under load."""
    place(hosts)
    up()
    before = identities(hosts)
    place(hosts + 1)
    address = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["hosts"]["node1"]
    with Load(f"http://{address['ansible_host']}:8000", "tiny-qwen2", pause=0.2) as load:
        seconds = timed(up)
    if load.failed or not load.answered:
        raise SystemExit(f"{len(load.failed)} requests failed, the first: {load.failed[:1]}")
    after = identities(hosts)
    if after != before:
        raise SystemExit(f"containers were touched: {before} became {after}")
    print(f"N={hosts}: {seconds:.1f} s, {load.answered} requests answered, 0 failed")
    return seconds


def place(hosts: int) -> None:
    """Give the first so many hosts a role: router, prefill, and decode for all others."""
    path = INVENTORY / "hosts.yml"
    inventory = yaml.safe_load(path.read_text())
    names = [f"node{n}" for n in range(1, hosts + 1)]
    groups = {"router": names[:1], "prefill": names[1:2], "decode": names[1:]}
    inventory["all"]["children"] = {
        group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()
    }
    path.write_text(yaml.safe_dump(inventory))


def identities(hosts: int) -> dict[str, str]:
    """Return container ids and start times by host."""
    found = {}
    for n in range(1, hosts + 1):
        host = f"pdinfra-lab-{LAB}-node{n}"
        names = run("docker", "exec", host, "docker", "ps", "-aq").split()
        form = "{{.Id}} {{.State.StartedAt}}"
        found[host] = run("docker", "exec", host, "docker", "inspect", "-f", form, *names)
    return found


def lab(verb: str, *words: str) -> str:
    """Run a verb of the lab's."""
    return run("python", "-m", "pdinfra", "lab", verb, *words, "--name", LAB)


def up() -> None:
    """Converge and prove."""
    run("python", "-m", "pdinfra", "up", "--yes", "-i", str(INVENTORY))


def converge() -> None:
    """Run the whole site.yml without verify."""
    run("ansible-playbook", "-i", str(INVENTORY), "site.yml", "--skip-tags", "verify")


def reach() -> None:
    """Do the least that Ansible can do on every host."""
    run("ansible", "-i", str(INVENTORY), "prefill:decode:router", "-m", "ping")


if __name__ == "__main__":
    main()
