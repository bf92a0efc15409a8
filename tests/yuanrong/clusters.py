"""Hosts of a cluster on one machine: each with its own loopback address and installation.

`yr` is a SIMULATOR; etcd under it is real, and so are the data system's workers where a test asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pdinfra.yuanrong.commands import Dialect, Node, Ports
from pdinfra.yuanrong.environment import Deployment
from pdinfra.yuanrong.runner import Limits, Runner, Settings
from tests.commands import ROOT
from tests.yuanrong.programs import etcd

LAUNCHER = ROOT / "tests" / "sim" / "yuanrong" / "yr"
MASTER_IP, AGENT_IP = "127.0.1.1", "127.0.1.2"
PORTS = Ports(
    etcd=22540,
    etcd_peer=22541,
    ds_master=12223,
    ds_worker=31601,
    function_master=22870,
    function_proxy=22872,
    function_proxy_grpc=22873,
    function_proxy_exec=22874,
    function_agent=58966,
    runtime_init=21106,
)
SERVER_PORT = 19000
LIMITS = Limits(command=30, agents=6, deployment=8, poll=0.1)


@dataclass
class Host:
    """One host: where things are, and how it is driven."""

    folder: Path
    address: str
    dialect: Dialect
    master: str = MASTER_IP
    options: tuple[str, ...] = ()
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "installed"

    @property
    def sessions(self) -> Path:
        return self.folder / "sessions"

    @property
    def node(self) -> Node:
        return Node(self.address, self.master, str(self.folder / "deploy"), 512, PORTS)

    def install(self) -> Host:
        words = [
            sys.executable, str(LAUNCHER), "install", "--into", str(self.root),
            "--dialect", self.dialect, "--sessions", str(self.sessions), "--etcd", str(etcd()),
            "--poll", "0.2", "--health", "4", "--load", "0.3", *self.options,
        ]  # fmt: skip
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return self

    def runner(self, node: Node | None = None, **changes: object) -> Runner:
        settings = Settings(
            node=node or self.node,
            agents=2,
            deployment=self.deployment(),
            sessions=str(self.sessions),
            limits=LIMITS,
        )
        return Runner(replace(settings, **changes), self.environment())  # type: ignore[arg-type]

    def deployment(self, **changes: object) -> Deployment:
        base = Deployment(
            server_ip=self.address,
            server_port=SERVER_PORT,
            model_path="/workspace/models/qwen2.5_7B",
            tools_dir=str(self.root / "deploy"),
            install_path="/nowhere/yr/inner",
            prefill=1,
            decode=1,
            ptp=4,
            dtp=4,
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.root}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}

    def yr(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Call the simulated program as a user would."""
        return subprocess.run(
            ["yr", *words],
            env=self.environment() | env,
            executable=str(self.root / "bin" / "yr"),
            capture_output=True,
            text=True,
        )

    def etcdctl(self, *words: str) -> str:
        command = [str(etcd() / "etcdctl"), "--endpoints", f"http://{self.node.etcd_endpoint}"]
        return subprocess.run([*command, *words], capture_output=True, text=True).stdout

    def command(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the driver as the container's user does."""
        settings = {
            "node": asdict(self.node),
            "agents": 2,
            "deployment": asdict(self.deployment()),
            "sessions": str(self.sessions),
            "limits": asdict(LIMITS),
        }
        path = self.folder / "settings.json"
        path.write_text(json.dumps(settings))
        return subprocess.run(
            [sys.executable, "-m", "pdinfra.yuanrong", verb, "--settings", str(path), *words],
            env=self.environment() | {"PYTHONPATH": str(ROOT), "HF_TOKEN": "hush-hush"},
            capture_output=True,
            text=True,
        )

    def processes(self) -> list[int]:
        """Return everything that runs from this host's installation, or in one of its folders."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                line += f" {(entry / 'cwd').readlink()}/"
            except OSError:
                continue
            if f"{self.folder}/" in line:
                found.append(int(entry.name))
        return found

    def pid(self, mark: str) -> int:
        """Return the process whose command line has a mark."""
        for pid in self.processes():
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if mark in line:
                return pid
        raise AssertionError(f"no process with {mark}")


def words_of(values: Sequence[str]) -> list[str]:
    """Return overrides as words of a command line."""
    return [word for value in values for word in ("-s", value)]
