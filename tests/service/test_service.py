"""One prefill, one decode, a router on this machine: what a user relies on."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pdinfra.verify.counters import EXTERNAL, prompt_tokens
from tests.commands import (
    Result,
    changed_inventory,
    command,
    containers,
    identities,
    pdinfra,
    playbook,
    processes,
    strays,
    wait_until,
)

pytestmark = pytest.mark.service

URL = "http://127.0.0.1:8000"
PREFILL, DECODE, ROUTER = "prefill-local-0", "decode-local-0", "router"
ALL = {PREFILL, DECODE, ROUTER}
QUESTION = "介绍一下量子计算的基本原理"


def sources(port: int) -> dict[str, int]:
    """Return an engine's prompt tokens by source."""
    return prompt_tokens(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text)


def ask(**more: Any) -> httpx.Response:
    """Send the guide's prompt to the router."""
    body = {"model": "tiny-qwen2", "prompt": QUESTION, "max_tokens": 16, "temperature": 0, **more}
    return httpx.post(f"{URL}/v1/completions", json=body, timeout=120)


def answers() -> bool:
    """Tell whether a request succeeds with a text."""
    try:
        response = ask()
    except httpx.HTTPError:
        return False
    return response.status_code == 200 and bool(response.json()["choices"][0]["text"].strip())


def test_up_from_nothing_prints_url_table_and_proof(first_up: Result) -> None:
    assert first_up.code == 0, first_up.text
    assert f"{URL}/v1" in first_up.out
    assert "KV moved" in first_up.out
    for name in ALL:
        assert name in first_up.out


@pytest.mark.usefixtures("service")
def test_second_up_changes_nothing() -> None:
    before = identities()
    result = pdinfra("up", "--json")
    assert result.code == 0, result.text
    assert result.json["summary"] == {"create": 0, "replace": 0, "keep": 3, "remove": 0}
    assert result.json["ok"] is True
    assert identities() == before


@pytest.mark.usefixtures("service")
def test_ansible_playbook_converges_to_the_same_state() -> None:
    before = identities()
    result = playbook("site.yml")
    assert result.code == 0, result.text
    assert "changed=0" in result.out
    assert identities() == before


@pytest.mark.usefixtures("service")
def test_check_mode_changes_nothing_on_a_deployed_machine() -> None:
    before = identities()
    result = playbook("site.yml", "--check", "--diff")
    assert result.code == 0, result.text
    assert identities() == before


@pytest.mark.usefixtures("service")
def test_completion_is_prefilled_by_prefill_and_decoded_by_decode() -> None:
    fresh = "请用一句话说明今天的计划,编号 7f3a。"
    before = sources(8100), sources(8200)
    response = ask(prompt=fresh)
    assert response.status_code == 200
    usage = response.json()["usage"]
    assert response.json()["choices"][0]["text"].strip()
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    wait_until(
        "the engines' counters show the prompt",
        10,
        lambda: (
            sources(8200).get(EXTERNAL, 0) > before[1].get(EXTERNAL, 0)
            and sum(sources(8100).values()) - sum(before[0].values()) >= usage["prompt_tokens"]
        ),
    )


@pytest.mark.usefixtures("service")
def test_chat_answers() -> None:
    body = {
        "model": "tiny-qwen2",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 16,
        "temperature": 0,
    }
    response = httpx.post(f"{URL}/v1/chat/completions", json=body, timeout=120)
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"].strip()
    assert response.json()["usage"]["completion_tokens"] >= 1


@pytest.mark.usefixtures("service")
def test_stream_has_text_and_usage() -> None:
    body = {
        "model": "tiny-qwen2",
        "prompt": QUESTION,
        "max_tokens": 16,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with httpx.stream("POST", f"{URL}/v1/completions", json=body, timeout=120) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    text = "".join(choice["text"] for event in events for choice in event["choices"])
    assert text == ask().json()["choices"][0]["text"]
    assert [e["usage"] for e in events if e.get("usage")][-1]["completion_tokens"] >= 1


@pytest.mark.usefixtures("service")
def test_a_list_of_prompts_is_answered_as_each_alone_would_be() -> None:
    prompts = [f"{QUESTION} {n}" for n in range(4)]
    alone = [ask(prompt=prompt).json()["choices"][0]["text"] for prompt in prompts]
    together = ask(prompt=prompts)
    assert together.status_code == 200
    choices = together.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["text"] for choice in choices] == alone
    assert len(set(alone)) > 1


