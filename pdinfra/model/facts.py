"""Facts: what one host looks like now, as data, read from what the facts module collected."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import Field

from pdinfra.model.ascend import AscendFacts
from pdinfra.model.fact import Fact
from pdinfra.model.plan import ContainerSpec, Identity, Image, Member, Model

RENEW_DAYS = 30
"""Before a certificate ends: a run once a month keeps it valid."""


class ContainerFact(Fact):
    """One container of the service as it is. ``spec`` is read back from Docker's inspect."""

    name: str
    container_id: str
    started_at: str
    service: str
    id: str
    role: str
    spec_digest: str
    state: str
    health: Literal["healthy", "unhealthy", "starting", "none"]
    exit_code: int
    restarts: int
    image_id: str
    spec: ContainerSpec
    last_log: tuple[str, ...] = ()


class ManifestFact(Fact):
    """What a finished delivery wrote beside the weights.

    ``digest`` (16 hex digits) is over the names and checksums of all files: equal digests are equal
    models. ``wrong`` names the files that are no longer there or have another size.
    """

    repo: str
    revision: str
    digest: str
    wrong: tuple[str, ...] = ()


class Shape(Fact):
    """What config.json says of the language model; 0 or empty where it does not.

    Each layer keeps, of every token, ``head_dim`` numbers twice for each KV head, or ``latent``
    numbers once (MLA); both are 0 where layers differ in that. ``positions`` is the longest text
    in tokens, ``dtype`` that of the files, such as bfloat16, if they are not ``quantized``.
    """

    layers: int = 0
    head_dim: int = 0
    latent: int = 0
    positions: int = 0
    dtype: str = ""
    quantized: bool = False


class ModelFact(Fact):
    """A model directory as it is. ``heads`` and ``kv_heads`` are 0 when config.json is unusable.

    ``weight_bytes`` are of the files that vLLM loads; ``files`` are the sizes, in bytes, of what an
    engine reads, by name.
    """

    path: str
    error: str | None = None
    missing: tuple[str, ...] = ()
    heads: int = 0
    kv_heads: int = 0
    weight_bytes: int = 0
    shape: Shape = Shape()
    files: dict[str, int] = Field({})
    manifest: ManifestFact | None = None

    def splits_over(self, ranks: int) -> bool:
        """Tell whether the heads can be split (vLLM copies KV heads if there are more ranks)."""
        if not self.heads:
            return True
        even = self.kv_heads % ranks == 0 or ranks % self.kv_heads == 0
        return self.heads % ranks == 0 and even


class PortFact(Fact):
    """A TCP port that something listens on, with its process and container id where seen."""

    port: int
    address: str
    process: str | None = None
    container: str | None = None


class DockerFact(Fact):
    """The Docker engine. ``state`` says why it cannot be used, if it cannot.

    ``at_boot``: systemd was told to start it at boot.
    """

    state: Literal["running", "absent", "stopped", "denied"]
    detail: str = ""
    version: str = ""
    root: str = ""
    at_boot: bool = False
    runtimes: tuple[str, ...] = ()


class GpuFact(Fact):
    """One NVIDIA GPU as nvidia-smi lists it. Memory in bytes; ``driver`` is the host's version."""

    index: int
    name: str
    driver: str
    memory_total: int
    memory_used: int
    uuid: str


class NvidiaFact(Fact):
    """What an NVIDIA host has. ``error`` says why nvidia-smi listed nothing.

    ``toolkit`` tells whether NVIDIA's container toolkit is installed; whether Docker knows its
    runtime is the engine's fact (``DockerFact.runtimes``).
    """

    error: str | None = None
    gpus: tuple[GpuFact, ...] = ()
    toolkit: bool = False

    def gpu(self, index: int) -> GpuFact | None:
        """Return the GPU with this index, if there is one."""
        return next((gpu for gpu in self.gpus if gpu.index == index), None)


class ProxyFact(Fact):
    """A proxy that is set somewhere on the host; ``where`` is that place in words."""

    where: str
    url: str
    no_proxy: tuple[str, ...] = ()


class NetworkFact(Fact):
    """A host's names, addresses and what the kernel does with ports.

    ``resolved`` has the addresses of each name that was asked for: empty where there are none, or
    no answer came. ``ephemeral`` are the first and last port for outgoing connections, ``reserved``
    those that the kernel leaves alone, ``kept_reserved`` those that pdinfra wrote down for the next
    boot. ``daemons`` are names as in /proc/PID/comm.
    """

    resolved: dict[str, tuple[str, ...]] = Field({})
    hosts_file: str = ""
    addresses: dict[str, str] = Field({}, description="Interface by address.")
    default_route: str = Field("", description="Interface of the default route, empty without one.")
    proxies: tuple[ProxyFact, ...] = ()
    ephemeral: tuple[int, int] = (32768, 60999)
    reserved: frozenset[int] = frozenset()
    kept_reserved: frozenset[int] = frozenset()
    daemons: tuple[str, ...] = ()
    ufw: bool = False
    in_container: bool = False

    def interface(self, address: str) -> str:
        """Return the interface that has an address, or what a name leads to; empty: none has it."""
        every = (address, *self.resolved.get(address, ()))
        return next((self.addresses[own] for own in every if own in self.addresses), "")

    @property
    def keeps_time(self) -> bool:
        """Tell whether something sets the clock: a daemon here, or the machine this runs on."""
        return self.in_container or bool(set(self.daemons) - {"firewalld"})


