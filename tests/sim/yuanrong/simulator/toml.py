"""The newer `yr` (wheel openyuanrong 9.9.9): -s KEY=TOML, sessions, and its false greens."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

from . import daemon
from .components import Layout, components
from .installation import Installation
from .network import own_address, same_or_free

NOISE = "WARNING: Ignore register validator for flag: no flag found"
COMMANDS = ("config", "health", "launch", "start", "status", "stop")
FLAGS = {
    "start": {"--master"},
    "stop": {"--force"},
    "health": set[str](),
    "status": set[str](),
}
VALUED = {
    "start": {"-s", "--set", "--master_address"},
    "stop": {"-f", "--file"},
    "health": {"-f", "--file"},
    "status": {"-f", "--file"},
}
HELP = {
    "": """\
Usage: yr [OPTIONS] COMMAND [ARGS]...

  openYuanrong CLI. (pdinfra's SIMULATOR)

Options:
  -c, --config FILE  Path to config.toml.
  -v, --verbose      Enable verbose logging (set log level to DEBUG).
  --version          Show version and exit
  -h, --help         Show this message and exit.

Commands:
  health  Show components health status
  start   Start openYuanrong cluster.
  status  Show system status
  stop    Stop system components""",
    "start": """\
Usage: yr start [OPTIONS]

  Start openYuanrong cluster. (pdinfra's SIMULATOR)

Options:
  -s, --set KEY=VALUE    Override config values from command line (can be
                         specified multiple times). The value must be a valid
                         TOML literal.
  --master               Run in master mode (deploy control-plane components).
  --master_address TEXT  Address of function_master in http(s)://host:port
                         format for service discovery.
  -h, --help             Show this message and exit.""",
}
READY_SECONDS = 120
STOP_SECONDS = 40
log = logging.getLogger("yr.cli")


class UsageError(Exception):
    """Wrong words, refused as click does it."""

    def __init__(self, text: str, command: str = "", *, usage: bool = True) -> None:
        """Take click's message, the command it is about, and whether its usage is shown."""
        super().__init__(text)
        self.command = command
        self.usage = usage


def run(installation: Installation, words: list[str]) -> int:
    """Run one call; return the exit code."""
    for _ in range(2):
        print(NOISE, file=sys.stderr)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s:%(funcName)s:%(lineno)d - "
        "%(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    try:
        return _dispatch(installation, words)
    except UsageError as error:
        path = f"yr {error.command}".strip()
        rest = "[OPTIONS]" if error.command else "[OPTIONS] COMMAND [ARGS]..."
        if error.usage:
            print(f"Usage: {path} {rest}\nTry '{path} -h' for help.\n", file=sys.stderr)
        print(f"Error: {error}", file=sys.stderr)
        return 2


def _dispatch(installation: Installation, words: list[str]) -> int:
    """Find the command and read its options. Raises UsageError."""
    while words and words[0] in ("-v", "--verbose"):
        words = words[1:]
    if not words or words[0] in ("-h", "--help"):
        print(HELP[""])
        return 0
    if words[0] == "--version":
        print(f"yr version: {installation.version}")
        return 0
    command, rest = words[0], words[1:]
    if command.startswith("-"):
        raise UsageError(f"No such option: {command}")
    if command not in FLAGS:
        if command in COMMANDS:
            raise SystemExit(f"pdinfra's simulator has no `yr {command}`")
        raise UsageError(f"No such command '{command}'.")
    if "-h" in rest or "--help" in rest:
        print(HELP.get(command, HELP[""]))
        return 0
    flags, values = _options(command, rest)
    if command == "start":
        return _start(installation, "--master" in flags, values)
    session = _session_file(installation, command, values)
    if command == "health":
        return _health(session)
    if command == "status":
        return _status(session)
    return _stop(session, "--force" in flags)


def _options(command: str, words: list[str]) -> tuple[set[str], list[tuple[str, str]]]:
    """Return switches, and options with their values. Raises UsageError."""
    flags, values, rest = set(), [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in FLAGS[command]:
            flags.add(word)
        elif name in VALUED[command] and name.startswith("--") and equals:
            values.append((name, value))
        elif word in VALUED[command]:
            if not rest:
                raise UsageError(f"Option '{word}' requires an argument.", command, usage=False)
            values.append((word, rest.pop(0)))
        elif word.startswith("-"):
            option = name if name.startswith("--") else word[:2]
            raise UsageError(f"No such option: {option}", command)
        else:
            raise UsageError(f"Got unexpected extra argument ({word})", command)
    return flags, values


def _session_file(installation: Installation, command: str, values: list[tuple[str, str]]) -> Path:
    """Return the session that is meant. Raises UsageError for a named one that is not there."""
    if not values:
        return installation.latest / "session.json"
    path = values[-1][1]
    if not Path(path).exists():
        text = f"Invalid value for '-f' / '--file': File '{path}' does not exist."
        raise UsageError(text, command)
    return Path(path)


def _start(installation: Installation, master: bool, values: list[tuple[str, str]]) -> int:
    """Start a node; believes any session.json that is in its folder."""
    mode = "master" if master else "agent"
    log.info(f"Starting yr in {mode} mode")
    overrides = [value for name, value in values if name in ("-s", "--set")]
    discover = [value for name, value in values if name == "--master_address"]
    if discover:
        found = _discovered(discover[-1])
        if found is None:
            log.error("Failed to get service discovery info from function_master")
            return 1
        overrides += found
    config = tomllib.loads("\n".join(overrides))
    layout = _layout(installation, mode, config, own_address())
    deploy = Path(layout.deploy)
    deploy.mkdir(parents=True, exist_ok=True)
    _point(installation.latest, deploy)
    daemon_process = daemon.launch(installation, _plan(installation, layout), deploy)
    log.info("Waiting for cluster to be ready...")
    end = time.monotonic() + READY_SECONDS
    session = deploy / "session.json"
    while time.monotonic() < end:
        if session.exists():
            _print_started(json.loads(session.read_text()), layout, master)
            return 0
        if daemon_process.poll() is not None:
            log.error("❌ Daemon exited or reported startup failure")
            log.info(f"❕Check {deploy}/logs for details.")
            return 1
        time.sleep(0.1)
    log.error(f"❌ Timeout waiting for system to be ready after {READY_SECONDS}s")
    return 1


def _discovered(address: str) -> list[str] | None:
    """Ask a function_master where everything is."""
    said = _fetch(f"{address}/global-scheduler/masterinfo")
    if said is None:
        return None
    data = json.loads(said)
    ip, port = data["master_address"].split(":")
    etcd_ip, etcd_port = data["meta_store_address"].split(":")
    address = f'ip="{etcd_ip}",peer_port="{etcd_port}",port="{etcd_port}"'
    return [
        f"values.function_master.ip='{ip}'",
        f"values.function_master.global_scheduler_port='{port}'",
        f"values.etcd.address=[{{{address}}}]",
        "ds_worker.args.master_address=''",
    ]


def _layout(installation: Installation, mode: str, config: dict[str, Any], ip: str) -> Layout:
    """Decide what the command line leaves open: what is given is not checked, the rest moves."""
    values = config.get("values", {})
    host = str(values.get("host_ip", ip))

    def port(section: str, key: str, default: int) -> int:
        given = values.get(section, {}).get(key)
        chosen = same_or_free(default) if given is None else int(given)
        if given is None and chosen != default:
            log.info(f"port {default} is occupied, use {chosen} instead")
        return chosen

    etcd = values.get("etcd", {}).get("address", [{}])[0]
    master_ip = str(values.get("ds_master", {}).get("ip", host))
    args = {k: _text(v) for k, v in config.get("ds_worker", {}).get("args", {}).items()}
    worker_master = args.pop("master_address", None)
    switched_off = [name for name, on in config.get("mode", {}).get(mode, {}).items() if not on]
    memory = int(values.get("shared_memory_num", _memory_mb() // 3))
    stamp = time.strftime("%Y%m%d_%H%M%S")
    return Layout(
        mode=mode,
        deploy=str(Path(values.get("deploy_path", f"{installation.sessions}/{stamp}")).absolute()),
        host=host,
        etcd_ip=str(etcd.get("ip", host)),
        etcd_port=int(etcd.get("port") or same_or_free(32379)),
        etcd_peer_port=int(etcd.get("peer_port") or same_or_free(32380)),
        ds_master_ip=master_ip,
        ds_master_port=port("ds_master", "port", 12123),
        ds_worker_port=port("ds_worker", "port", 31501),
        function_master_ip=str(values.get("function_master", {}).get("ip", host)),
        function_master_port=port("function_master", "global_scheduler_port", 22770),
        function_proxy_port=port("function_proxy", "port", 22772),
        function_proxy_grpc_port=port("function_proxy", "grpc_listen_port", 22773),
        function_agent_port=port("function_agent", "port", 58866),
        shared_memory_mb=memory,
        pid=os.getpid(),
        worker_master=worker_master,
        # The real defaults: a dead host is noticed after half an hour.
        worker_args={"node_timeout_s": "1800", "node_dead_timeout_s": "86400"}
        | {"heartbeat_interval_ms": "300000"}
        | args,
        left_out=tuple(switched_off),
    )


def _plan(installation: Installation, layout: Layout) -> dict[str, Any]:
    """Return what the daemon is to run."""
    names, master = layout.names, layout.mode == "master"
    functions = master and "function_master" in names
    join = {
        "function_master.ip": layout.function_master_ip if functions else None,
        "function_master.port": str(layout.function_master_port) if functions else None,
        "etcd.ip": layout.etcd_ip if master else None,
        "etcd.port": str(layout.etcd_port) if master else None,
        "ds_master.port": str(layout.ds_master_port) if master else None,
        "ds_worker.port": str(layout.ds_worker_port),
        "agent.ip": layout.host if "function_agent" in names else None,
    }
    proxy = layout.function_proxy_port if "function_proxy" in names else None
    bus = layout.function_proxy_grpc_port if "function_proxy" in names else None
    info = (
        f"local_ip:{join['agent.ip']},master_ip:{join['function_master.ip']},"
        f"etcd_ip:{layout.etcd_ip},etcd_port:{layout.etcd_port},"
        f"etcd_peer_port:{layout.etcd_peer_port},"
        f"global_scheduler_port:{join['function_master.port']},"
        f"ds_master_port:{layout.ds_master_port},bus-proxy:{proxy},bus:{bus},"
        f"ds-worker:{layout.ds_worker_port},"
    )
    return {
        "dialect": "toml",
        "mode": layout.mode,
        "deploy": layout.deploy,
        "log": "logs",
        "components": [part.dump() for part in components(installation, layout)],
        "join": join,
        "announce": str(installation.master_info) if master else "",
        "info": info,
    }


def _print_started(session: dict[str, Any], layout: Layout, master: bool) -> None:
    """Say that all is well, of whatever session was found."""
    log.info("✅ All components are healthy!")
    log.info(f"{'Component':<20} {'PID':<8} {'Status':<12}")
    for name, row in session["components"].items():
        log.info(f"{name:<20} {row['pid']:<8} {row['status']:<12}")
    if master:
        port = layout.etcd_port
        print(
            "To join an existing cluster, execute the following commands in your shell on worker "
            f'nodes:\n\nyr start -s \'values.etcd.address=[{{ ip = "{layout.etcd_ip}", port = '
            f'"{port}", peer_port = "{layout.etcd_peer_port}" }}]\' '
            f"-s 'values.ds_master.ip=\"{layout.ds_master_ip}\"' "
            f"-s 'values.ds_master.port=\"{layout.ds_master_port}\"'"
        )
    print(f"❕Check logs in {layout.deploy}/logs for details.")


def _health(session: Path) -> int:
    """Look at process ids alone."""
    data = _loaded(session)
    pids = {name: row["pid"] for name, row in data.get("components", {}).items()}
    if not any(_alive(pid) for pid in pids.values()):
        if not data:
            log.error(f"No active session found in {session}.")
        print("System Status: STOPPED")
        return 1
    print("System Status: RUNNING")
    print(f"Started at: {data.get('start_time')}")
    print(f"Session ID: {data.get('session_id')}")
    print("Components:")
    for name, row in data["components"].items():
        state = "RUNNING" if _alive(row["pid"]) else "STOPPED"
        print(f"  {name:<20} {state} (PID: {row['pid']}) (Restart Count: {row['restart_count']})")
    return 0 if all(_alive(pid) for pid in pids.values()) else 1


def _status(session: Path) -> int:
    """Ask function_master; without one, say nothing and succeed."""
    data = _loaded(session)
    if not data:
        log.info("System Status: STOPPED")
        log.info(f"No session file found at {session}")
        return 1
    if data["mode"] != "master":
        log.error("Cluster status is only available in 'master' mode.")
        return 1
    join = data["cluster_info"]["for-join"]
    if not join["function_master.ip"]:
        return 0
    base = f"http://{join['function_master.ip']}:{join['function_master.port']}/global-scheduler"
    print("Cluster Status:")
    topology = _fetch(f"{base}/masterinfo")
    if topology is not None:
        known = json.loads(topology)
        print("  Endpoints:")
        print(f"    function_master: {known['master_address']}")
        print(f"    meta_store: {known['meta_store_address']}")
    count = _fetch(f"{base}/queryagentcount")
    if count is not None:
        print(f"  ReadyAgentsCount: {count}")
    return 0


def _stop(session: Path, force: bool) -> int:
    """Stop the daemon; what it left behind only by force."""
    log.info("Stopping yr system components...")
    data = _loaded(session)
    if not data:
        log.error("Error: No active session found.")
        return 1
    pid = data["cluster_info"]["daemon"]["pid"]
    try:
        os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        log.error(f"Daemon process (PID: {pid}) not found")
    _wait_gone([pid])
    if not force:
        return 0
    pids = [row["pid"] for row in data["components"].values()]
    for each in pids:
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            log.warning(f"Process (PID: {each}) not found")
    _wait_gone(pids)
    session.unlink(missing_ok=True)
    log.info("✅ All components stopped.")
    return 0


def _wait_gone(pids: list[int]) -> None:
    """Wait until processes have ended (the real one looks every 2 seconds)."""
    end = time.monotonic() + STOP_SECONDS
    while any(_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    """Tell whether a process lives. A dead one that nobody waited for counts as gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _loaded(session: Path) -> dict[str, Any]:
    """Read a session; empty where there is none."""
    try:
        data: dict[str, Any] = json.loads(session.read_text())
    except OSError:
        return {}
    return data


def _point(link: Path, target: Path) -> None:
    """Make `latest` this start's folder, whoever else runs."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _fetch(url: str) -> str | None:
    """Ask an HTTP interface; None and a warning if it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return str(answer.read().decode())
    except OSError as error:
        log.warning(f"  Failed to fetch {url}: {error}")
        return None


def _text(value: object) -> str:
    """Return a TOML value as a word of a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _memory_mb() -> int:
    """Return the machine's memory."""
    line = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(line.split()[1]) // 1024
