"""The doctor on a real lab: every generic fault is found on exactly its host or pair, with its fix.

Nothing is simulated here: systemd hosts with SSH and a Docker engine each, real firewalls, real
files. Faults that do not touch each other share a run: what is expected stays exact.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import ROOT, Result, command, lab_name, pdinfra

pytestmark = pytest.mark.lab

LAB = lab_name("gdoc")
INVENTORY = ROOT / "inventories" / f"lab-{LAB}"
ROUTER, PREFILL, DECODE = "node1", "node2", "node3"
TINY = ROOT / "roles" / "model" / "files" / "tiny-qwen2" / "model"


@dataclass(frozen=True)
class Finding:
    """What the doctor has to say."""

    check: str
    host: str
    found: str
    fix: str
    status: str = "fail"


@dataclass(frozen=True)
class Round:
    """Faults that are switched on together, and what is found of them: these and no others.

    ``faults`` are arguments of `lab fault on`, ``shell`` is run on a host before and ``undo``
    after, ``every`` and ``hosts`` are more variables of the inventory.
    """

    findings: tuple[Finding, ...]
    faults: tuple[tuple[str, ...], ...] = ()
    shell: Mapping[str, str] = field(default_factory=dict)
    undo: Mapping[str, str] = field(default_factory=dict)
    every: Mapping[str, Any] = field(default_factory=dict)
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    code: int = 1


ROUNDS: dict[str, Round] = {
    "system": Round(
        findings=(
            Finding("hostname", ROUTER, "node1 → 127.0.1.1", "127.0.1.1 line of /etc/hosts"),
            Finding("route", PREFILL, "no default route", "ip route add default", "warn"),
            Finding("ports", PREFILL, "8100 taken by python3", "stop what listens there"),
            Finding("proxy", DECODE, "/etc/environment", "no_proxy of", "warn"),
        ),
        faults=((ROUTER, "loopback-name"), (PREFILL, "no-route"), (DECODE, "proxy")),
        shell={PREFILL: "systemd-run -q --unit taker python3 -m http.server 8100"},
        undo={PREFILL: "systemctl stop taker"},
        every={"pd_manage_hosts": False},
    ),
    "firewalls": Round(
        findings=(
            Finding("reach-kv", f"{DECODE} → {PREFILL}", "5600 (prefill-node2-0) timed", "5600"),
            Finding("reach-api", f"{ROUTER} → {DECODE}", "8200 (decode-node3-0) refused", "8200"),
        ),
        faults=(
            (PREFILL, "drop-port", "--port", "5600"),
            (DECODE, "reject-port", "--port", "8200"),
        ),
    ),
    "hosts": Round(
        findings=(
            Finding("reachable", PREFILL, "", "try `ssh` by hand"),
            Finding("reach-api", f"{ROUTER} → {DECODE}", "timed out", f"on {DECODE}: `iptables"),
        ),
        faults=((PREFILL, "pause"), (DECODE, "partition", "--peer", ROUTER)),
    ),
    "inventory": Round(
        findings=(
            Finding("image", ROUTER, "nor its archive /srv/no.tar", "pd_image_archive"),
            Finding("shm", PREFILL, "prefill-node2-0: 0.1 GiB", "pd_shm_gib"),
            Finding("port-range", PREFILL, "40000 (prefill-node2-0)", "reserved_ports", "warn"),
            Finding("memory", DECODE, "GiB free", "a smaller pd_kv_cache_gib"),
        ),
        every={
            "pd_manage_ports": False,
            "pd_prefill": {"shm_gib": 0.0625, "port": 40000},
            "pd_decode": {"kv_cache_gib": 500},
            "pd_router_image": "router:1",
            "pd_router_image_source": "load",
            "pd_router_image_archive": "/srv/no.tar",
        },
        code=2,
    ),
    "address": Round(
        findings=(Finding("address", DECODE, "10.255.255.1 is none of", "set pd_address"),),
        hosts={DECODE: {"pd_address": "10.255.255.1"}},
    ),
    "name": Round(
        findings=(
            Finding("names", ROUTER, "no.invalid → nothing", "to its IP address"),
            Finding("names", PREFILL, "no.invalid → nothing", "to its IP address"),
            Finding("address", DECODE, "no.invalid is none of", "set pd_address"),
        ),
        hosts={DECODE: {"pd_address": "no.invalid"}},
    ),
}


def lab(*words: str) -> Result:
    """Run `lab` as a user does."""
    done = command(sys.executable, "-m", "pdinfra", "lab", *words, "--name", LAB)
    assert done.code == 0, done.text
    return done


def on(host: str, shell: str) -> None:
    """Run a shell command on one host, as root."""
    done = command("ansible", "-i", str(INVENTORY), host, "-m", "shell", "-a", shell)
    assert done.code == 0, done.text


@pytest.fixture(scope="module")
def healthy() -> Iterator[None]:
    """Bring the lab up, without a fault."""
    lab("up", "--hosts", "3")
    lab("fault", "off", "--all")
    yield
    lab("down")


def inventory(
    tmp_path: Path, every: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]
) -> Path:
    """Write the lab's inventory with more variables."""
    tree = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    for name, more in hosts.items():
        tree["all"]["hosts"][name] |= more
    text = (INVENTORY / "group_vars" / "all.yml").read_text()
    variables = yaml.safe_load(text.replace("{{ inventory_dir }}", str(INVENTORY)))
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(tree))
    (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump({**variables, **every}))
    return tmp_path


