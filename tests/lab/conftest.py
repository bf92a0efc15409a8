"""A real lab for the tests: systemd hosts as containers on this machine. No part is simulated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import docker
import pytest

from pdinfra.lab.names import Lab
from pdinfra.lab.status import status
from tests.commands import bringing_up, command, pdinfra
from tests.lab import fleet as tests_fleet
from tests.lab.labs import NAME, OTHER, lab


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    """Wait for Docker and the built images, where another process brings them; or bring them."""
    with bringing_up():
        if shutil.which("docker") and command("docker", "images", "--quiet", "pdinfra/base").out:
            return
        done = pdinfra("up")
        assert done.code == 0, done.text
        pdinfra("down")


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """Yield the machine's Docker."""
    client = docker.from_env(timeout=300)
    yield client
    client.close()


@pytest.fixture(scope="session")
def labs() -> Iterator[None]:
    """Begin without the labs of these tests, and leave none."""
    _remove()
    yield
    _remove()


def _remove() -> None:
    """Take the labs down, and their inventories away: `lab down` leaves those that were edited."""
    for name in (NAME, OTHER):
        lab("down", name=name)
        shutil.rmtree(Lab(name).inventory, ignore_errors=True)


@pytest.fixture
def hosts(labs: None, engine: docker.DockerClient) -> list[dict[str, str]]:
    """Return the hosts of a lab that is up and has no fault, whatever the last test did."""
    seen = status(engine, Lab(NAME))
    if len(seen.hosts) < 2 or not seen.healthy:
        assert lab("up", "--hosts", "2").code == 0
    if any(host.faults for host in seen.hosts):
        assert lab("fault", "off", "--all").code == 0
    found: list[dict[str, str]] = status(engine, Lab(NAME)).document()["hosts"]
    return found


@pytest.fixture(scope="session")
def fleet() -> Iterator[None]:
    """Three hosts of tests.lab.fleet, with simulated NPUs; what one service pulls stays there."""
    # `lab down` leaves an inventory that was edited.
    tests_fleet.lab("down")
    shutil.rmtree(tests_fleet.INVENTORY, ignore_errors=True)
    made = tests_fleet.lab("up", "--hosts", "3", "--npus", "8")
    assert made.code == 0, made.text
    yield
    tests_fleet.lab("down")
    shutil.rmtree(tests_fleet.INVENTORY, ignore_errors=True)
