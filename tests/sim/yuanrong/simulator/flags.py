"""The older `yr` (0.5.0, Go around deploy.sh): flags, random ports, false greens.

Sources: functionsystem's pkg/cli/cmd/{start,status,stop}; deploy/process/config.sh for the flags.
Assumed: that a refused flag or a failed component ends the call at once.
"""

from __future__ import annotations

import getopt
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import daemon
from .components import Layout, components
from .etcd import Etcd
from .functions import COUNT
from .installation import Installation
from .network import own_address, random_free

SHORT = "a:b:c:g:l:m:s:d:o:wn:p:fhe"
LONG = [
    "master",
    "ip_address=",
    "cpu_num=",
    "memory_num=",
    "shared_memory_num=",
    "deploy_path=",
    "master_info_output=",
    "master_info=",
    "services_path=",
    "master_ip=",
    "port_policy=",
    "log_level=",
    "etcd_addr_list=",
    "etcd_ip=",
    "etcd_port=",
    "etcd_peer_port=",
    "ds_master_port=",
    "ds_worker_port=",
    "global_scheduler_port=",
    "function_proxy_port=",
    "function_proxy_grpc_port=",
    "function_agent_port=",
    "runtime_init_port=",
    "ds_node_timeout_s=",
    "ds_node_dead_timeout_s=",
    "ds_heartbeat_interval_ms=",
    "enable_inherit_env=",
    "runtime_direct_connection_enable=",
    "enable_separated_redirect_runtime_std=",
    "disable_nc_check",
    "npu_collection_mode=",
    "custom_resources=",
    "verbose=",
    "block=",
    "help",
]
NAMES = {"a": "ip_address", "c": "cpu_num", "m": "memory_num", "s": "shared_memory_num"} | {
    "d": "deploy_path",
    "o": "master_info_output",
    "p": "services_path",
    "l": "log_level",
}
HELP = """\
General Options:  (pdinfra's SIMULATOR)
     -a, --ip_address                                    node ip address
     -d, --deploy_path                                   it is recommended to use an empty directory
     -s, --shared_memory_num                             data system shared memory (MB)
     --master                                            deploy control plane
     --master_info                                       master info
     --port_policy                                       assign port policy, options: RANDOM, FIX
     --ds_master_port                                    (default 12123)
     --ds_worker_port                                    (default 31501)
     --etcd_addr_list                                    etcd cluster address list
     --etcd_port                                         port used to start etcd
     --etcd_peer_port                                    port used to listen other etcd message"""
ROOT_HELP = """\
used on OpenYuanrong Platform. (pdinfra's SIMULATOR)

Usage:
  yr [command]

Available Commands:
  start       start OpenYuanrong Platform
  status      status OpenYuanrong Platform
  stop        stop OpenYuanrong Platform
  version     version of OpenYuanrong Platform"""
DEFAULTS = {
    "etcd_port": 32379,
    "etcd_peer_port": 32380,
    "ds_master_port": 12123,
    "ds_worker_port": 31501,
    "global_scheduler_port": 22770,
    "function_proxy_port": 22772,
    "function_proxy_grpc_port": 22773,
    "function_agent_port": 58866,
}
CONTROL_PLANE = ("etcd_port", "etcd_peer_port", "ds_master_port", "global_scheduler_port")
READY_SECONDS = 120
HINT = "try 'bash [deploy.sh|yr_master.sh|yr_agent.sh] -h' for more information"


class DeployError(Exception):
    """deploy.sh refuses; the text is what it prints."""


