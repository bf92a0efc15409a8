"""Stack `ascendcloud`: the vendor's bundle, whose instances know each other by rank tables.

Source: guide ascendcloud-ranktable-pd (2025-07-29). Every instance is one container with exactly
its devices; prefill and decode start first, then the scheduler, which is the service's entry. The
rank tables and the variables that name them need the devices' addresses: planning adds both once
the hosts were looked at (planning/finish.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlsplit

from pdinfra.model.inventory import Host, HostSettings, InstanceSettings, Inventory, Role
from pdinfra.model.plan import Instance, Member, Mount, Router
from pdinfra.model.problems import Problem
from pdinfra.ranktable.topology import Card, Server, Topology, place_problems
from pdinfra.stacks.base import ASCEND_CONTROL, Engine, Launch, Peers, finish

USER = "ma-user"
USER_HOME = "/home/ma-user"
MAX_MODEL_LEN = 4096
MAX_NUM_SEQS = 256
"""The guide's values."""
DRIVER = (
    Mount(source="/etc/localtime", target="/etc/localtime"),
    Mount(source="/usr/local/Ascend/driver", target="/usr/local/Ascend/driver"),
    Mount(source="/etc/ascend_install.info", target="/etc/ascend_install.info"),
    Mount(source="/var/log/npu", target="/usr/slog", read_only=False),
    Mount(source="/usr/local/sbin/npu-smi", target="/usr/local/sbin/npu-smi"),
    Mount(source="/sys/fs/cgroup", target="/sys/fs/cgroup"),
)
"""The guide's mounts; npu-smi is mounted from where the host has it."""
DERIVED = ("GLOBAL_RANK_TABLE_FILE_PATH", "RANK_TABLE_FILE_PATH", "NODE_PORTS", "USE_OPENAI")
OF_HOST = (
    "connector",
    "router_policy",
    "router_image",
    "router_metrics_port",
    "router_internal_port",
    "drain_seconds",
)
OF_ENGINE = ("kv_port", "internal_port", "kv_cache_gib", "threads", "load_format")
"""Settings of other stacks, that would change nothing here."""
EVERYWHERE = "0.0.0.0"
"""The guide binds everything to all addresses."""


Ranked = TypeVar("Ranked", Member, Instance)


