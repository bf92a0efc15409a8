"""The words of ``yr`` in both dialects, from one description of a node.

Sources: for `flags` both guides (0.5.0), functionsystem's pkg/cli/cmd (Go) and config.sh of
deploy/process; for `toml` yr/cli of the wheel openyuanrong 9.9.9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Dialect = Literal["flags", "toml"]
Words = tuple[str, ...]

RUNTIME_SWITCHES = (
    "runtime_direct_connection_enable",
    "enable_separated_redirect_runtime_std",
)
"""What both guides turn on; of the third, ``-l DEBUG``, see Node.log_level."""
SAYS_TOML = re.compile(r"-s, --set\b|--master_address\b")
SAYS_FLAGS = re.compile(r"--etcd_addr_list\b|--etcd_peer_port\b")


class CommandError(ValueError):
    """A node cannot be started as it is described; the text says why and what would be right."""


@dataclass(frozen=True)
class Ports:
    """Every port of a node. None is left to ``yr``, which moves what nobody pins without a word."""

    etcd: int = 22440
    etcd_peer: int = 22441
    ds_master: int = 12123
    ds_worker: int = 31501
    function_master: int = 22770
    function_proxy: int = 22772
    function_proxy_grpc: int = 22773
    function_proxy_exec: int = 22774
    function_agent: int = 58866
    runtime_init: int = 21006


@dataclass(frozen=True)
class Node:
    """One host of the cluster. The times notice a dead host in seconds; in toml's defaults 30 min.

    ``deploy_path`` holds etcd's data, logs and sockets, and is the same after every start: a fresh
    one loses the cluster's state. ``functions`` False leaves the function system out (toml only).
    """

    host_ip: str
    master_ip: str
    deploy_path: str
    shared_memory_mb: int
    ports: Ports = field(default_factory=Ports)
    log_level: str = "DEBUG"
    node_timeout_s: int = 10
    node_dead_timeout_s: int = 30
    heartbeat_interval_ms: int = 3000
    functions: bool = True

    @property
    def master(self) -> bool:
        """Tell whether this is the host of etcd and the masters."""
        return self.host_ip == self.master_ip

    @property
    def worker_address(self) -> str:
        """The data-system worker of this host, as clients take it."""
        return f"{self.host_ip}:{self.ports.ds_worker}"

    @property
    def watched(self) -> dict[str, int]:
        """The ports that must listen while the node is alive, by component."""
        ports = self.ports
        found = {"ds_worker": ports.ds_worker, "function_agent": ports.function_agent}
        if self.master:
            found |= {"etcd": ports.etcd, "function_master": ports.function_master}
        return found

    @property
    def etcd_endpoint(self) -> str:
        """Where the cluster's etcd answers clients."""
        return f"{self.master_ip}:{self.ports.etcd}"

    @property
    def session_file(self) -> str:
        """What a start leaves in toml; named by path, as `latest` points to whoever came last."""
        return f"{self.deploy_path}/session.json"


def problems(node: Node) -> list[str]:
    """Return everything that is wrong with a description, each with its fix."""
    found = []
    if not node.deploy_path.startswith("/") or node.deploy_path == "/":
        found.append(f"deploy_path {node.deploy_path!r} is no folder's absolute path")
    if node.deploy_path == "/tmp" or node.deploy_path.startswith("/tmp/"):
        found.append(
            f"deploy_path {node.deploy_path} is in /tmp, which hosts clean: etcd's data would be "
            "lost. Fix: use a folder such as /var/lib/yuanrong"
        )
    if node.shared_memory_mb <= 0:
        found.append(f"shared_memory_mb is {node.shared_memory_mb}. Fix: give the MB to reserve")
    if not 0 < node.heartbeat_interval_ms < node.node_timeout_s * 1000:
        found.append(
            f"a heartbeat every {node.heartbeat_interval_ms} ms, but dead after "
            f"{node.node_timeout_s} s. Fix: at least two heartbeats before the timeout"
        )
    if node.node_dead_timeout_s <= node.node_timeout_s:
        found.append(
            f"node_dead_timeout_s {node.node_dead_timeout_s} is not above node_timeout_s "
            f"{node.node_timeout_s}"
        )
    taken: dict[int, str] = {}
    for name, port in vars(node.ports).items():
        if not 0 < port < 65536:
            found.append(f"port {name} is {port}. Fix: 1 to 65535")
        if port in taken:
            found.append(f"port {port} is both {taken[port]} and {name}. Fix: one port each")
        taken[port] = name
    return found


def help_of_start() -> Words:
    """Return what to ask the installed program for its dialect."""
    return ("yr", "start", "--help")


def dialect(help_text: str) -> Dialect:
    """Return how the installed program wants to be spoken to, from its ``yr start --help``.

    The help tells, not the version: 0.7.0 and 9.9.9 speak alike. Raises CommandError if the text is
    of neither; noise around it does not matter.
    """
    toml, flags = bool(SAYS_TOML.search(help_text)), bool(SAYS_FLAGS.search(help_text))
    if toml and not flags:
        return "toml"
    if flags and not toml:
        return "flags"
    said = [line.strip() for line in help_text.splitlines() if line.strip()][-1:]
    raise CommandError(
        f"`yr start --help` is of no known openYuanrong: it says {said[0] if said else ''!r}, and "
        "neither `-s, --set` (0.7.0 and newer) nor `--etcd_addr_list` (0.5.0). Fix: install a "
        "whole set of wheels of one version; for a missing libprotoc.so, "
        "LD_LIBRARY_PATH=<site-packages>/yr"
    )