def run(installation: Installation, words: list[str]) -> int:
    """Run one call; return the exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(ROOT_HELP)
        return 0
    command, rest = words[0], words[1:]
    if command not in ("start", "status", "stop", "version"):
        print(f'Error: unknown command "{command}" for "yr"\nRun \'yr --help\' for usage.')
        return 1
    if "-h" in rest or "--help" in rest:
        print(HELP if command == "start" else ROOT_HELP)
        return 0
    if command == "version":
        print(f"yr version: {installation.version}, install path: {installation.root}")
        return 0
    if command == "status":
        return _status(installation, rest)
    if command == "stop":
        return _stop(installation, rest)
    return _start(installation, rest)


def _start(installation: Installation, words: list[str]) -> int:
    """Start a node, also over one that runs."""
    try:
        given = _given(words)
        layout = _layout(installation, given)
    except DeployError as error:
        print(f"{error}\n{HINT}", file=sys.stderr)
        print("Deploy OpenYuanrong failed.", file=sys.stderr)
        return 1
    before = _info(installation)
    deploy = Path(layout.deploy)
    deploy.mkdir(parents=True, exist_ok=True)
    for stale in (deploy / "master.info", deploy / "master_pid_port.txt"):
        stale.unlink(missing_ok=True)
    _point(installation.latest, deploy)
    info = _line(layout)
    plan: dict[str, Any] = {
        "dialect": "flags",
        "mode": layout.mode,
        "deploy": layout.deploy,
        "log": "log",
        "components": [part.dump() for part in components(installation, layout)],
        "join": {},
        "announce": str(installation.master_info),
        "info": info,
    }
    process = daemon.launch(installation, plan, deploy)
    end = time.monotonic() + READY_SECONDS
    while not (deploy / "master.info").exists():
        if process.poll() is not None or time.monotonic() > end:
            log = deploy / "deploy_std.log"
            print(
                f"maybe you can go check the deploy log file {log} for further details",
                file=sys.stderr,
            )
            print("Deploy OpenYuanrong failed.", file=sys.stderr)
            return 1
        time.sleep(0.1)
    if before and "global_scheduler_port" in before:
        print(f"NOTE: dumped yuanrong cluster info at {installation.master_info} is updated.")
        print(
            "There seems an existing yuanrong cluster already running on your node with info:\n"
            f" {before}\nThe new yuanrong proccesses is running now. The old yuanrong cluster "
            "processes will continue running on the background until `yr stop` is called"
        )
    if layout.mode == "master":
        print(f"Yuanrong deployed succeed\nCluster master info:\n    {info}\n\nNext Steps:\n")
        print("  * to check if yuanrong cluster is running normally\n    yr status\n")
        print("  * to stop running yuanrong processes\n    yr stop")
    print("Succeeded to start!")
    return 0


def _given(words: list[str]) -> dict[str, str]:
    """Read the words as config.sh's getopt does. Raises DeployError."""
    try:
        options, _ = getopt.gnu_getopt(words, SHORT, LONG)
    except getopt.GetoptError as error:
        option = f"--{error.opt}" if len(error.opt) > 1 else error.opt
        kind = "unrecognized option" if len(error.opt) > 1 else "invalid option --"
        raise DeployError(f"deploy.sh: {kind} '{option}'") from error
    named = {NAMES.get(name.lstrip("-"), name.lstrip("-")): value for name, value in options}
    memory = named.get("shared_memory_num", "1024")
    if not memory.isdigit() or int(memory) == 0:
        raise DeployError("shared_memory_num should greater than zero, please check your input")
    for name in DEFAULTS:
        if name in named and not (named[name].isdigit() and 0 < int(named[name]) < 65536):
            raise DeployError(f"{name} should in range [1-65535], please check your input")
    if not {"master", "etcd_addr_list", "master_info"} & set(named):
        raise DeployError("none of --master, --etcd_addr_list or --master_info is specified")
    return named


def _layout(installation: Installation, given: dict[str, str]) -> Layout:
    """Decide what the words leave open: ports that nobody pins are random."""
    master = "master" in given
    host = given.get("ip_address") or _first_address()
    known = _pairs(given.get("master_info", ""))
    etcd_ip, *etcd_ports = (given.get("etcd_addr_list") or known.get("etcd_ip", host)).split(":")
    ports = {}
    for name, default in DEFAULTS.items():
        ports[name] = default
        if name in given or name in known:
            ports[name] = int(given.get(name) or known[name])
        elif given.get("port_policy") != "FIX":
            control = name in CONTROL_PLANE
            if control and master:
                ports[name] = random_free(10000, 20000)
            elif not control:
                ports[name] = random_free(20000, 40000)
    for name, port in zip(("etcd_port", "etcd_peer_port"), etcd_ports, strict=False):
        ports[name] = int(port)
    master_ip = given.get("master_ip") or known.get("master_ip") or (host if master else etcd_ip)
    stamp = time.strftime("%Y%m%d%H%M%S")
    worker_args = {
        name.removeprefix("ds_"): given[name]
        for name in ("ds_node_timeout_s", "ds_node_dead_timeout_s", "ds_heartbeat_interval_ms")
        if name in given
    }
    return Layout(
        mode="master" if master else "agent",
        deploy=str(Path(given.get("deploy_path", f"{installation.sessions}/{stamp}")).absolute()),
        host=host,
        etcd_ip=etcd_ip,
        etcd_port=ports["etcd_port"],
        etcd_peer_port=ports["etcd_peer_port"],
        ds_master_ip=master_ip,
        ds_master_port=ports["ds_master_port"],
        ds_worker_port=ports["ds_worker_port"],
        function_master_ip=master_ip,
        function_master_port=ports["global_scheduler_port"],
        function_proxy_port=ports["function_proxy_port"],
        function_proxy_grpc_port=ports["function_proxy_grpc_port"],
        function_agent_port=ports["function_agent_port"],
        shared_memory_mb=int(given.get("shared_memory_num", "1024")),
        pid=os.getpid(),
        # With a list of etcds, workers find their master there.
        worker_master="" if "etcd_addr_list" in given else None,
        worker_args=worker_args,
        log="log",
    )


