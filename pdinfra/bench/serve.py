"""One `vllm bench serve` in a throwaway container on one host: data in by stdin, result by stdout.

Nothing is left on the host: no file, and no container either, whatever ends it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from pdinfra.driver.look import FAILED, DriverError
from pdinfra.model.plan import ContainerSpec
from pdinfra.stacks.base import OFFLINE

TIMED_OUT = 124
"""What timeout(1) exits with when it had to stop its command."""

GRACE_SECONDS = 60.0
"""For the container to start and to go; after that nobody waits for a host that hangs."""

COUNT = re.compile(rb"(\d+)/(\d+) \[")
"""tqdm's progress bar, as vllm bench serve writes it."""


@dataclass(frozen=True)
class Job:
    """One load: where it goes, with what, in which image.

    ``spec`` is an engine's container on the same host: its image and what that needs of the host.
    ``seconds`` is the limit after which it stops by itself. ``ignore_eos``: every answer has
    ``output_tokens``, also where the model would end it.
    """

    service: str
    host: str
    url: str
    model: str
    tokenizer: str
    spec: ContainerSpec
    image: str
    requests: int
    concurrency: int
    output_tokens: int
    template: bool
    seconds: int
    ignore_eos: bool = False


def command(job: Job, name: str) -> list[str]:
    """Return `docker run` of a job; the container's name is ``name``."""
    bench = [
        "vllm", "bench", "serve",
        "--backend=openai",
        f"--base-url={job.url}",
        "--dataset-name=custom",
        "--dataset-path=/tmp/dataset.jsonl",
        f"--max-concurrency={job.concurrency}",
        f"--custom-output-len={job.output_tokens}",
        f"--num-prompts={job.requests}",
        f"--model={job.model}",
        f"--tokenizer={job.tokenizer}",
        # vLLM would put a chat template around the prompts, and fail where a model has none.
        *([] if job.template else ["--skip-chat-template"]),
        *(["--ignore-eos"] if job.ignore_eos else []),
        "--save-result",
        "--result-dir=/tmp",
        "--result-filename=result.json",
    ]  # fmt: skip
    limited = ["timeout", "--kill-after=10", str(job.seconds), *bench]
    script = f"cat > /tmp/dataset.jsonl && {shlex.join(limited)} >&2 && cat /tmp/result.json"
    # Proxies are not for the hosts' own network, and vLLM's client would use them.
    env = {**OFFLINE, "NO_PROXY": "*", "no_proxy": "*"}
    mounts = [f"type=bind,src={m.source},dst={m.target},readonly" for m in job.spec.mounts]
    return [
        "docker", "run", "--rm", "--interactive", "--init", "--pull=never",
        f"--name={name}",
        "--network=host",
        *(f"--cap-drop={each}" for each in job.spec.cap_drop),
        "--security-opt=no-new-privileges",
        *(f"--env={key}={value}" for key, value in env.items()),
        *(f"--mount={mount}" for mount in mounts),
        "--entrypoint=sh",
        job.image,
        "-c", script,
    ]  # fmt: skip


def serve(
    job: Job,
    dataset: str,
    there: Callable[[Sequence[str]], list[str]],
    show: Callable[[int, int], None],
) -> dict[str, Any]:
    """Run a job to its end; return vLLM's result file.

    there: makes a command one that runs on the job's host. show: is told how many requests of how
    many are done. Raises DriverError.
    """
    name = f"pd-bench-{job.service}-{uuid.uuid4().hex[:8]}"
    with (
        tempfile.TemporaryFile() as data,
        tempfile.TemporaryFile() as result,
        tempfile.TemporaryFile() as told,
    ):
        data.write(dataset.encode())
        data.seek(0)
        try:
            process = subprocess.Popen(
                there(command(job, name)), stdin=data, stdout=result, stderr=told
            )
        except OSError as error:
            line = f"{job.host}: {error.filename}: {error.strerror}"
            raise DriverError([f"{line}. Fix: install it on this machine"], FAILED) from error
        try:
            code = _wait(process, job.seconds + GRACE_SECONDS, told, show)
        finally:
            # Ctrl-C and a lost connection leave the load running.
            if process.poll() != 0:
                process.kill()
                process.wait()
                remove = there(["docker", "rm", "--force", "--volumes", name])
                subprocess.run(remove, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if code:
            raise DriverError([_reason(job, code, _text(told))], FAILED)
        return _result(job, _text(result))


def _wait(
    process: subprocess.Popen[bytes],
    seconds: float,
    told: IO[bytes],
    show: Callable[[int, int], None],
) -> int:
    """Return the exit code, TIMED_OUT if there is none in time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            return process.wait(timeout=0.25)
        except subprocess.TimeoutExpired:
            if found := COUNT.findall(_tail(told)):
                show(int(found[-1][0]), int(found[-1][1]))
    return TIMED_OUT


def _tail(file: IO[bytes]) -> bytes:
    """Return the last of what another process has written so far.

    With pread: reading would move the place where that process writes on.
    """
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), 4096, max(size - 4096, 0))


def _text(file: IO[bytes]) -> str:
    """Return all that was written."""
    file.seek(0)
    return file.read().decode(errors="replace")


def _result(job: Job, text: str) -> dict[str, Any]:
    """Return vLLM's result file."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        line = f"{job.host}: vllm bench serve ended well and left no result"
        raise DriverError([f"{line}. Fix: use an image with vLLM 0.32"], FAILED)
    return found


def _reason(job: Job, code: int, text: str) -> str:
    """Return host, thing, cause and fix of a load that failed."""
    start = f"{job.host}: vllm bench serve"
    if code == TIMED_OUT:
        cause = f"stopped after {job.seconds / 60:.2g} minutes, as it was told"
        return f"{start}: {cause}. Fix: use fewer or shorter prompts, or raise --max-minutes"
    if "No such image" in text or "Unable to find image" in text:
        fix = "bring it there (`up` does for the engines' own), or name one that is, with --image"
        return f"{start}: {job.image} is not on the host. Fix: {fix}"
    if "pandas" in text and "vllm[bench]" in text:
        fix = "name an image with --image in which `pip install 'vllm[bench]'` was run"
        return f"{start}: {job.image} has no pandas, which it needs. Fix: {fix}"
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    telling = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|docker:", line)]
    cause = (telling or lines or [f"exit code {code}, and no word"])[-1].rstrip(".")
    return f"{start}: {cause}. Fix: see whether `verify` is well, then `logs router`"