def judge(result: Result, findings: tuple[Finding, ...]) -> None:
    """Assert that these were found and nothing else."""
    bad = {(c["id"], c["host"]): c for c in result.json["checks"] if c["status"] != "ok"}
    assert set(bad) == {(each.check, each.host) for each in findings}, result.text
    for each in findings:
        check = bad[each.check, each.host]
        assert check["status"] == each.status
        assert each.found in check["found"]
        assert each.fix in check["fix"]
        assert check["expected"]


@pytest.mark.usefixtures("healthy")
def test_healthy_lab_has_nothing_but_good_checks() -> None:
    result = pdinfra("doctor", "--json", inventory=INVENTORY)
    judge(result, ())
    assert result.code == 0
    assert {c["host"] for c in result.json["checks"]} >= {ROUTER, PREFILL, DECODE}
    assert {c["id"] for c in result.json["checks"]} >= {"reachable", "reach-api", "reach-kv"}


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("name", ROUNDS)
def test_faults_are_found_where_they_are(name: str, tmp_path: Path) -> None:
    case = ROUNDS[name]
    try:
        for host, shell in case.shell.items():
            on(host, shell)
        for words in case.faults:
            lab("fault", "on", *words)
        where = inventory(tmp_path, case.every, case.hosts)
        result = pdinfra("doctor", "--json", inventory=where)
    finally:
        lab("fault", "off", "--all")
        for host, shell in case.undo.items():
            on(host, shell)
    judge(result, case.findings)
    assert result.code == case.code


@pytest.mark.usefixtures("healthy")
def test_model_that_is_not_the_same_everywhere(tmp_path: Path) -> None:
    where = inventory(tmp_path, {"pd_model_path": "/srv/doctor-model"}, {})
    copy = ("-m", "copy", "-a", f"src={TINY}/ dest=/srv/doctor-model/")
    hosts = f"{PREFILL}:{DECODE}"
    assert command("ansible", "-i", str(INVENTORY), hosts, *copy).code == 0
    weights = "/srv/doctor-model/model.safetensors"
    # One byte of the last tensor: a size says nothing of it.
    on(DECODE, f"printf x | dd of={weights} bs=1 seek=4000000 conv=notrunc")
    checksum = Finding("model-checksum", DECODE, "model.safetensors is", f"from {PREFILL}")
    judge(pdinfra("doctor", "--json", inventory=where), (checksum,))
    on(DECODE, f"truncate -s -1 {weights}")
    size = Finding("model-files", DECODE, "model.safetensors: ", "copy the model anew")
    judge(pdinfra("doctor", "--json", inventory=where), (size, checksum))
    on(DECODE, "rm -r /srv/doctor-model")
    gone = Finding("model", DECODE, "No such file", "put the model there (on node3)")
    judge(pdinfra("doctor", "--json", inventory=where), (gone,))


@pytest.mark.usefixtures("healthy")
def test_docker_that_may_not_be_used_other_content_and_one_that_stopped(tmp_path: Path) -> None:
    variables = {"pd_image": "doctor:1", "pd_image_source": "pull"}
    where = inventory(tmp_path, variables, {ROUTER: {"ansible_become": False}})
    hosts = f"{ROUTER}:{PREFILL}:{DECODE}"
    try:
        on(hosts, "systemctl enable --now docker")
        # What is in it differs: the hosts' names.
        on(f"{PREFILL}:{DECODE}", "tar -C /etc -c hostname | docker import - doctor:1")
        denied = Finding("docker", ROUTER, "no permission", "ansible_become: true")
        other = Finding("image-same", DECODE, "doctor:1 is", "docker image rm -f doctor:1")
        judge(pdinfra("doctor", "--json", inventory=where), (denied, other))
        on(hosts, "systemctl stop docker.socket docker")
        stopped = [
            Finding("docker", host, "stopped", "journalctl -u docker", "warn")
            for host in (ROUTER, PREFILL, DECODE)
        ]
        judge(pdinfra("doctor", "--json", inventory=INVENTORY), tuple(stopped))
    finally:
        on(hosts, "systemctl disable docker")