def _line(layout: Layout) -> str:
    """Return the line of addresses."""
    own = f"local_ip:{layout.host},master_ip:{layout.ds_master_ip},"
    data = (
        f"bus-proxy:{layout.function_proxy_port},bus:{layout.function_proxy_grpc_port},"
        f"ds-worker:{layout.ds_worker_port},"
    )
    etcd = f"etcd_ip:{layout.etcd_ip},etcd_port:{layout.etcd_port},"
    if layout.mode == "agent":
        return own + etcd + data
    return (
        f"{own}{etcd}global_scheduler_port:{layout.function_master_port},"
        f"ds_master_port:{layout.ds_master_port},etcd_peer_port:{layout.etcd_peer_port},{data}"
    )


def _status(installation: Installation, words: list[str]) -> int:
    """Read the number of agents from etcd; a host that runs nothing is no failure."""
    asked = dict(zip(words[::2], words[1::2], strict=False))
    unknown = [word for word in words[::2] if word.partition("=")[0] != "--etcd_endpoint"]
    if unknown:
        kind = "flag" if unknown[0].startswith("--") else "shorthand flag"
        print(f"Error: unknown {kind}: {unknown[0]}", file=sys.stderr)
        return 1
    info = _pairs(_info(installation))
    if not info:
        print("there seems no running yuanrong cluster.")
        print(f"open {installation.master_info}: no such file or directory.")
        return 0
    endpoint = asked.get("--etcd_endpoint") or f"{info['etcd_ip']}:{info['etcd_port']}"
    try:
        found = Etcd(endpoint).get(COUNT)
    except OSError:
        print("Connect to etcd server failed.context deadline exceeded.")
        print("Error: context deadline exceeded", file=sys.stderr)
        return 1
    if COUNT not in found:
        print("Can not find agent count key.")
        print("Error: can not find agent count key", file=sys.stderr)
        return 1
    print(
        "YuanRong is running normally,\nYuanRong cluster addresses:\n"
        f"                     bus: {info['master_ip']}:{info.get('bus', '')}\n"
        f"                  worker: {info['master_ip']}:{info['ds-worker']}\n\n"
        f"YuanRong cluster status:\n  current running agents: {found[COUNT]}"
    )
    return 0


def _stop(installation: Installation, words: list[str]) -> int:
    """Stop every openYuanrong of this installation, however many there are."""
    grace = 5.0
    if words[:1] in (["-g"], ["--grace_exit_timeout"]):
        grace = float(words[1])
    installation.master_info.unlink(missing_ok=True)
    pids = _processes(installation)
    if not pids:
        print("Did not find any active Yuanrong processes.")
        return 0
    print(f"find {len(pids)} Yuanrong processes")
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        end = time.monotonic() + seconds
        while _processes(installation) and time.monotonic() < end:
            time.sleep(0.1)
    print("Yuanrong stop succeed.")
    return 0


def _processes(installation: Installation) -> list[int]:
    """Find processes by the installation's folders in their command lines, daemons first."""
    marks = [f"{installation.root}/{part}/" for part in ("third_party", "datasystem")]
    marks += [f"{installation.root}/functionsystem/", f"{installation.root}/simulator.json daemon"]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(mark in line for mark in marks) and int(folder.name) != os.getpid():
            found.append((" daemon " not in line, int(folder.name)))
    return [pid for _, pid in sorted(found)]


def _info(installation: Installation) -> str:
    """Return the line of addresses that is known; empty without one."""
    try:
        return installation.master_info.read_text().strip()
    except OSError:
        return ""


def _pairs(line: str) -> dict[str, str]:
    """Read a line of addresses."""
    return dict(part.split(":", 1) for part in line.split(",") if ":" in part)


def _first_address() -> str:
    """Return some address of this host."""
    try:
        return own_address()
    except OSError:
        return "127.0.0.1"


def _point(link: Path, target: Path) -> None:
    """Make `latest` this start's folder."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
