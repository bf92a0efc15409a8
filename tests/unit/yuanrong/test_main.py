"""`python3 -m pdinfra.yuanrong` in a container: what it needs, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from pdinfra.yuanrong.__main__ import UsageError, settings
from tests.commands import ROOT

NODE = {
    "host_ip": "192.0.2.11",
    "master_ip": "192.0.2.11",
    "deploy_path": "/var/lib/yuanrong",
    "shared_memory_mb": 1024,
}


def run(*words: str, isolated: bool = False) -> subprocess.CompletedProcess[str]:
    """Run it as in the container: without pdinfra's own environment."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; "
    code = f"{start}runpy.run_module('pdinfra.yuanrong', run_name='__main__', alter_sys=True)"
    options = ["-I", "-S"] if isolated else ["-I"]
    return subprocess.run(
        [sys.executable, *options, "-c", code, *words], capture_output=True, text=True
    )


def test_it_runs_on_the_standard_library_alone() -> None:
    done = run("--help", isolated=True)
    assert done.returncode == 0, done.stderr
    for verb in ("run", "stop", "agents", "deploy", "clean", "scale-out", "members", "key"):
        assert verb in done.stdout


def test_settings_are_the_fields_of_their_types() -> None:
    document: dict[str, Any] = {
        "node": {**NODE, "ports": {"etcd": 22440}},
        "agents": 2,
        "limits": {"deployment": 60},
        "deployment": {
            "server_ip": "192.0.2.11",
            "server_port": 9000,
            "model_path": "/m",
            "tools_dir": "/t",
            "install_path": "/i",
            "prefill": 1,
            "decode": 0,
            "ptp": 2,
            "dtp": 0,
        },
    }
    read = settings(json.dumps(document))
    assert (read.node.ports.etcd, read.agents, read.limits.deployment) == (22440, 2, 60)
    assert read.deployment is not None
    assert read.deployment.mode == "mixed"
    document["deployment"]["install_path"] = "yr/inner"
    below = settings(json.dumps(document)).deployment
    assert below is not None
    assert below.install_path == f"{sysconfig.get_path('platlib')}/yr/inner"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "Expecting value"),
        ("[]", "list"),
        ("{}", "node"),
        ('{"node": {"host_ip": "x"}, "agents": 1}', "missing 3 required positional arguments"),
        (json.dumps({"node": NODE}), "agents"),
        (json.dumps({"node": NODE, "agents": 1, "agent": 2}), "agent"),
    ],
)
def test_settings_that_cannot_be_read_name_what_is_wrong(document: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings(document)


def test_wrong_settings_are_code_2_and_a_bad_node_is_code_1_each_in_one_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "settings.json"
    missing = run("start", "--settings", str(path))
    assert missing.returncode == 2
    path.write_text(json.dumps({"node": {**NODE, "deploy_path": "/tmp/x"}, "agents": 1}))
    bad = run("start", "--settings", str(path))
    assert bad.returncode == 1
    for done in (missing, bad):
        assert done.stdout.startswith("failed: ")
        assert "Fix: " in done.stdout
        assert len(done.stdout.splitlines()) == 1
        assert done.stderr == ""


def test_key_without_a_client_says_what_to_install() -> None:
    words = ("key", "192.0.2.11:31501", "put")
    dotted = run(*words, "host-192.0.2.11", "v", isolated=True)
    assert dotted.returncode == 1
    assert "is no key. Fix: up to 255 letters" in dotted.stdout
    done = run(*words, "k", "v", isolated=True)
    assert done.returncode == 1
    assert "no client of the data system" in done.stdout
    assert "openyuanrong-datasystem" in done.stdout
