"""Each container runs, and every aspect of it is as planned."""

from __future__ import annotations

import pytest

from pdinfra.hosttests import judge
from pdinfra.hosttests.conftest import Expect
from pdinfra.hosttests.seen import Document, Process, Seen
from pdinfra.model.plan import Container, ListenPort, Model


def test_container_runs(engine: Seen, container: Container, expect: Expect) -> None:
    """It is there, running, and healthy."""
    expect(judge.running(engine.containers.get(container.id)))


def test_container_is_as_planned(
    engine: Seen, inspected: Document, container: Container, aspect: str, expect: Expect
) -> None:
    """Image, command, environment, devices, mounts, privileges, ...: as planned, nothing more."""
    expect(judge.aspect(aspect, inspected, container, engine))


def test_container_can_read_its_model(
    seen: Seen, process: Process, container: Container, model: Model, expect: Expect
) -> None:
    """Its process may read every file of the model."""
    expect(judge.readable(seen.trees.get(model.path, ()), process, model.path))


def test_port_is_its_owner_s_alone(engine: Seen, port: ListenPort, expect: Expect) -> None:
    """The planned container listens, at the planned address, and nobody else."""
    owner = engine.containers.get(port.owner)
    if owner is None or owner["State"]["Status"] != "running":
        pytest.skip(f"{port.owner} does not run (test_container_runs)")
    expect(judge.port(engine, port))
