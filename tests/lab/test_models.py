"""Models on the lab's hosts: one downloads from a SIMULATED hub, the other copies from it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from pdinfra.lab import state
from pdinfra.lab.names import Lab, gateway
from tests.commands import Result, command, lab_name, playbook
from tests.sim.hub import Faults, Hub

NAME = lab_name("mod")
REPO = "Org/Model-1B"
PLAYBOOK = "tests/roles/models.yml"
SIZE = 24 << 20

pytestmark = pytest.mark.lab


def lab_command(*words: str) -> Result:
    """Run a verb of the lab's."""
    return command(sys.executable, "-m", "pdinfra", "lab", *words, "--name", NAME)


@pytest.fixture(scope="module")
def subnet() -> Iterator[IPv4Network]:
    """A lab of two hosts; the network it lies in."""
    done = lab_command("up", "--hosts", "2")
    assert done.code == 0, done.text
    known = state.load(Lab(NAME))
    assert known is not None
    yield known.subnet
    lab_command("down")


@pytest.fixture
def hub(subnet: IPv4Network, tmp_path: Path) -> Iterator[Hub]:
    """A SIMULATED hub on this machine's address in the lab."""
    root = tmp_path / "hub" / REPO
    root.mkdir(parents=True)
    (root / "config.json").write_text('{"num_attention_heads": 8, "num_key_value_heads": 2}')
    (root / "tokenizer.json").write_text("{}")
    (root / "model.safetensors").write_bytes(bytes(range(256)) * (SIZE // 256))
    server = Hub(tmp_path / "hub", (str(gateway(subnet)), 0), Faults(cut_after=SIZE // 3))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def converge(hub: Hub, folder: Path, *options: str) -> Result:
    """Run the playbook on the lab, with variables that ask for the model."""
    variables = {
        "pd_model_source": "huggingface",
        "pd_model_repo": REPO,
        "pd_model_revision": hub.commit(REPO),
        "pd_model_endpoint": hub.url,
        "pd_model_from": "node1",
    }
    path = folder / "variables.yml"
    path.write_text(yaml.safe_dump(variables))
    return playbook(PLAYBOOK, "-e", f"@{path}", *options, inventory=Lab(NAME).inventory)


def on_hosts(hosts: str, shell: str) -> str:
    """Run a command on hosts of the lab; return what they printed."""
    where = str(Lab(NAME).inventory)
    done = command("ansible", hosts, "-i", where, "-m", "ansible.builtin.shell", "-a", shell)
    assert done.code == 0, done.text
    return done.out


def checksums(folder: str) -> dict[str, str]:
    """Return each host's checksums of the model's files."""
    shell = f"cd {folder} && sha256sum config.json tokenizer.json model.safetensors"
    found: dict[str, str] = {}
    host = ""
    for line in on_hosts("all", shell).splitlines():
        if " | " in line:
            host = line.split(" | ")[0]
        elif "  " in line and len(line.split()[0]) == 64:
            found[host] = found.get(host, "") + line.split()[0]
    return found


def test_one_host_downloads_over_a_cut_connection_and_the_other_copies(
    hub: Hub, tmp_path: Path
) -> None:
    folder = f"/var/lib/pdinfra/models/{REPO}/{hub.commit(REPO)[:12]}"
    look = converge(hub, tmp_path, "--check")
    assert look.code == 0, look.text
    assert "copy it from node1" in look.out
    assert hub.seen == []
    done = converge(hub, tmp_path)
    assert done.code == 0, done.text
    found = checksums(folder)
    assert found.keys() == {"node1", "node2"}
    assert found["node1"] == found["node2"]
    ranges = [seen.range for seen in hub.downloads("model.safetensors")]
    assert ranges == ["", f"bytes={SIZE // 3}-"], "downloaded once, and resumed"
    hub.seen.clear()
    again = converge(hub, tmp_path)
    assert again.code == 0, again.text
    assert " model " not in again.out
    assert hub.seen == []
    assert on_hosts("node1", "ss -ltn | grep -c :8990 || true").split()[-1] == "0"
