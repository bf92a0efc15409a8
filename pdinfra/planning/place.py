"""Where each instance goes: ids, devices, ports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pdinfra.model.inventory import Accelerator, Host, InstanceEntry, InstanceSettings, Role
from pdinfra.model.plan import Instance
from pdinfra.model.problems import Problem
from pdinfra.stacks.base import Engine, EngineSettings, StackModule

API_PORT: dict[Role, int] = {"prefill": 8100, "decode": 8200, "mixed": 8300}
KV_PORT: dict[Role, int] = {"prefill": 5600, "decode": 5700, "mixed": 5800}
ASCEND_KV_PORT: dict[Role, int] = {"prefill": 36000, "decode": 36200, "mixed": 36400}
"""AscendDirect takes random ports in 20000-35999 (vllm-ascend v0.23 docs)."""
MASTER_PORT = 29600
"""vLLM's own default is 29501. Below what Linux gives to outgoing connections, as all of ours."""
INTERNAL_PORT = 12000
INTERNAL_PORTS = 8
"""vLLM takes free ports upwards from VLLM_PORT; measured: fewer than 8 for one engine."""

SHM_GIB = {"cpu": 1.0, "nvidia": 16.0, "ascend": 64.0}
"""CPU measured (vLLM dies with Docker's 64 MiB); ascend by the guides; nvidia by experience."""


@dataclass(frozen=True)
class Wanted:
    """One instance of the inventory with its settings by strength (strongest first)."""

    host: Host
    role: Role
    index: int
    on_host: int
    ranks_before: int
    entry: InstanceEntry | None

    def get(self, name: str) -> object:
        """Return a setting: the entry's, else the role's, else the host's; None if unset."""
        layers: list[InstanceSettings | None] = [
            self.entry,
            getattr(self.host.settings, self.role),
            self.host.settings,
        ]
        for layer in layers:
            value = getattr(layer, name, None)
            if value is not None:
                return value
        return None

    def number(self, name: str, default: int) -> int:
        """Return a whole-number setting, or its default."""
        value = self.get(name)
        return value if isinstance(value, int) else default

    @property
    def id(self) -> str:
        """The instance's id; it does not change when other hosts come or go."""
        if self.entry is not None and self.entry.name:
            return self.entry.name
        return f"{self.role}-{host_part(self.host)}-{self.index}"

    @property
    def further(self) -> tuple[str, ...]:
        """The names of the hosts that it goes over besides its own."""
        return tuple(self.entry.hosts or ()) if self.entry is not None else ()

    @property
    def ranks(self) -> int:
        """Workers of the whole instance, one for each card."""
        return self.number("tensor_parallel_size", 1) * self.number("pipeline_parallel_size", 1)

    @property
    def ranks_per_host(self) -> int:
        """Workers on each of its hosts; fewer than there should be where they cannot be split."""
        return self.ranks // (1 + len(self.further))

    @property
    def own_devices(self) -> list[int] | None:
        """Devices given for this instance or its role; the host's pd_devices are a pool."""
        if self.entry is not None and self.entry.devices is not None:
            return self.entry.devices
        role: InstanceSettings = getattr(self.host.settings, self.role)
        return role.devices


def wanted(host: Host) -> list[Wanted]:
    """Return the instances that a host is to have, in order."""
    entries: Sequence[InstanceEntry | None] = host.settings.instances or []
    roles: list[Role] = [entry.role for entry in entries if entry is not None]
    if host.settings.instances is None:
        roles = list(host.roles)
        entries = [None] * len(roles)
    seen: Counter[Role] = Counter()
    ranks: Counter[Role] = Counter()
    result = []
    for on_host, (role, entry) in enumerate(zip(roles, entries, strict=True)):
        want = Wanted(host, role, seen[role], on_host, ranks[role], entry)
        result.append(want)
        seen[role] += 1
        ranks[role] += want.number("tensor_parallel_size", 1)
    return result


@dataclass(frozen=True)
class Placed:
    """A host's own engines, and its cards for instances of other hosts, by their ids."""

    engines: list[Engine]
    lent: dict[str, tuple[int, ...]]