@pytest.mark.usefixtures("service")
def test_errors_are_openais_and_name_nothing_of_the_inside() -> None:
    wrong = [
        httpx.post(f"{URL}/v1/completions", content=b"{", timeout=20),
        ask(prompt=7),
        ask(model="nobody"),
        ask(prompt=[1] * 20000),
        httpx.get(f"{URL}/v1/nothing", timeout=20),
    ]
    assert [each.status_code for each in wrong] == [400, 400, 404, 400, 404]
    for each in wrong:
        assert each.json()["error"]["message"]
        assert "8100" not in each.text
        assert "8200" not in each.text


@pytest.mark.usefixtures("service")
def test_logprobs_do_not_kill_the_engine() -> None:
    before = identities()
    assert ask(logprobs=1).status_code == 200
    assert answers()
    assert identities() == before


@pytest.mark.usefixtures("service")
def test_containers_have_least_privilege_labels_and_limits() -> None:
    for name, inspect in containers().items():
        host, config = inspect["HostConfig"], inspect["Config"]
        assert host["Privileged"] is False
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert config["User"] not in ("", "0", "root")
        assert host["Init"] is True
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["LogConfig"]["Config"]["max-size"]
        assert config["Healthcheck"]["Test"]
        assert config["Labels"]["pdinfra.instance"] == name
        assert len(config["Labels"]["pdinfra.spec"]) == 16


@pytest.mark.usefixtures("service")
def test_engines_and_router_listen_on_the_planned_address_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing; it tells this machine's own address.
        probe.connect(("192.0.2.1", 9))
        outside = probe.getsockname()[0]
    for port in (8000, 8100, 8200, 5600, 5700, 9001):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((outside, port), timeout=5)


@pytest.mark.usefixtures("service")
def test_verify_reads_the_engines_own_counters() -> None:
    before = sources(8200).get(EXTERNAL, 0)
    result = pdinfra("verify", "--json")
    assert result.code == 0, result.text
    (pair,) = result.json["pairs"]
    assert (pair["prefill"], pair["decode"], pair["ok"]) == (PREFILL, DECODE, True)
    assert pair["external_tokens"] > 0
    assert sources(8200)[EXTERNAL] - before >= pair["external_tokens"]
    assert result.json["completion"]["text"].strip()


@pytest.mark.usefixtures("service")
def test_stopped_then_removed_prefill_is_named_planned_and_repaired_alone() -> None:
    before = identities()
    command("docker", "stop", f"pd-pd-{PREFILL}")
    verify = pdinfra("verify", "--json")
    assert verify.code == 1
    assert verify.json["ok"] is False
    assert any(PREFILL in problem and "exited" in problem for problem in verify.json["problems"])
    assert pdinfra("status").code == 1
    stopped = pdinfra("plan", "--json", "--detailed-exitcode")
    assert stopped.code == 2
    (change,) = [c for c in stopped.json["changes"] if c["action"] != "keep"]
    assert (change["id"], change["action"]) == (PREFILL, "replace")
    assert "is exited" in change["reason"]

    command("docker", "rm", "-f", f"pd-pd-{PREFILL}")
    status = pdinfra("status", "--json")
    assert status.code == 1
    states = {each["id"]: each["state"] for each in status.json["instances"]}
    assert states == {PREFILL: "absent", DECODE: "running"}
    plan = pdinfra("plan", "--json", "--detailed-exitcode")
    assert plan.code == 2
    assert plan.json["summary"] == {"create": 1, "replace": 0, "keep": 2, "remove": 0}
    assert pdinfra("up").code == 0
    after = identities()
    assert {name for name in ALL if after[name] != before[name]} == {PREFILL}
    assert answers()


@pytest.mark.usefixtures("service")
def test_killed_engine_comes_back_by_itself() -> None:
    before = containers()[DECODE]
    running = processes(before["Id"])
    (engine,) = [pid for pid, line in running.items() if "VLLM::EngineCore" in line]
    os.kill(engine, signal.SIGKILL)
    wait_until(
        "Docker starts the decode container again",
        60,
        lambda: containers()[DECODE]["RestartCount"] > before["RestartCount"],
    )
    seconds = wait_until("the service answers again", 180, answers)
    print(f"answered {seconds:.0f} s after the restart")
    assert containers()[DECODE]["Id"] == before["Id"]
    assert pdinfra("verify").code == 0