def guide_words(node: Node) -> Words:
    """Return ``yr start`` exactly as both guides have it (dialect flags)."""
    role = ("--master",) if node.master else ()
    switches = tuple(f"--{name}=true" for name in RUNTIME_SWITCHES)
    etcd = (
        f"--etcd_addr_list={node.master_ip}",
        f"--etcd_port={node.ports.etcd}",
        f"--etcd_peer_port={node.ports.etcd_peer}",
    )
    return ("yr", "start", *role, "-l", node.log_level, *switches, *etcd)


def start(node: Node, dialect: Dialect) -> Words:
    """Return the command that starts a node. Raises CommandError with all that is wrong."""
    wrong = problems(node)
    if dialect == "flags" and not node.functions:
        wrong.append(
            "this openYuanrong speaks flags and cannot leave the function system out. "
            "Fix: mode datasystem, or functions: true"
        )
    if wrong:
        raise CommandError("; ".join(wrong))
    return _start_flags(node) if dialect == "flags" else _start_toml(node)


def status(node: Node, dialect: Dialect) -> Words:
    """Return what asks for the number of agents; in toml it answers on the master only."""
    if dialect == "flags":
        return ("yr", "status", "--etcd_endpoint", node.etcd_endpoint)
    return ("yr", "status", "-f", node.session_file)


def health(node: Node, dialect: Dialect) -> Words | None:
    """Return what asks whether the node's processes live; None where there is no such command."""
    return None if dialect == "flags" else ("yr", "health", "-f", node.session_file)


def stop(node: Node, dialect: Dialect, *, force: bool = False) -> Words:
    """Return what stops a node. In flags it stops every openYuanrong of the host.

    ``force`` also ends processes whose daemon is gone, which a plain stop leaves (toml).
    """
    if dialect == "flags":
        return ("yr", "stop", "--grace_exit_timeout", "0" if force else "40")
    return ("yr", "stop", *(("--force",) if force else ()), "-f", node.session_file)


def members(node: Node, etcdctl: str = "etcdctl") -> Words:
    """Return what asks etcd who belongs to the data system."""
    return (
        etcdctl,
        "--endpoints", f"http://{node.etcd_endpoint}",
        "get", "--prefix", "/datasystem/cluster",
    )  # fmt: skip


def _start_flags(node: Node) -> Words:
    """Return the guides' command, with everything pinned that they leave open.

    ``function_proxy_exec`` has no flag (config.sh's list of options lacks it) and stays 22774.
    """
    ports = node.ports
    pinned: dict[str, object] = {
        "ip_address": node.host_ip,
        "deploy_path": node.deploy_path,
        "shared_memory_num": node.shared_memory_mb,
        "port_policy": "FIX",
        "ds_master_port": ports.ds_master,
        "ds_worker_port": ports.ds_worker,
        "global_scheduler_port": ports.function_master,
        "function_proxy_port": ports.function_proxy,
        "function_proxy_grpc_port": ports.function_proxy_grpc,
        "function_agent_port": ports.function_agent,
        "runtime_init_port": ports.runtime_init,
        "ds_node_timeout_s": node.node_timeout_s,
        "ds_node_dead_timeout_s": node.node_dead_timeout_s,
        "ds_heartbeat_interval_ms": node.heartbeat_interval_ms,
    }
    if not node.master:
        pinned["master_ip"] = node.master_ip
    return (*guide_words(node), *(f"--{name}={value}" for name, value in pinned.items()))


def _start_toml(node: Node) -> Words:
    """Return the command with everything as overrides: no file of the host takes part."""
    ports = node.ports
    address = f'ip="{node.master_ip}",port="{ports.etcd}",peer_port="{ports.etcd_peer}"'
    values = {
        "host_ip": f'"{node.host_ip}"',
        "deploy_path": f'"{node.deploy_path}"',
        "shared_memory_num": str(node.shared_memory_mb),
        "log_level": f'"{node.log_level}"',
        "etcd.address": f"[{{{address}}}]",
        "ds_master.ip": f'"{node.master_ip}"',
        "ds_master.port": f'"{ports.ds_master}"',
        "ds_worker.port": f'"{ports.ds_worker}"',
        "function_master.ip": f'"{node.master_ip}"',
        "function_master.global_scheduler_port": f'"{ports.function_master}"',
        "function_proxy.port": f'"{ports.function_proxy}"',
        "function_proxy.grpc_listen_port": f'"{ports.function_proxy_grpc}"',
        "function_proxy.exec_grpc_port": f'"{ports.function_proxy_exec}"',
        "function_agent.port": f'"{ports.function_agent}"',
    }
    overrides = [f"values.{key}={value}" for key, value in values.items()]
    overrides += [f"function_agent.args.{name}=true" for name in RUNTIME_SWITCHES]
    overrides += [
        f"function_agent.args.runtime_initial_port={ports.runtime_init}",
        f"ds_worker.args.node_timeout_s={node.node_timeout_s}",
        f"ds_worker.args.node_dead_timeout_s={node.node_dead_timeout_s}",
        f"ds_worker.args.heartbeat_interval_ms={node.heartbeat_interval_ms}",
    ]
    if not node.functions:
        mode = "master" if node.master else "agent"
        left_out = ("function_master", "function_proxy", "function_agent")
        overrides += [
            f"mode.{mode}.{name}=false" for name in left_out if node.master or name != left_out[0]
        ]
    role = ("--master",) if node.master else ()
    return ("yr", "start", *role, *(word for line in overrides for word in ("-s", line)))
