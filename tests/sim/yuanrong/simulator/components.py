"""Which programs a node runs, with which words: as yr/cli/config.toml.jinja of 9.9.9 has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .installation import Installation

Check = Literal["etcd", "file", "http"]
ORDER = ("etcd", "ds_master", "ds_worker", "function_master", "function_proxy", "function_agent")


@dataclass
class Layout:
    """Addresses and sizes of one node, all decided. ``pid`` is in the names of some folders."""

    mode: str
    deploy: str
    host: str
    etcd_ip: str
    etcd_port: int
    etcd_peer_port: int
    ds_master_ip: str
    ds_master_port: int
    ds_worker_port: int
    function_master_ip: str
    function_master_port: int
    function_proxy_port: int
    function_proxy_grpc_port: int
    function_agent_port: int
    shared_memory_mb: int
    pid: int
    worker_master: str | None = None
    worker_args: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    log: str = "logs"

    @property
    def names(self) -> list[str]:
        """The components of this node, in the order of their start."""
        wanted = ORDER if self.mode == "master" else ("ds_worker", *ORDER[4:])
        return [name for name in wanted if name not in self.left_out]

    @property
    def etcd(self) -> str:
        """The cluster's etcd."""
        return f"{self.etcd_ip}:{self.etcd_port}"

    @property
    def function_master(self) -> str:
        """The cluster's function_master."""
        return f"{self.function_master_ip}:{self.function_master_port}"


@dataclass
class Component:
    """One program, and how its health is asked for."""

    name: str
    command: list[str]
    check: Check
    target: str
    seconds: float
    folders: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """Return plain data for the daemon."""
        return asdict(self)


def components(installation: Installation, layout: Layout) -> list[Component]:
    """Return a node's components."""
    return [_component(installation, layout, name) for name in layout.names]


def _component(installation: Installation, layout: Layout, name: str) -> Component:
    """Return one component."""
    program = installation.program(name)
    if name == "etcd":
        return _etcd(program, layout)
    if name.startswith("ds_"):
        return _worker(installation, layout, name)
    addresses = {
        "function_master": layout.function_master,
        "function_proxy": f"{layout.host}:{layout.function_proxy_port}",
        "function_agent": f"{layout.host}:{layout.function_agent_port}",
    }
    words = {
        "address": addresses[name],
        "etcd_address": layout.etcd,
        "master": layout.function_master,
        "log_path": f"{layout.deploy}/{layout.log}/function_system",
    }
    command = [program, *(f"--{key}={value}" for key, value in words.items())]
    return Component(name, command, "http", f"http://{addresses[name]}/x/healthy", 60)


def _etcd(program: str, layout: Layout) -> Component:
    """Return etcd, the real one."""
    url, data = f"http://{layout.etcd}", f"{layout.deploy}/third_party/etcd"
    words = {
        "name": "etcd0",
        "data-dir": data,
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": f"http://{layout.etcd_ip}:{layout.etcd_peer_port}",
    }
    command = [program, *(f"--{key}={value}" for key, value in words.items())]
    return Component("etcd", command, "etcd", url, 20, folders=[data])


def _worker(installation: Installation, layout: Layout, name: str) -> Component:
    """Return ds_master or ds_worker: one program with different words."""
    kind = name.removeprefix("ds_")
    own = f"{layout.deploy}/{name}_{layout.pid}"
    master = f"{layout.ds_master_ip}:{layout.ds_master_port}"
    words: dict[str, str] = {
        "master_address": master,
        "worker_address": master,
        "log_dir": f"{layout.deploy}/{layout.log}/data_system/{kind}",
        "unix_domain_socket_dir": f"{own}/socket",
        "health_check_path": f"{own}/{kind}/health",
        "ready_check_path": f"{own}/{kind}/ready",
        "rocksdb_store_dir": f"{own}/rocksdb",
        "etcd_address": layout.etcd,
        "enable_reconciliation": "false",
        "enable_distributed_master": "false",
        "rpc_thread_num": "32",
        "heartbeat_interval_ms": "3000",
        "node_timeout_s": "10",
        "node_dead_timeout_s": "30",
        "log_monitor": "false",
        "logfile_mode": "416",
    }
    if kind == "worker":
        words |= {
            "master_address": master if layout.worker_master is None else layout.worker_master,
            "worker_address": f"{layout.host}:{layout.ds_worker_port}",
            "shared_memory_size_mb": str(layout.shared_memory_mb),
            **layout.worker_args,
        }
    folders = [words[key] for key in ("log_dir", "unix_domain_socket_dir", "rocksdb_store_dir")]
    command = [
        installation.program(name),
        *(f"-{key}={value}" for key, value in words.items() if value),
    ]
    library = f"{installation.root}/datasystem/lib"
    env = {"LD_LIBRARY_PATH": library} if installation.datasystem else {}
    health = words["health_check_path"]
    return Component(name, command, "file", health, installation.health_seconds, folders, env)
