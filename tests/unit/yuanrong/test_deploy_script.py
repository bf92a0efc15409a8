"""deploy.log: what really became of a deployment, whatever the script said."""

from __future__ import annotations

import pytest

from pdinfra.yuanrong.deploy_script import (
    clean_problem,
    deployed_elsewhere,
    outcome,
    with_length,
)

# The guides' own logs of a success.
SUCCESS = """\
[2025-10-21 07:40:32.217 INFO init apis.py:168 281473354348832] Succeeded to init YR, jobID is job-d9f59ff7
[2025-10-21 07:40:32.263 INFO _invoke instance_proxy.py:256 281473354348832] [Reference Counting] put code with id = abc96a95d6bacfab2607;e67745d5-955b-4d80-8d7e-919e5aa0f923, className = Controller
INFO: Started server process [40250]
INFO: Waiting for application startup.
INFO: Application startup complete.
INFO: Uvicorn running on http://127.0.0.1:9000 (Press CTRL+C to quit)
"""  # noqa: E501


def test_guide_s_log_with_a_living_process_is_a_success() -> None:
    result = outcome(SUCCESS, alive=True)
    assert (result.state, result.url) == ("running", "http://127.0.0.1:9000")
    assert str(result) == "serves at http://127.0.0.1:9000"


def test_that_it_was_started_proves_nothing() -> None:
    assert outcome("", alive=True).state == "starting"
    assert outcome("\n".join(SUCCESS.splitlines()[:2]), alive=True).state == "starting"


def test_success_of_a_process_that_has_ended_is_a_failure() -> None:
    assert "the entry has ended" in str(outcome(SUCCESS, alive=False))
    stopping = SUCCESS + "INFO:     Shutting down\n"
    assert outcome(stopping, alive=True).state == "starting"
    assert outcome(stopping, alive=False).state == "failed"


@pytest.mark.parametrize(
    ("line", "cause", "fix"),
    [
        (
            "[WARNING] Failed to connect YR cluster: ValueError port 'None'",
            "cannot reach openYuanrong on this host (it ends with 0 all the same): ValueError port",
            "start openYuanrong here",
        ),
        (
            "There is already an controller running in the cluster, please clean before deploy",
            "another deployment's Controller",
            "run_vllm_on_yr.sh clean",
        ),
        ("Controller actor create failed : timeout", "did not start: timeout", "count free NPUs"),
        (
            "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 9000): "
            "address already in use",
            "SERVER_PORT is taken by another process: ('127.0.0.1', 9000)",
            "free the port",
        ),
        (
            "ERROR:    [Errno 99] error while attempting to bind on address ('192.0.2.1', 9000): "
            "cannot assign requested address",
            "SERVER_IP is no address of this host",
            "set it to the master's",
        ),
        ("Deployment failed: boom", "the entry did not start: boom", "clean"),
        (
            "Traceback (most recent call last):\n  import yr\nModuleNotFoundError: No module named "
            "'yr'",
            "a Python module is missing: No module named 'yr'",
            "install it",
        ),
        (
            "Error: Invalid value for '--decode-instances-num': '' is not a valid integer.",
            "a variable of the block is empty",
            "set PREFILL_INS_NUM",
        ),
        ("nohup: failed to run command 'python': No such file or directory", "no python", "inside"),
    ],
)
def test_failures_are_known_by_their_lines(line: str, cause: str, fix: str) -> None:
    # They end with 0, and some leave a process behind.
    for alive in (True, False):
        result = outcome(f"some line\n{line}\n", alive=alive)
        assert result.state == "failed"
        assert cause in result.cause
        assert fix in result.fix
        assert len(str(result).splitlines()) == 1


def test_unknown_end_shows_the_log_s_last_line() -> None:
    assert "last line: Killed" in str(outcome("loading\nKilled\n", alive=False))
    assert "the log is empty" in str(outcome("", alive=False))


def test_only_an_older_deployment_is_cleaned_for() -> None:
    line = "There is already an controller running in the cluster, please clean"
    assert deployed_elsewhere(outcome(line, alive=False))
    assert not deployed_elsewhere(outcome("Deployment failed: x", alive=False))


def test_clean_that_did_not_clean_is_noticed() -> None:
    said = "[WARNING] Failed to connect YR cluster: refused\n已终止部署进程\n已清理日志文件\n"
    problem = clean_problem(said)
    assert problem is not None
    assert "refused. Fix: " in problem
    nothing = "[WARNING] No existing Controller actor found, nothing to clean\n已清理日志文件\n"
    assert clean_problem(nothing) is None


def test_longest_text_of_the_script_can_be_set() -> None:
    script = 'a "vllm serve --max-model-len=2048 --x" b "vllm serve --max-model-len=2048"'
    assert with_length(script, 32768).count("--max-model-len=32768") == 2
    with pytest.raises(ValueError, match="names no --max-model-len"):
        with_length("vllm serve", 1)
