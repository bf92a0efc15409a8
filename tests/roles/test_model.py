"""The role `model` by ansible-playbook: two inventory hosts of this machine and a SIMULATED hub."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import Result, playbook
from tests.sim.hub import Faults, Hub

REPO = "Org/Model-1B"
PLAYBOOK = "tests/roles/models.yml"
FILES = {
    "config.json": b'{"num_attention_heads": 8, "num_key_value_heads": 2}',
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 4096,
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A SIMULATED hub on loopback."""
    root = tmp_path / "hub" / REPO
    root.mkdir(parents=True)
    for name, data in FILES.items():
        (root / name).write_bytes(data)
    server = Hub(tmp_path / "hub", ("127.0.0.1", 0), Faults())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Fleet:
    """Two inventory hosts of this machine, each with a folder of its own."""

    folder: Path
    port: int
    variables: dict[str, Any] = field(default_factory=dict)

    def path(self, host: str) -> Path:
        """Return where a host has its models."""
        return self.folder / host / "m"

    def run(self, *options: str) -> Result:
        """Run the playbook."""
        # Two hosts on one machine: their engines need ports apart.
        hosts = {
            name: {"pd_model_path": str(self.path(name)), "pd_internal_port": port}
            for name, port in (("a", 12000), ("b", 12100))
        }
        document = {
            "all": {
                "vars": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": "/usr/bin/python3",
                    "pd_model_from": "a",
                    "pd_model_port": self.port,
                    **self.variables,
                },
                "hosts": hosts,
                "children": {
                    "prefill": {"hosts": {"a": None}},
                    "decode": {"hosts": {"b": None}},
                    "router": {"hosts": {"a": None}},
                },
            }
        }
        inventory = self.folder / "inventory.yml"
        inventory.write_text(yaml.safe_dump(document))
        return playbook(PLAYBOOK, *options, inventory=inventory)

    def served(self) -> bool:
        """Tell whether something listens on the port of the copies."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def fleet(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """The hosts, with a model of the SIMULATED hub."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    variables = {
        "pd_model_source": "huggingface",
        "pd_model_repo": REPO,
        "pd_model_revision": hub.commit(REPO),
        "pd_model_endpoint": hub.url,
    }
    return Fleet(tmp_path, port, variables)


def found(root: Path) -> dict[str, str]:
    """Return the checksums of a model's files, without pdinfra's own."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.iterdir())
        if not path.name.startswith(".pdinfra")
    }


WHOLE = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_one_host_downloads_the_other_copies_and_a_second_run_does_nothing(
    fleet: Fleet, hub: Hub
) -> None:
    revision = hub.commit(REPO)[:12]
    hub.faults.cut_after = 400_000
    look = fleet.run("--check")
    assert look.code == 0, look.text
    assert hub.seen == []
    assert f"not on the host: download {REPO} at {revision} from {hub.url}" in look.out
    assert "not on the host: copy it from a" in look.out
    assert not (fleet.folder / "a").exists()
    done = fleet.run()
    assert done.code == 0, done.text
    assert found(fleet.path("a") / revision) == WHOLE
    assert found(fleet.path("b") / revision) == WHOLE
    ranges = [seen.range for seen in hub.downloads("model.safetensors")]
    assert ranges == ["", "bytes=400000-"], "downloaded once, by one host, and resumed"
    assert not fleet.served()
    hub.seen.clear()
    again = fleet.run()
    assert again.code == 0, again.text
    assert "changed=0" in again.out
    assert "changed=1" not in again.out
    assert hub.seen == []


def test_directory_of_one_host_reaches_the_other(fleet: Fleet) -> None:
    fleet.variables = {}
    fleet.path("a").mkdir(parents=True)
    for name, data in FILES.items():
        (fleet.path("a") / name).write_bytes(data)
    done = fleet.run()
    assert done.code == 0, done.text
    assert found(fleet.path("b")) == WHOLE
    assert not fleet.served()


def test_copy_that_fails_leaves_no_server_behind(fleet: Fleet) -> None:
    (fleet.folder / "b").write_text("a file where a folder has to be")
    done = fleet.run()
    assert done.code != 0
    assert "Not a directory" in done.text
    assert not fleet.served()


def test_origin_outside_of_the_run_is_told(fleet: Fleet) -> None:
    done = fleet.run("--limit", "b")
    assert done.code != 0
    assert "is copied from a, which is" in " ".join(done.text.split())
    assert "--limit b,a" in done.text


def test_token_is_shown_nowhere(fleet: Fleet, hub: Hub) -> None:
    hub.faults.token = "hf_very_secret"
    fleet.variables["pd_hub_token"] = "hf_very_secret"
    done = fleet.run("-vvv")
    assert done.code == 0, done.text
    assert "hf_very_secret" not in done.text
    leaks = [
        path
        for path in fleet.folder.rglob("*")
        if path.is_file() and path.name != "inventory.yml" and b"very_secret" in path.read_bytes()
    ]
    assert leaks == []
