"""`verify --hosts` on a host of the lab: real SSH, Docker, sockets and files; SIMULATED engines."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.commands import ROOT, Result, command, lab_name, pdinfra, playbook

pytestmark = pytest.mark.lab

LAB = lab_name("suite")
NODE = f"pdinfra-lab-{LAB}-node1"
INVENTORY = ROOT / "inventories" / f"lab-{LAB}"
IMAGE = "pdinfra-sim/standin:1"
DECODE = "pd-pd-decode-node1-0"


def done(result: Result) -> str:
    assert result.code == 0, result.text
    return result.out


def on_host(line: str) -> str:
    return done(command("docker", "exec", NODE, "sh", "-c", line))


def suite(*options: str) -> tuple[int, dict[str, Any]]:
    result = pdinfra("verify", "--hosts", "--json", *options, inventory=INVENTORY)
    return result.code, result.json


def failing() -> dict[str, str]:
    """Return the messages of the tests that fail now, by test."""
    _, found = suite()
    return {test["test"]: test["message"] for test in found["tests"] if not test["ok"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A lab host with a whole service of SIMULATED engines; returns the model's directory."""
    lab = ("-m", "pdinfra", "lab")
    done(command(sys.executable, *lab, "up", "--hosts", "1", "--name", LAB))
    base = done(command("docker", "image", "ls", "-q", "pdinfra/base")).split()[0]
    folder = str(ROOT / "tests" / "sim" / "standin")
    done(command("docker", "build", "-q", "-t", IMAGE, "--build-arg", f"BASE={base}", folder))
    archive = tmp_path_factory.mktemp("image") / "standin.tar"
    done(command("docker", "save", "-o", str(archive), IMAGE))
    done(command("docker", "cp", str(archive), f"{NODE}:/root/standin.tar"))
    variables = INVENTORY / "group_vars" / "all.yml"
    engine = {"image": IMAGE, "image_source": "load", "image_archive": "/root/standin.tar"}
    mine = {f"pd_{prefix}{k}": v for prefix in ("", "router_") for k, v in engine.items()}
    variables.write_text(variables.read_text() + yaml.safe_dump(mine))
    done(playbook("site.yml", "--skip-tags", "verify", inventory=INVENTORY))
    yield on_host("ls -d /var/lib/pdinfra/models/*").strip()
    done(command(sys.executable, *lab, "down", "--name", LAB))


def test_service_as_planned_passes_every_test(model: str) -> None:
    code, found = suite()
    assert (code, found["ok"]) == (0, True), found
    assert {test["outcome"] for test in found["tests"]} == {"passed"}


def test_pytest_runs_the_suite_by_itself(model: str) -> None:
    result = command("pytest", "-q", "pdinfra/hosttests", "--inventory", str(INVENTORY))
    assert result.code == 0, result.text


def test_pytest_without_an_inventory_is_told_what_is_missing() -> None:
    result = command("pytest", "-q", "pdinfra/hosttests")
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert "add --inventory PATH" in result.text


def test_world_writable_model_file_is_named(model: str) -> None:
    on_host(f"chmod 666 {model}/model.safetensors")
    try:
        found = failing()
    finally:
        on_host(f"chmod 644 {model}/model.safetensors")
    (message,) = found.values()
    assert (
        f"node1: test_file_has_its_mode[node1-{model}]: found {model}/model.safetensors" in message
    )
    assert "0666" in message


def test_stopped_container_is_named(model: str) -> None:
    on_host(f"docker stop -t 2 {DECODE}")
    try:
        found = failing()
    finally:
        on_host(f"docker start {DECODE}")
    assert list(found) == ["test_container_runs[node1-decode-node1-0]"]
    assert "found exited (exit code 0), expected running, healthy" in next(iter(found.values()))


def test_container_made_by_hand_with_another_environment_is_named(model: str) -> None:
    inspect = json.loads(on_host(f"docker inspect {DECODE}"))[0]
    env = [
        item.replace("NO_USAGE_STATS=1", "NO_USAGE_STATS=0") for item in inspect["Config"]["Env"]
    ]
    body = {**inspect["Config"], "Env": env, "HostConfig": inspect["HostConfig"]}
    create = (
        "curl -fsS --unix-socket /var/run/docker.sock -H 'Content-Type: application/json' "
        f"-d {shlex.quote(json.dumps(body))} 'http://docker/containers/create?name={DECODE}'"
    )
    on_host(f"docker rm -f {DECODE} && {create} && docker start {DECODE}")
    on_host(
        f"for i in $(seq 60); do docker ps --filter health=healthy | grep -q {DECODE} && exit 0; "
        "sleep 0.5; done; exit 1"
    )
    found = failing()
    done(playbook("site.yml", "--skip-tags", "verify", inventory=INVENTORY))
    assert list(found) == ["test_container_is_as_planned[node1-decode-node1-0-environment]"]
    message = next(iter(found.values()))
    assert "found env VLLM_NO_USAGE_STATS 0, expected env VLLM_NO_USAGE_STATS 1" in message
    assert failing() == {}
