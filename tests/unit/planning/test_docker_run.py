"""The `docker run` of a planned container."""

from __future__ import annotations

import shlex

from pdinfra.planning.docker_run import as_text, docker_run, docker_runs
from tests.unit.builders import ASCEND, NVIDIA, ONE_HOST, plan


def test_every_container_has_one_that_a_shell_reads_back() -> None:
    made = plan(ONE_HOST, {**NVIDIA, "pd_env": {"QUOTED": "it's $HOME; rm"}})
    runs = docker_runs(made)
    assert list(runs) == ["prefill-a-0", "decode-a-0", "router"]
    for words in runs.values():
        assert shlex.split(as_text(words).replace("\\\n", " ")) == words


def test_it_says_all_that_makes_the_container() -> None:
    words = docker_run(plan(ONE_HOST, {**NVIDIA, "pd_devices": [0, 1]}).host("a").containers[1])
    text = " ".join(words)
    for said in (
        "--name=pd-pd-decode-a-0",
        "--network=host",
        "--ipc=host",
        '--gpus "device=1"',
        "--ulimit=memlock=-1:-1",
        "type=bind,source=/srv/models/qwen,target=/srv/models/qwen,readonly",
        "-e CUDA_VISIBLE_DEVICES=0",
        "vllm/vllm-openai:v0.32.0 vllm serve /srv/models/qwen",
    ):
        assert said in text
    assert "--shm-size" not in text
    assert "--privileged" not in text


def test_devices_of_ascend_are_named_one_by_one() -> None:
    words = docker_run(plan(ONE_HOST, {**ASCEND, "pd_devices": [4, 5]}).host("a").containers[0])
    assert "--device=/dev/davinci4" in words
    assert "--device=/dev/davinci5" not in words