class DriverFact(Fact):
    """Versions of an accelerator's driver and firmware on disk; empty where there is none.

    ``reboot``: what is installed and comes into force with the next reboot, as left by the role.
    """

    driver: str = ""
    firmware: str = ""
    reboot: str = ""


class CertificateFact(Fact):
    """A certificate: its SHA-256, when it ends (seconds since the epoch), whom it is for."""

    sha256: str
    expires: float
    addresses: tuple[str, ...] = ()


class TextFact(Fact):
    """A small file as it is; ``changed`` in seconds since the epoch."""

    text: str
    mode: int
    uid: int
    gid: int
    changed: float


class ReplicaFact(Fact):
    """One replica that Ray Serve has: where it is, and Ray's word for its state."""

    id: str
    deployment: str
    address: str
    state: str
    pid: int = 0


class ServeFact(Fact):
    """What Ray Serve has: its applications' states and messages by name, and all replicas."""

    statuses: dict[str, str]
    messages: dict[str, str]
    replicas: tuple[ReplicaFact, ...]


class HostFacts(Fact):
    """One host now. Sizes in bytes, clock in seconds since the epoch.

    ``asked_at`` is the controller's clock when it asked (0: unknown). ``files`` are those of the
    files asked for that are there.
    """

    host: str
    hostname: str
    os: str
    clock: float
    asked_at: float = 0.0
    memory_total: int
    memory_available: int
    disk_free: dict[str, int]
    inodes_free: dict[str, int] = Field({})
    files: frozenset[str] = frozenset()
    docker: DockerFact
    images: dict[str, str]
    containers: tuple[ContainerFact, ...]
    models: tuple[ModelFact, ...]
    listening: tuple[PortFact, ...]
    network: NetworkFact = NetworkFact()
    ascend: AscendFacts | None = None
    members: tuple[Member, ...] | None = Field(
        None, description="Who gets requests from the router; None if no router answers here."
    )
    serve: ServeFact | None = Field(
        None, description="What Ray Serve has; None if no head answers here."
    )
    nvidia: NvidiaFact | None = None
    driver: DriverFact = DriverFact()
    certificates: dict[str, CertificateFact] = Field({}, description="By path.")
    notes: dict[str, str] = Field({}, description="By path: small files, without ends of lines.")
    rank_tables: dict[str, TextFact] = Field({}, description="By path, in folders of digests.")

    def age(self, container_id: str) -> float | None:
        """Return for how many seconds a container has run, by this host's own clock; None: not."""
        found = self.container(container_id)
        if found is None or found.state != "running" or not found.started_at:
            return None
        # Docker writes nanoseconds, which are too many for Python.
        whole = found.started_at.partition(".")[0].removesuffix("Z")
        return self.clock - datetime.fromisoformat(f"{whole}+00:00").timestamp()

    def container(self, container_id: str) -> ContainerFact | None:
        """Return the container with this plan id, if there is one."""
        return next((c for c in self.containers if c.id == container_id), None)

    def has_image(self, image: Image) -> bool:
        """Tell whether the host has an image by its name and, if one is asked for, its digest."""
        found = self.images.get(_local_name(image.ref))
        if found is None or image.digest is None:
            return found is not None
        # A digest is of the content: a mirror's name in front of it says the same.
        pins = (name for name, owner in self.images.items() if owner == found)
        return any(name.endswith(f"@{image.digest}") for name in pins)

    def image_id(self, ref: str) -> str | None:
        """Return the id of an image by its name, if it is there."""
        return self.images.get(_local_name(ref))

    def model(self, path: str) -> ModelFact | None:
        """Return what was seen of one model directory."""
        return next((m for m in self.models if m.path == path), None)

    def whole_model(self, models: Iterable[Model]) -> ModelFact | None:
        """Return the first of these models that is there as planned, with nothing missing."""
        for model in models:
            fact = self.model(model.path)
            if fact and not fact.error and not fact.missing and not self.model_gap(model):
                return fact
        return None

    def model_gap(self, model: Model) -> str | None:
        """Return why a model that `up` brings is not there as planned; None if it is."""
        fact = self.model(model.path)
        if model.source == "directory":
            return None
        if fact is None or fact.error:
            return "not on the host"
        if model.source == "tiny":
            return "not on the host" if fact.missing else None
        manifest = fact.manifest
        if manifest is None:
            return "not known to be whole (no manifest)"
        if (manifest.repo, manifest.revision) != (model.repo, model.revision):
            return f"another model is there ({manifest.repo} at {manifest.revision[:12] or '?'})"
        if manifest.wrong:
            return f"damaged ({', '.join(manifest.wrong)})"
        return None

    def certificate_gap(self, identity: Identity, authority: str) -> str | None:
        """Return why a certificate is to be made anew; None if it is good for another month.

        authority: SHA-256 of the authority's certificate, as the controller has it.
        """
        signer = self.certificates.get(f"{identity.folder}/ca.crt")
        own = self.certificates.get(f"{identity.folder}/node.crt")
        if signer is None or own is None:
            return "no certificate on the host"
        if signer.sha256 != authority:
            return "it is of another authority than the controller's"
        for name in (identity.address, identity.name):
            if name not in own.addresses:
                return f"it is for {' and '.join(own.addresses)}, not for {name}"
        if own.expires < self.clock:
            return "it has ended"
        days = int(own.expires - self.clock) // 86400
        return f"it ends in {days} days" if days < RENEW_DAYS else None


def _local_name(ref: str) -> str:
    """Return an image's name as Docker lists it: without the name of its own registry."""
    return ref.removeprefix("docker.io/").removeprefix("library/")