class AscendCloudStack:
    """Prefill and decode servers of the bundle, and its scheduler."""

    stores = False
    bundled = True
    internal_ports = False
    everywhere: str | None = EVERYWHERE

    def static(self, service: HostSettings) -> bool:
        """Return True."""
        return True

    def convergeable(self, service: HostSettings) -> bool:
        """Return True."""
        return True

    def clustered(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def problems(self, inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
        """Refuse what bundle and tables cannot do, and settings that mean nothing to them."""
        # Where devices are missing altogether, the accelerator is the reason.
        placed = [engine for engine in engines if engine.accelerator == "ascend"]
        return [
            *_problems(inventory),
            *_table_problems(placed, inventory.router),
            *_port_problems(placed),
            *_token_problems(placed),
        ]

    def protocol(self, service: HostSettings) -> str:
        """Return that the scheduler alone knows it."""
        return "ascendcloud"

    def together(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def vllm_router(self, service: HostSettings, roles: Collection[Role]) -> bool:
        """Return False."""
        return False

    def kv_ports(self, service: HostSettings, role: Role) -> int:
        """Return 0: they are the bundle's own."""
        return 0

    def kv_address(self, engine: Engine, service: HostSettings) -> str:
        """Return nothing."""
        return ""

    def engine(self, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
        """Return start_servers.sh for prefill or decode."""
        words = _words(engine, engine.instance.port, EVERYWHERE)
        if engine.instance.role == "prefill" and service.prefill_batching_policy:
            words += [f"--prefill-batching-policy={service.prefill_batching_policy}"]
        return finish(_launch(service, words), engine)

    def router(self, router: Router, host: Host, bind: str, engines: Sequence[Engine]) -> Launch:
        """Return start_servers.sh for the scheduler, with the arguments of the first prefill.

        On a host without engines it needs no driver: the guide's CPU instance.
        """
        service = host.settings
        first = next(engine for engine in engines if engine.instance.role == "prefill")
        words = _words(first, router.port, bind)
        if service.prefill_routing_policy:
            words += [f"--prefill-routing-policy={service.prefill_routing_policy}"]
        base = _launch(service, words)
        hosts = dict.fromkeys(engine.address for engine in engines)
        env = {
            "NODE_PORTS": ",".join(str(urlsplit(m.url).port) for m in table_order(router.members)),
            "USE_OPENAI": "1",
            "no_proxy": ",".join(("localhost", "127.0.0.1", *hosts)),
        }
        model = Mount(source=first.model_path, target=first.model_path)
        return replace(
            base,
            env=env,
            mounts=(model, *(DRIVER if host.roles else ())),
            devices=ASCEND_CONTROL if host.roles else (),
        )


def table_order(members: Sequence[Ranked]) -> list[Ranked]:
    """Return members as the global rank table lists them, and so NODE_PORTS: prefill, decode."""
    return [m for role in ("prefill", "decode") for m in members if m.role == role]


def max_num_batched_tokens(engine: Engine) -> int:
    """Return the most tokens of one step, which must not be below the longest request."""
    return engine.settings.max_num_batched_tokens or max_model_len(engine)


def max_model_len(engine: Engine) -> int:
    """Return the longest prompt plus answer, in tokens."""
    return engine.settings.max_model_len or MAX_MODEL_LEN


def _launch(service: HostSettings, words: Sequence[str]) -> Launch:
    """Return a start of the bundle's script in the user's interactive shell.

    The guide starts it by hand in such a shell: what the image sets up for CANN is in its rc file.
    """
    script = f"{service.llm_tools_path.rstrip('/')}/PD_separate/start_servers.sh"
    return Launch(
        ("bash", "-ic", 'exec sh "$0" "$@"', script, *words),
        driver=DRIVER,
        user=service.container_user or USER,
        health="answers",
    )


def _words(engine: Engine, port: int, bind: str) -> list[str]:
    """Return the arguments that instances and scheduler share, as the guide writes them."""
    settings = engine.settings
    words = [
        f"--model={engine.model_path}",
        f"--tensor-parallel-size={engine.instance.tensor_parallel_size}",
        f"--max-model-len={max_model_len(engine)}",
        f"--max-num-seqs={settings.max_num_seqs or MAX_NUM_SEQS}",
        f"--max-num-batched-tokens={max_num_batched_tokens(engine)}",
        f"--host={bind}",
        f"--port={port}",
        "--served-model-name", engine.model_name,
    ]  # fmt: skip
    more = {
        "quantization": settings.quantization,
        "dtype": None if settings.dtype == "auto" else settings.dtype,
        "block-size": settings.block_size,
        "gpu-memory-utilization": settings.gpu_memory_utilization,
    }
    words += [f"--{name}={value}" for name, value in more.items() if value is not None]
    return words + (["--enforce-eager"] if settings.enforce_eager else [])


def _table_problems(engines: Sequence[Engine], entry: Host) -> Iterator[Problem]:
    """Yield addresses, sizes and names that make a table useless, by the inventory's hosts."""
    if not engines:
        return
    hosts = {entry.address: entry.name, **{e.address: e.instance.host for e in engines}}
    servers = {
        role: tuple(
            Server(e.address, tuple(Card(device, "") for device in e.instance.devices))
            for e in engines
            if e.instance.role == role
        )
        for role in ("prefill", "decode")
    }
    topology = Topology(servers["prefill"], servers["decode"], entry.address)
    for problem in place_problems(topology):
        fix = "set pd_address to the host's IPv4 address in the network between the hosts"
        told = {"host": hosts.get(problem.host, problem.host)}
        if problem.thing == "address":
            told |= {"thing": f"address {problem.host}", "fix": fix}
        yield problem.model_copy(update=told)


def _port_problems(engines: Sequence[Engine]) -> Iterator[Problem]:
    """Yield decode instances on a port of prefill, on whatever host: the guide forbids it."""
    prefill = {e.instance.port: e.instance for e in engines if e.instance.role == "prefill"}
    for engine in engines:
        other = prefill.get(engine.instance.port)
        # On one host the two clash anyway, which is said there.
        if engine.instance.role != "decode" or other is None or other.host == engine.instance.host:
            continue
        yield Problem(
            host=engine.instance.host,
            thing=f"port {other.port}",
            cause=f"decode {engine.instance.id} has the port of prefill {other.id} on {other.host}",
            fix=f"give {engine.instance.id} another port",
        )


def _token_problems(engines: Sequence[Engine]) -> Iterator[Problem]:
    """Yield instances whose steps are smaller than their longest request."""
    for engine in engines:
        most, longest = max_num_batched_tokens(engine), max_model_len(engine)
        if most < longest:
            yield Problem(
                host=engine.instance.host,
                thing=engine.instance.id,
                cause=f"max_num_batched_tokens {most} is below max_model_len {longest}",
                fix=f"set max_num_batched_tokens to {longest} or more",
            )


def _problems(inventory: Inventory) -> Iterator[Problem]:
    """Yield everything that can be told without placing an instance."""
    service, first = inventory.service, inventory.hosts[0].name
    if service.accelerator != "ascend":
        cause = "AscendCloud's instances compute on Ascend devices only"
        yield Problem(
            host=first,
            thing=f"pd_accelerator {service.accelerator}",
            cause=cause,
            fix="set pd_accelerator to ascend, or pd_stack to native",
        )
    entry = inventory.router
    if entry.settings.image is None and not entry.roles:
        yield Problem(
            host=entry.name,
            thing="pd_image",
            cause="missing: the scheduler is started from the instances' image",
            fix="set pd_image to it, name:tag",
        )
    for host in inventory.hosts:
        if "mixed" in host.groups:
            yield Problem(
                host=host.name,
                thing="group mixed",
                cause="AscendCloud's scheduler knows prefill and decode instances only",
                fix="put the host into prefill or decode",
            )
        yield from _useless(host)
        yield from _paths(host)


def _useless(host: Host) -> Iterator[Problem]:
    """Yield settings that are given and would change nothing, or what is derived."""
    own = host.settings
    layers: list[tuple[str, InstanceSettings]] = [
        ("pd_", own), ("pd_prefill.", own.prefill), ("pd_decode.", own.decode),
    ]  # fmt: skip
    layers += [(f"pd_instances[{n}].", entry) for n, entry in enumerate(own.instances or [])]
    for prefix, layer in layers:
        names = OF_ENGINE if layer is not own else (*OF_HOST, *OF_ENGINE)
        for name in names:
            if name in layer.model_fields_set:
                cause = "means nothing to stack ascendcloud"
                thing = f"{prefix}{name}"
                yield Problem(host=host.name, thing=thing, cause=cause, fix="remove it")
        for name in DERIVED:
            if name in (layer.env or {}):
                yield Problem(
                    host=host.name,
                    thing=f"{prefix}env.{name}",
                    cause="pdinfra derives it from the inventory",
                    fix="remove it",
                )


def _paths(host: Host) -> Iterator[Problem]:
    """Yield a model that would be mounted over the home of the image's user."""
    path = host.settings.model_path or ""
    if path == USER_HOME or path.startswith(f"{USER_HOME}/"):
        yield Problem(
            host=host.name,
            thing=f"pd_model_path {path}",
            cause=f"a mount below {USER_HOME} hides what the image has there",
            fix="put the model elsewhere, such as /srv/models",
        )
