"""The guides' run_vllm_on_yr.sh: what really became of a deployment, read from its deploy.log.

The script's own answer is always 部署已启动 and 0. Sources: upstream's
docs/sample_code/llm_on_multiple_machines (run_vllm_on_yr.sh, scripts.py); uvicorn for its lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

SCRIPT = "run_vllm_on_yr.sh"
LOG = "deploy.log"
PID_FILE = "deploy.pid"
DRIVER = "scripts.py"

State = Literal["starting", "running", "failed"]

RUNNING = re.compile(r"Uvicorn running on (\S+)")
ENDED = re.compile(r"INFO:\s+(?:Shutting down|Finished server process)")
LENGTH = re.compile(r"--max-model-len=\d+")


@dataclass(frozen=True)
class Outcome:
    """What a log says; ``fix`` is empty unless it failed."""

    state: State
    cause: str = ""
    fix: str = ""
    url: str = ""

    def __str__(self) -> str:
        """Return the one line that a person reads."""
        line = {"starting": "still starting", "running": f"serves at {self.url}"}.get(
            self.state, self.cause
        )
        return f"{line}. Fix: {self.fix}" if self.fix else line


@dataclass(frozen=True)
class _Failure:
    """A line that ends a deployment, and what mends it. Group 1 of the pattern is the detail."""

    pattern: re.Pattern[str]
    cause: str
    fix: str


ALREADY = "another deployment's Controller runs in the cluster"
FAILURES = (
    _Failure(
        re.compile(r"Failed to connect YR cluster: ?(.*)"),
        "the script cannot reach openYuanrong on this host (it ends with 0 all the same)",
        "start openYuanrong here, on the master's host; `yr status` must count the agents",
    ),
    _Failure(
        re.compile(r"There is already an controller running in the cluster()"),
        ALREADY,
        f"bash {SCRIPT} clean, then deploy again",
    ),
    _Failure(
        re.compile(r"Controller actor create failed ?: ?(.*)"),
        "the instances did not start",
        "look into the runtime-*.out of the session's logs; count free NPUs against PTP, DTP",
    ),
    _Failure(
        re.compile(r"\[Errno 98\].*bind on address (.*?): "),
        "SERVER_PORT is taken by another process",
        f"free the port or choose another, bash {SCRIPT} clean, deploy again",
    ),
    _Failure(
        re.compile(r"\[Errno 99\].*bind on address (.*?): "),
        "SERVER_IP is no address of this host",
        f"set it to the master's, bash {SCRIPT} clean, deploy again",
    ),
    _Failure(
        re.compile(r"Deployment failed: ?(.*)"),
        "the entry did not start",
        f"bash {SCRIPT} clean, then deploy again",
    ),
    _Failure(
        re.compile(r"^(?:ModuleNotFoundError|ImportError): (.*)", re.MULTILINE),
        "a Python module is missing",
        "install it into the engines' image; the scripts need yr, fastapi, uvicorn, aiohttp, "
        "psutil, click, pydantic, and their own folder in PYTHONPATH",
    ),
    _Failure(
        re.compile(r"^Error: (Invalid value.*|No such option.*|Option .*)", re.MULTILINE),
        "scripts.py refuses its options: a variable of the block is empty or no number",
        "set PREFILL_INS_NUM, DECODE_INS_NUM, PTP, DTP, PDP and DDP",
    ),
    _Failure(
        re.compile(r"failed to run command (\S+)", re.MULTILINE),
        "there is no python",
        "run the script inside the engines' container",
    ),
)
"""In the order of what says most: a bind error comes with a Python traceback around it."""


def outcome(log: str, *, alive: bool) -> Outcome:
    """Return what a deploy.log says; ``alive``: whether the process of deploy.pid still runs.

    A log alone proves no success: the line of success stays when the process is killed later.
    """
    failed = _failure(log)
    if failed is not None:
        return failed
    running = RUNNING.search(log)
    if running and alive and not ENDED.search(log, running.end()):
        return Outcome("running", url=running.group(1))
    if alive:
        return Outcome("starting")
    said = [line.strip() for line in log.splitlines() if line.strip()][-1:]
    cause = "the entry has ended" if running else "the deployment ended without a result"
    detail = f"; the log's last line: {said[0]}" if said else "; the log is empty"
    return Outcome("failed", cause + detail, f"bash {SCRIPT} clean, then deploy again")


def deployed_elsewhere(result: Outcome) -> bool:
    """Tell whether a deployment was refused because an older one was never cleaned."""
    return result.state == "failed" and result.cause.startswith(ALREADY)


def clean_problem(said: str) -> str | None:
    """Return why ``clean`` did not clean (it ends with 0 all the same); None if it did."""
    for text in ("Failed to connect YR cluster", "Failed to clean up controller", "Timeout when"):
        for line in said.splitlines():
            if text in line:
                words = line[line.index(text) :].strip()
                return f"not cleaned: {words}. Fix: start openYuanrong here, then try again"
    return None


def with_length(script: str, max_model_len: int) -> str:
    """Return the script with another longest text than its 2048 tokens. Raises ValueError."""
    changed, count = LENGTH.subn(f"--max-model-len={max_model_len}", script)
    if not count:
        raise ValueError(
            f"{SCRIPT} names no --max-model-len, so it cannot be set. Fix: use upstream's script, "
            "or leave max_model_len out"
        )
    return changed


def _failure(log: str) -> Outcome | None:
    """Return the failure that a log names, or None."""
    for known in FAILURES:
        found = known.pattern.search(log)
        if found:
            detail = found.group(1).strip()
            return Outcome("failed", f"{known.cause}{f': {detail}' if detail else ''}", known.fix)
    return None