def place(
    host: Host,
    accelerator: Accelerator,
    service: str,
    model_path: str,
    model_name: str,
    stack: StackModule,
    lent: Sequence[Wanted] = (),
) -> tuple[Placed, list[Problem]]:
    """Return a host's engines with devices and ports, and what is wrong with them.

    lent: instances of other hosts that go over this one; its own get their cards first.
    """
    mine = wanted(host)
    devices, problems = _devices(host, [*mine, *lent], accelerator)
    for_others = {want.id: devices[n] for n, want in enumerate(lent, start=len(mine))}
    devices = devices[: len(mine)]
    engines = []
    for want, cards in zip(mine, devices, strict=True):
        per_rank = stack.kv_ports(host.settings, want.role)
        instance = _instance(want, cards, accelerator, service, per_rank)
        if not stack.internal_ports:
            instance = instance.model_copy(update={"internal_port": 0})
        engines.append(
            Engine(
                instance=instance,
                address=host.address,
                settings=engine_settings(want, accelerator),
                accelerator=accelerator,
                model_path=model_path,
                model_name=model_name,
            )
        )
    return Placed(engines, for_others), problems


def _instance(
    want: Wanted, devices: Sequence[int], accelerator: Accelerator, service: str, per_rank: int
) -> Instance:
    """Fill in one instance's identity and ports."""
    port = want.number("port", API_PORT[want.role] + want.index)
    parallel = want.number("tensor_parallel_size", 1)
    bases = ASCEND_KV_PORT if accelerator == "ascend" else KV_PORT
    kv_port = want.number("kv_port", bases[want.role] + want.ranks_before * per_rank)
    return Instance(
        id=want.id,
        role=want.role,
        host=want.host.name,
        url=url(want.host.address, port),
        port=port,
        kv_port=kv_port if per_rank else 0,
        kv_ports=per_rank * parallel,
        internal_port=want.number("internal_port", INTERNAL_PORT + want.on_host * INTERNAL_PORTS),
        devices=tuple(devices),
        tensor_parallel_size=parallel,
        container=f"pd-{service}-{want.id}",
        load_format=str(want.get("load_format") or "auto"),
        pipeline_parallel_size=want.number("pipeline_parallel_size", 1),
        master_port=_master_port(want),
    )


def _master_port(want: Wanted) -> int:
    """Return by which port an instance finds its parts; 0 where it has none, or Ray finds them."""
    if not want.further or want.host.settings.stack == "ray":
        return 0
    return want.number("master_port", MASTER_PORT + want.on_host)


def host_part(host: Host) -> str:
    """Return a host's name as a part of ids."""
    name = host.name.lower()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-")


def ray_node(host: Host) -> str:
    """Return the id of a host's node in a Ray cluster."""
    return f"ray-{host_part(host)}"


def url(address: str, port: int) -> str:
    """Return an http URL."""
    return f"http://{socket(address, port)}"


