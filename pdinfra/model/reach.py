"""Connections between machines, and what hosts do to try them, as data."""

from __future__ import annotations

from typing import Literal

from pdinfra.model.plan import Frozen

Purpose = Literal["api", "parts", "kv", "etcd", "data", "functions", "ray"]


class Link(Frozen):
    """One connection between two machines that the service makes while it works.

    ``purpose`` is ``api`` (the router asks an engine), ``kv`` (an engine asks another one for its
    KV), ``etcd`` (a worker or a member asks a member), ``data`` (a worker asks another one),
    ``functions`` (nodes of openYuanrong's full mode ask each other) or ``ray`` (nodes of a Ray
    cluster do).
    ``owner`` is the id of what listens.
    """

    source: str
    target: str
    address: str
    port: int
    purpose: Purpose
    owner: str

    @property
    def endpoint(self) -> str:
        """Return ``address:port``, the name that probes use."""
        return f"{self.address}:{self.port}"


class Endpoint(Frozen):
    """An address and TCP port."""

    address: str
    port: int


class Probe(Frozen):
    """What one host does to try its part of the links: listen where nobody does yet, connect."""

    listen: tuple[Endpoint, ...] = ()
    connect: tuple[Endpoint, ...] = ()
