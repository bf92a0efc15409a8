"""The guides' environment: their own text, run by a shell, against what is rendered."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from pdinfra.yuanrong.environment import (
    Deployment,
    EnvironmentRefusedError,
    block,
    clean,
    notes,
    problems,
    variables,
)

# Guide yuanrong-pd-disaggregation, "使用脚本部署 Qwen PD 分离推理实例", without its comments.
GUIDE_PD = """\
export SERVER_IP=xx.xx.xx.xx
export SERVER_PORT=9000
export MODEL_PATH="/workspace/models/qwen2.5_7B"
export PYTHONPATH=$PYTHONPATH:/workspace/tools/deploy
export VLLM_USE_V1=1
export VLLM_WORKER_MULTIPROC_METHOD=spawn
export vLLM_MODEL_MEMORY_USE_GB=20
export PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python
export LD_LIBRARY_PATH=${YR_INSTALL_PATH}/function_system/lib:$LD_LIBRARY_PATH
export HCL_OP_EXPANSION_MODE="AIV"
export USING_PREFIX_CONNECTOR=1
export PREFILL_INS_NUM=1
export DECODE_INS_NUM=1
export PTP=4
export DTP=4
export PDP=1
export DDP=1
"""
# Guide yuanrong-fast-model-load, "部署首个 Qwen 推理实例", and the export of its step 4.
GUIDE_LOAD = """\
export DS_WORKER_ADDR=${MASTER_IP}:11373
export SERVER_IP=127.0.0.1
export SERVER_PORT=9000
export MODEL_PATH="/workspace/models/qwen2.5_7B"
export PYTHONPATH=$PYTHONPATH:/workspace/tools/deploy
export VLLM_USE_V1=1
export VLLM_WORKER_MULTIPROC_METHOD=spawn
export vLLM_MODEL_MEMORY_USE_GB=20
export PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python
export LD_LIBRARY_PATH=${YR_INSTALL_PATH}/function_system/lib:$LD_LIBRARY_PATH
export HCL_OP_EXPANSION_MODE="AIV"
export USING_PREFIX_CONNECTOR=1
export PREFILL_INS_NUM=1
export DECODE_INS_NUM=0
export PTP=2
export DTP=0
export PDP=1
export DDP=0
"""
INSTALLED = "/usr/local/Python-3.11.9/lib/python3.11/site-packages/yr/inner"
INHERITED = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/opt/own", "LD_LIBRARY_PATH": "/opt/cann/lib"}
PD = Deployment(
    server_ip="xx.xx.xx.xx",
    server_port=9000,
    model_path="/workspace/models/qwen2.5_7B",
    tools_dir="/workspace/tools/deploy",
    install_path=INSTALLED,
    prefill=1,
    decode=1,
    ptp=4,
    dtp=4,
)
LOAD = replace(
    PD,
    server_ip="127.0.0.1",
    decode=0,
    ptp=2,
    dtp=0,
    ddp=0,
    worker_address="192.0.2.11:11373",
)


def shell(text: str, **more: str) -> dict[str, str]:
    """Return what a shell makes of exports."""
    before = {**INHERITED, "YR_INSTALL_PATH": INSTALLED, "MASTER_IP": "192.0.2.11", **more}
    done = subprocess.run(
        ["bash", "-c", f"set -eu\n{text}env -0"], env=before, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    own = {"PATH", "YR_INSTALL_PATH", "MASTER_IP", "_", "PWD", "SHLVL"}
    return {name: value for name, value in found.items() if name not in own}


def corrected(guide: dict[str, str]) -> dict[str, str]:
    """Apply the one correction that is made to the guides' names."""
    return {name.replace("HCL_OP_", "HCCL_OP_"): value for name, value in guide.items()}


def test_pd_guide_s_block_is_what_is_rendered() -> None:
    assert variables(PD, INHERITED) == corrected(shell(GUIDE_PD))


