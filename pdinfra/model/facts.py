"""Facts: what one host looks like now, as data, read from what the facts module collected."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pdinfra.model.plan import ContainerSpec, Image, Member


class Fact(BaseModel):
    """Base of all facts: immutable."""

    model_config = ConfigDict(frozen=True)


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


class ModelFact(Fact):
    """A model directory as it is. ``heads`` and ``kv_heads`` are 0 when config.json is unusable."""

    path: str
    error: str | None = None
    missing: tuple[str, ...] = ()
    heads: int = 0
    kv_heads: int = 0
    weight_bytes: int = 0

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
    """The Docker engine. ``state`` says why it cannot be used, if it cannot."""

    state: Literal["running", "absent", "stopped", "denied"]
    detail: str = ""
    version: str = ""
    root: str = ""


class HostFacts(Fact):
    """One host now. Sizes in bytes, clock in seconds since the epoch."""

    host: str
    hostname: str
    os: str
    clock: float
    memory_total: int
    memory_available: int
    disk_free: dict[str, int]
    docker: DockerFact
    images: dict[str, str]
    containers: tuple[ContainerFact, ...]
    models: tuple[ModelFact, ...]
    listening: tuple[PortFact, ...]
    members: tuple[Member, ...] | None = Field(
        None, description="Who gets requests from the router; None if no router answers here."
    )

    def container(self, container_id: str) -> ContainerFact | None:
        """Return the container with this plan id, if there is one."""
        return next((c for c in self.containers if c.id == container_id), None)

    def has_image(self, image: Image) -> bool:
        """Tell whether the host has an image by its name and, if one is asked for, its digest."""
        # Docker leaves the name of its own registry out.
        name = image.ref.removeprefix("docker.io/").removeprefix("library/")
        if name not in self.images:
            return False
        if image.digest is None:
            return True
        repository, _, tag = name.rpartition(":")
        pinned = f"{repository if '/' not in tag else name}@{image.digest}"
        return self.images.get(pinned) == self.images[name]

    def model(self, path: str) -> ModelFact | None:
        """Return what was seen of one model directory."""
        return next((m for m in self.models if m.path == path), None)
