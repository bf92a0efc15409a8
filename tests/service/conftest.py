"""The real service on this machine: real Docker, real vLLM, KV over NIXL. Nothing is simulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands import Result, pdinfra


@pytest.fixture(scope="package")
def first_up() -> Iterator[Result]:
    """Bring the service up from nothing once, for all tests; take it down at the end."""
    pdinfra("down")
    yield pdinfra("up")
    pdinfra("down")


@pytest.fixture
def service(first_up: Result) -> None:
    """Make sure that the service is up and whole before a test, whatever the last one did."""
    assert first_up.code == 0, first_up.text
    result = pdinfra("up")
    assert result.code == 0, result.text