def test_load_guide_s_block_is_what_is_rendered() -> None:
    # Instances replace DS_WORKER_ADDR by DATASYSTEM_ADDR, so both say the same.
    expected = corrected(shell(GUIDE_LOAD)) | {"DATASYSTEM_ADDR": "192.0.2.11:11373"}
    assert variables(LOAD, INHERITED) == expected


def test_shell_text_means_the_same_as_the_variables() -> None:
    odd = replace(PD, model_path="/srv/my models/q'7B $HOME")
    assert shell(block(odd, INHERITED)) == variables(odd, INHERITED)


def test_order_is_the_guide_s() -> None:
    names = [line.split("=")[0].removeprefix("export ") for line in GUIDE_PD.splitlines()]
    assert list(variables(PD)) == [name.replace("HCL_OP_", "HCCL_OP_") for name in names]


def test_no_empty_part_in_a_path_as_it_would_mean_the_current_folder() -> None:
    alone = variables(PD, {})
    assert alone["PYTHONPATH"] == "/workspace/tools/deploy"
    assert alone["LD_LIBRARY_PATH"] == f"{INSTALLED}/function_system/lib"


def test_any_zero_means_mixed_instances_and_is_said() -> None:
    assert PD.mode == "disaggregated"
    assert LOAD.mode == "mixed"
    assert replace(PD, prefill=0).mode == "mixed"
    assert any("1 prefill and 0 decode instances mean MIXED" in note for note in notes(LOAD))
    assert any("both may land on one host" in note for note in notes(PD))
    assert all(any("HCL_OP_EXPANSION_MODE" in note for note in notes(d)) for d in (PD, LOAD))


def test_prefix_cache_can_be_off() -> None:
    assert variables(replace(PD, prefix_connector=False))["USING_PREFIX_CONNECTOR"] == "0"


def test_caller_s_environment_does_not_get_through() -> None:
    caller = {**INHERITED, "HF_TOKEN": "hush", "HOME": "/home/someone", "http_proxy": "http://x"}
    for deployment in (PD, None):
        found = clean(deployment, caller)
        assert "hush" not in found.values()
        assert not {"HF_TOKEN", "http_proxy"} & set(found)
        assert (found["PATH"], found["HOME"]) == (INHERITED["PATH"], "/root")
        assert "/opt/cann/lib" in found["LD_LIBRARY_PATH"]


@pytest.mark.parametrize("name", ["HF_TOKEN", "OPENAI_API_KEY", "db_password", "AWS_SECRET_KEY"])
def test_secret_among_the_extras_is_refused_by_name(name: str) -> None:
    bad = replace(PD, extra={name: "hush"})
    with pytest.raises(EnvironmentRefusedError, match=f"{name} looks like a secret") as caught:
        clean(bad, INHERITED)
    assert "hush" not in str(caught.value)
    assert any(name in problem for problem in problems(bad))


def test_extras_are_added_and_the_misspelt_one_corrected() -> None:
    more = variables(replace(PD, extra={"HCL_OP_EXPANSION_MODE": "HOST", "FUTURE_TIMEOUT": "5"}))
    assert more["HCCL_OP_EXPANSION_MODE"] == "HOST"
    assert more["FUTURE_TIMEOUT"] == "5"
    assert "HCL_OP_EXPANSION_MODE" not in more


def test_guides_deployments_are_right_on_the_hosts_they_name() -> None:
    assert problems(PD, npus=16) == []
    assert problems(LOAD, npus=2) == []
    assert (PD.npus, LOAD.npus) == (8, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prefill": 0, "decode": 0}, "no instance"),
        ({"dtp": 0}, "DTP and DDP from 1"),
        ({"pdp": 0}, "PTP and PDP from 1"),
        ({"server_ip": "0.0.0.0"}, "that of the master"),
        ({"model_path": "models/q"}, "is not absolute"),
        ({"ptp": 16}, "take 20 NPUs, all hosts together have 16"),
    ],
)
def test_deployment_that_cannot_work_is_named(change: dict[str, object], said: str) -> None:
    wrong = problems(replace(PD, **change), npus=16)  # type: ignore[arg-type]
    assert [problem for problem in wrong if said in problem], wrong
