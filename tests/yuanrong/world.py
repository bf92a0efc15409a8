"""The local service with the stack `yuanrong`, an engine without it, and what both say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prometheus_client.parser import text_string_to_metric_families

from pdinfra.assets import TINY_MODEL
from pdinfra.verify.counters import EXTERNAL, prompt_tokens
from tests.commands import command, containers, wait_until

PREFILL_PORT, DECODE_PORT, ROUTER_PORT, PLAIN_PORT = 8100, 8200, 8000, 18300
PREFILL, DECODE, WORKER = "prefill-local-0", "decode-local-0", "datasystem-local"
BLOCK = 32
MODEL = "tiny-qwen2"
SERVICE = {
    "pd_stack": "yuanrong",
    "pd_connector": "YuanrongStoreConnector",
    "pd_datasystem_gib": 0.25,
    "pd_dtype": "float32",
    "pd_max_model_len": 4096,
    "pd_enforce_eager": True,
}
PLAIN = "pdinfra-test-plain"


def docker(*words: str) -> str:
    """Run docker, which must work, and return what it prints."""
    done = command("docker", *words)
    assert done.code == 0, done.text
    return done.out


@contextmanager
def plain_engine(image: str) -> Iterator[None]:
    """Run an engine of this image that knows no connector, until the block ends."""
    docker(
        "run", "--detach", "--rm", "--init", "--name", PLAIN, "--network", "host",
        "--user", "1000:1000", "--cap-drop", "ALL", "--shm-size", "1g",
        "--env", "VLLM_CPU_KVCACHE_SPACE=1", "--env", "VLLM_CPU_OMP_THREADS_BIND=nobind",
        "--env", "OMP_NUM_THREADS=1", "--env", "VLLM_HOST_IP=127.0.0.1",
        "--volume", f"{TINY_MODEL}:/model:ro", image,
        "vllm", "serve", "/model", "--served-model-name", MODEL,
        "--host", "127.0.0.1", "--port", str(PLAIN_PORT), "--dtype", "float32",
        "--block-size", str(BLOCK), "--max-model-len", "4096", "--enforce-eager",
    )  # fmt: skip
    try:
        wait_until("the plain engine answers", 180, lambda: healthy(PLAIN_PORT))
        yield
    finally:
        docker("rm", "--force", PLAIN)


def name(instance: str) -> str:
    """Return the name of one of the service's containers."""
    return f"pd-pd-{instance}"


def state(instance: str) -> tuple[bool, int]:
    """Return whether a container is healthy, and how often Docker restarted it."""
    found = containers()[instance]
    return found["State"]["Health"]["Status"] == "healthy", found["RestartCount"]


def data_system(script: str, *words: str) -> str:
    """Run Python beside prefill with a client of the data system; return what it prints."""
    address = json.loads(docker("inspect", name(PREFILL)))[0]["Args"]
    config = json.loads(next(word for word in address if word.startswith('{"kv_connector"')))
    host, port = config["kv_connector_extra_config"]["worker"].split(":")
    prelude = (
        "import sys; from yr.datasystem import KVClient\n"
        "from yr.datasystem.object_client import WriteMode\n"
        f"client = KVClient({host!r}, {port}, connect_timeout_ms=5000)\n"
        "client.init(); evict = WriteMode.NONE_L2_CACHE_EVICT\n"
    )
    done = subprocess.run(
        ["docker", "exec", "--interactive", name(PREFILL), "python", "-", *words],
        input=prelude + script,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def healthy(port: int) -> bool:
    """Tell whether an engine or router answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def complete(port: int, prompt: list[int], tokens: int = 8) -> str:
    """Return the text that follows a prompt. Raises httpx.HTTPError if there is none."""
    body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
    response = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=120)
    response.raise_for_status()
    return str(response.json()["choices"][0]["text"])


def counters(port: int) -> dict[str, int]:
    """Return an engine's own counters of the connector, and external tokens, by short name."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    found = {"external": prompt_tokens(text).get(EXTERNAL, 0)}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("vllm:yuanrong_"):
            name = family.name.removeprefix("vllm:yuanrong_")
            found[name] = sum(
                int(sample.value) for sample in family.samples if sample.name.endswith("_total")
            )
    return found


@contextmanager
def counted(port: int, **at_least: int) -> Iterator[None]:
    """Check that these counters of an engine grow by so much while the block runs."""
    before = counters(port)
    yield

    def grown() -> bool:
        now = counters(port)
        return all(now.get(name, 0) - before.get(name, 0) >= n for name, n in at_least.items())

    wait_until(f"{at_least} on port {port}, from {before} to {counters(port)}", 15, grown)