@pytest.mark.usefixtures("service")
def test_host_in_no_group_may_be_off_and_is_told(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path)
    path = inventory / "hosts.yml"
    hosts = yaml.safe_load(path.read_text())
    off = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    hosts["all"].setdefault("hosts", {})["retired"] = off
    path.write_text(yaml.safe_dump(hosts))
    before = identities()
    result = pdinfra("up", "--yes", inventory=inventory)
    assert result.code == 0, result.text
    assert "retired: reachable: found " in result.err
    assert "stays there" in result.err
    assert identities() == before
    assert playbook("site.yml", inventory=inventory).code == 0


@pytest.mark.usefixtures("service")
def test_logs_show_an_instances_own_words() -> None:
    result = pdinfra("logs", DECODE, "--tail", "20")
    assert result.code == 0
    assert result.out.strip() or result.err.strip()
    unknown = pdinfra("logs", "nobody")
    assert unknown.code == 2
    assert DECODE in unknown.err


@pytest.mark.usefixtures("service")
def test_no_permission_for_docker_is_one_line_with_the_fix(tmp_path: Path) -> None:
    before = identities()
    inventory = changed_inventory(
        tmp_path,
        ansible_become=True,
        ansible_become_user="nobody",
        ansible_become_method="ansible.builtin.su",
        ansible_become_flags="-s /bin/sh",
        ansible_python_interpreter="/usr/bin/python3",
        ansible_remote_tmp="/tmp/pdinfra-nobody",
    )
    hosts = inventory / "hosts.yml"
    lines = [x for x in hosts.read_text().splitlines() if "ansible_python_interpreter" not in x]
    hosts.write_text("\n".join(lines))
    result = pdinfra("up", inventory=inventory)
    assert result.code == 1, result.text
    assert "no permission" in result.err
    assert "group docker" in result.err
    assert identities() == before


@pytest.mark.usefixtures("service")
def test_changed_setting_replaces_its_container_alone_and_says_why(tmp_path: Path) -> None:
    # The router's: it is the quickest to start.
    inventory = changed_inventory(
        tmp_path, pd_router_policy="random", pd_decode={"max_model_len": 4096}
    )
    before = identities()
    plan = pdinfra("plan", "--json", inventory=inventory)
    changes = {c["id"]: c for c in plan.json["changes"] if c["action"] != "keep"}
    assert {name: c["action"] for name, c in changes.items()} == dict.fromkeys(
        (DECODE, ROUTER), "replace"
    )
    assert changes[DECODE]["fields"] == [{"field": "--max-model-len", "old": "8192", "new": "4096"}]
    drifted = playbook("site.yml", "--check", "--diff", inventory=inventory)
    assert drifted.code == 0, drifted.text
    assert identities() == before
    other = changed_inventory(tmp_path / "router", pd_router_policy="random")
    up = pdinfra("up", inventory=other)
    assert up.code == 0, up.text
    after = identities()
    assert {name for name in ALL if after[name] != before[name]} == {ROUTER}


def test_down_leaves_no_container_and_keeps_images_and_model(first_up: Result) -> None:
    assert first_up.code == 0, first_up.text
    # Of pdinfra alone, and of those no more than there were: another lane has images of its own.
    ours = ("docker", "images", "--quiet", "--no-trunc", "--filter", "reference=pdinfra/*")
    images = set(command(*ours).out.split())
    assert {each["Image"] for each in containers().values()} <= images
    result = pdinfra("down")
    assert result.code == 0, result.text
    assert containers() == {}
    wait_until("no engine is left", 5, lambda: strays("vllm") == [])
    assert images <= set(command(*ours).out.split())
    assert pdinfra("down").code == 0


def test_check_mode_runs_to_the_end_with_no_container_there(first_up: Result) -> None:
    assert first_up.code == 0, first_up.text
    pdinfra("down")
    result = playbook("site.yml", "--check", "--diff")
    assert result.code == 0, result.text
    assert containers() == {}
