"""`lab` with real systemd hosts: made, added to, broken, mended, removed."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import docker
import pytest
import yaml

from pdinfra.driver.look import DriverError
from pdinfra.lab import faults
from pdinfra.lab import state as memory
from pdinfra.lab.down import down
from pdinfra.lab.engine import execute
from pdinfra.lab.faults import INSIDE, Switch
from pdinfra.lab.names import Lab
from tests.lab.labs import INVENTORY, NAME, OTHER, ansible, containers, identities, lab

pytestmark = pytest.mark.lab

Hosts = list[dict[str, str]]


def shown_faults() -> dict[str, list[str]]:
    """Return each host's faults, as `lab status` shows them."""
    return {row["name"]: row["faults"] for row in lab("status", "--json").json["hosts"]}


def hears(client: docker.DockerClient, source: str, target: str) -> bool:
    """Tell whether a host hears another's SSH daemon.

    It must speak: of a paused host, the kernel still answers pings and takes connections.
    """
    greeting = f"exec 3<>/dev/tcp/{target}/22 && head -c 4 <&3"
    container = containers(client)[f"pdinfra-lab-{NAME}-{source}"]
    return execute(container, ["timeout", "3", "bash", "-c", greeting]) == (0, "SSH-")


def tiny_image(client: docker.DockerClient, reference: str) -> str:
    """Push an image of one file; return its id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("only-file"))
    repository, tag = reference.rsplit(":", 1)
    client.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)
    try:
        said = client.images.push(repository, tag=tag)
        assert "error" not in said, said
        return str(client.images.get(reference).id)
    finally:
        client.images.remove(reference)


def test_hosts_are_hosts(hosts: Hosts) -> None:
    assert [row["name"] for row in hosts][:2] == ["node1", "node2"]
    for row in hosts:
        assert (row["state"], row["systemd"]) == ("running", "running")
    shown = ansible("all", "-m", "command", "-a", "hostname --ip-address", "-o")
    assert shown.code == 0, shown.text
    for row in hosts:
        assert row["address"] in shown.out  # The own name is not 127.0.1.1.


def test_ssh_checks_host_keys(hosts: Hosts, tmp_path: Path) -> None:
    assert ansible("all", "-m", "ping").code == 0
    forged = tmp_path / "known_hosts"
    keys = (INVENTORY.parents[1] / ".lab" / NAME / "known_hosts").read_text().splitlines()
    first, second = (line.split(" ", 1) for line in keys)
    forged.write_text(f"{first[0]} {second[1]}\n")
    options = f"-o UserKnownHostsFile={forged} -o StrictHostKeyChecking=yes -o ControlPath=none"
    refused = ansible("node1", "-m", "ping", "-e", f"ansible_ssh_common_args='{options}'")
    assert refused.code != 0
    assert "Host key verification failed" in refused.text


def test_another_up_changes_nothing(hosts: Hosts, engine: docker.DockerClient) -> None:
    before = identities(engine)
    text = (INVENTORY / "hosts.yml").read_text()
    assert lab("up", "--hosts", "2").code == 0
    assert identities(engine) == before
    assert (INVENTORY / "hosts.yml").read_text() == text


def test_a_host_is_added_and_the_others_are_left_alone(
    hosts: Hosts, engine: docker.DockerClient
) -> None:
    before = identities(engine)
    edited = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    edited["all"]["hosts"]["node2"]["pd_max_model_len"] = 4096
    (INVENTORY / "hosts.yml").write_text(yaml.safe_dump(edited))
    result = lab("up", "--hosts", "3", "--json")
    assert result.code == 0, result.text
    after = identities(engine)
    assert {name: after[name] for name in before} == before
    added = result.json["hosts"][-1]
    assert (added["name"], added["groups"]) == ("node3", ["decode"])
    assert added["engine"] == "inactive"  # To start it is the project's job.
    written = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    assert written["all"]["hosts"]["node2"]["pd_max_model_len"] == 4096
    assert ansible("all", "-m", "ping").code == 0
    fewer = lab("up", "--hosts", "1")
    assert "node2, node3 stay" in fewer.err
    assert identities(engine) == after


def test_hosts_pull_by_quays_name_what_was_pushed_on_the_machine(
    hosts: Hosts, engine: docker.DockerClient
) -> None:
    registry = lab("status", "--json").json["registry"]
    assert registry["pull"] == "quay.io"
    pushed = tiny_image(engine, f"{registry['push']}/pdinfra-lab-test/tiny:1")
    started = ansible("node1", "-m", "systemd_service", "-a", "name=docker state=started")
    assert started.code == 0, started.text
    pulled = ansible(
        "node1", "-m", "shell", "-a",
        "docker pull --quiet quay.io/pdinfra-lab-test/tiny:1"
        " && docker image inspect --format {% raw %}'{{.Id}}'{% endraw %}"
        " quay.io/pdinfra-lab-test/tiny:1",
    )  # fmt: skip
    assert pulled.code == 0, pulled.text
    assert pushed in pulled.out


def test_two_labs_live_side_by_side(hosts: Hosts, engine: docker.DockerClient) -> None:
    before = identities(engine)
    other = lab("up", "--hosts", "1", "--json", name=OTHER)
    assert other.code == 0, other.text
    (row,) = other.json["hosts"]
    assert row["address"] not in {mine["address"] for mine in hosts}
    assert row["groups"] == ["router", "prefill", "decode"]
    inventory = INVENTORY.with_name(f"lab-{OTHER}")
    assert ansible("all", "-m", "ping", inventory=inventory).code == 0
    assert lab("down", name=OTHER).code == 0
    assert containers(engine, OTHER) == {}
    assert not inventory.exists()
    assert identities(engine) == before


def test_a_lab_of_another_checkout_is_refused(
    hosts: Hosts, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with pytest.raises(DriverError, match=f"belongs to .*{NAME}") as refused:
        down(engine, Lab(NAME, tmp_path), print)
    assert refused.value.code == 1
    assert set(identities(engine)) >= {Lab(NAME).container("node1"), Lab(NAME).registry}


def test_a_lab_whose_keys_are_gone_is_left_alone(
    hosts: Hosts, engine: docker.DockerClient, tmp_path: Path
) -> None:
    before = identities(engine)
    kept = Lab(NAME).home / "lab.json"
    shutil.move(kept, tmp_path)
    try:
        result = lab("up", "--hosts", "1")
    finally:
        shutil.move(tmp_path / "lab.json", kept)
    assert result.code == 1
    assert "are gone" in result.err
    assert "Fix: `lab down" in result.err
    assert identities(engine) == before


@pytest.mark.parametrize("fault", ["pause", "dead", "cut"])
def test_a_hosts_fault_is_seen_and_mended(
    hosts: Hosts, engine: docker.DockerClient, fault: str
) -> None:
    assert lab("fault", "on", "node2", fault).code == 0
    shown = shown_faults()
    assert (shown["node1"], shown["node2"]) == ([], [fault])
    assert not hears(engine, "node1", "node2")
    assert lab("fault", "off", "node2", fault).code == 0
    assert shown_faults()["node2"] == []
    assert hears(engine, "node1", "node2")


def test_up_brings_a_dead_host_back_as_it_was(hosts: Hosts, engine: docker.DockerClient) -> None:
    before = identities(engine)
    name = f"pdinfra-lab-{NAME}-node2"
    engine.containers.get(name).kill()
    result = lab("up", "--hosts", "2")
    assert result.code == 0, result.text
    assert "node2 was not running" in result.err
    after = identities(engine)
    assert after[name][0] == before[name][0]
    assert {k: v for k, v in after.items() if k != name} == {
        k: v for k, v in before.items() if k != name
    }
    assert ansible("all", "-m", "ping").code == 0


def test_a_partition_hits_one_pair_only(hosts: Hosts, engine: docker.DockerClient) -> None:
    assert lab("fault", "on", "node1", "partition", "--peer", "node2").code == 0
    address = hosts[1]["address"]
    assert shown_faults()["node1"] == [f"partition peer={address}"]
    assert not hears(engine, "node1", "node2")
    assert ansible("all", "-m", "ping").code == 0
    assert lab("fault", "off", "node1", "--all").code == 0
    assert hears(engine, "node1", "node2")


def test_faults_inside_a_host_leave_nothing_behind(
    hosts: Hosts, engine: docker.DockerClient
) -> None:
    container = containers(engine)[f"pdinfra-lab-{NAME}-node2"]

    def seen() -> str:
        files = "cat /etc/hosts /etc/environment; df /dev/shm"
        return execute(container, ["sh", "-c", f"{files}; ip route; iptables -S; tc qdisc"])[1]

    mine = Lab(NAME)
    state = memory.load(mine)
    assert state is not None
    before = seen()
    for fault in INSIDE.values():
        switch = Switch("node2", fault.name, peer="node1", port=9)
        faults.on(engine, mine, state, switch)
        assert seen() != before, fault.name
        faults.off(engine, mine, state, switch)
        assert seen() == before, fault.name


def test_wrong_fault_is_refused_with_those_that_there_are(hosts: Hosts) -> None:
    for words, said in (
        (("node1", "paus"), "pause"),
        (("node9", "pause"), "node1"),
        (("node1", "partition"), "--peer"),
    ):
        result = lab("fault", "on", *words)
        assert result.code == 2
        assert said in result.err
        assert len(result.err.strip().splitlines()) == 1


def test_down_leaves_nothing_but_pushed_images(hosts: Hosts, engine: docker.DockerClient) -> None:
    label = {"label": f"pdinfra.lab={NAME}"}
    assert lab("down").code == 0
    assert containers(engine) == {}
    assert engine.networks.list(filters=label) == []
    assert engine.volumes.list(filters=label) == []
    assert [v.name for v in engine.volumes.list(filters={"label": "pdinfra.lab="})]
    assert lab("status").code == 1


def test_a_fault_in_a_lab_that_was_never_up_says_how_to_make_it() -> None:
    result = lab("fault", "on", "node1", "pause", name="never-up")
    assert result.code == 2, result.text
    assert "`lab up`" in result.err
