"""The real service on this machine: real Docker, real vLLM, KV over NIXL. Nothing is simulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands import Result, bringing_up, containers, identities, pdinfra


@pytest.fixture(scope="package")
def first_up() -> Iterator[Result]:
    """Bring the service up from nothing once, for all tests; take it down at the end."""
    with bringing_up():
        pdinfra("down")
        done = pdinfra("up")
    yield done
    pdinfra("down")


@pytest.fixture(scope="package")
def mended() -> dict[str, tuple[str, str]]:
    """The containers as the last `up` of a fixture left them; empty before the first."""
    return {}


@pytest.fixture
def service(first_up: Result, mended: dict[str, tuple[str, str]]) -> None:
    """Make sure that the service is up and whole before a test, whatever the last one did."""
    assert first_up.code == 0, first_up.text
    well = all(
        each["State"].get("Health", {}).get("Status") == "healthy" for each in containers().values()
    )
    if mended and well and identities() == mended:
        return
    result = pdinfra("up")
    assert result.code == 0, result.text
    mended.clear()
    mended.update(identities())