def socket(address: str, port: int) -> str:
    """Return ``address:port``; IPv6 addresses get their brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def engine_settings(want: Wanted, accelerator: Accelerator) -> EngineSettings:
    """Fill in every setting that has a default of ours."""
    cpu = accelerator == "cpu"

    def pick(name: str, default: object) -> object:
        value = want.get(name)
        return default if value is None else value

    def real(name: str, default: float) -> float:
        value = pick(name, default)
        return float(value) if isinstance(value, int | float) else default

    def optional_int(name: str, default: int | None) -> int | None:
        value = pick(name, default)
        return value if isinstance(value, int) else default

    share = want.get("gpu_memory_utilization")
    quantization = want.get("quantization")
    env: dict[str, str] = {}
    args: list[str] = []
    for layer in (want.host.settings, getattr(want.host.settings, want.role), want.entry):
        env |= (layer.env if layer else None) or {}
        args = args if layer is None or layer.engine_args is None else layer.engine_args
    return EngineSettings(
        dtype=str(pick("dtype", "float32" if cpu else "auto")),
        max_model_len=optional_int("max_model_len", 8192 if cpu else None),
        max_num_seqs=optional_int("max_num_seqs", None),
        max_num_batched_tokens=optional_int("max_num_batched_tokens", None),
        quantization=quantization if isinstance(quantization, str) else None,
        block_size=optional_int("block_size", None),
        gpu_memory_utilization=share if isinstance(share, float) else None,
        kv_cache_gib=want.number("kv_cache_gib", 1),
        threads=want.number("threads", 1),
        memory_gib=real("memory_gib", 0.0),
        shm_gib=real("shm_gib", SHM_GIB[accelerator]),
        load_format=str(pick("load_format", "auto")),
        enforce_eager=bool(pick("enforce_eager", cpu)),
        privileged=bool(pick("privileged", False)),
        env=env,
        engine_args=tuple(args),
    )


def _devices(
    host: Host, mine: Sequence[Wanted], accelerator: Accelerator
) -> tuple[list[tuple[int, ...]], list[Problem]]:
    """Give every instance its cards: those it names, else the next free ones of the host's pool."""
    problems = []
    pool = host.settings.devices
    if accelerator == "cpu":
        if pool or any(want.own_devices for want in mine):
            problems.append(
                Problem(
                    host=host.name,
                    thing="devices",
                    cause="a CPU host has no devices",
                    fix="remove the devices, or set pd_accelerator to nvidia or ascend",
                )
            )
        return [() for _ in mine], problems
    taken = Counter(device for want in mine for device in want.own_devices or [])
    for device, times in taken.items():
        if times > 1:
            users = [want.id for want in mine if device in (want.own_devices or [])]
            problems.append(
                Problem(
                    host=host.name,
                    thing=f"device {device}",
                    cause=f"used {times} times, by {' and '.join(users)}",
                    fix="give each instance devices of its own",
                )
            )
    problems += _pool_problems(host)
    free = [device for device in (pool if pool is not None else range(64)) if device not in taken]
    result: list[tuple[int, ...]] = []
    for want in mine:
        size = want.ranks_per_host
        cards = want.own_devices
        if cards is None:
            cards, free = free[:size], free[size:]
        if len(cards) != size:
            problems.append(_too_few(host, want, len(cards)))
        result.append(tuple(cards))
    return result, problems


def _too_few(host: Host, want: Wanted, has: int) -> Problem:
    """Return that an instance has fewer or more cards on a host than it has workers there."""
    size, tensor = want.ranks_per_host, want.number("tensor_parallel_size", 1)
    cause = f"tensor_parallel_size is {size}, but it has {has} devices"
    fix = f"give it {size} devices, or set tensor_parallel_size to {has or 1}"
    if want.ranks != tensor or want.further:
        count = 1 + len(want.further)
        pipeline = want.number("pipeline_parallel_size", 1)
        cause = (
            f"{tensor} x {pipeline} ranks over {count} host{'s' if count > 1 else ''} take {size} "
            f"devices here, but it has {has}"
        )
        fix = f"give it {size} devices on {host.name}"
    return Problem(host=host.name, thing=want.id, cause=cause, fix=fix)


def _pool_problems(host: Host) -> list[Problem]:
    """Check that the host's pool names no card twice."""
    return [
        Problem(
            host=host.name,
            thing=f"device {device}",
            cause=f"listed {times} times in pd_devices",
            fix="list each device once",
        )
        for device, times in Counter(host.settings.devices or []).items()
        if times > 1
    ]


def shared_device_problems(hosts: Sequence[Host], engines: Sequence[Engine]) -> list[Problem]:
    """Check that two inventory hosts that are one machine do not use one card."""
    addresses = {host.name: host.address for host in hosts}
    users: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for engine in engines:
        for host, name, devices in engine.instance.places:
            for device in devices:
                users.setdefault((addresses[host], device), []).append((host, name))
    return [
        Problem(
            host=mine[-1][0],
            thing=f"device {device}",
            cause=f"used by {mine[0][1]} on {mine[0][0]}, which is the same machine ({address})",
            fix="give each instance devices of its own",
        )
        for (address, device), mine in users.items()
        if len({host for host, _ in mine}) > 1
    ]
