"""A world per test."""

from __future__ import annotations

import pytest

from tests.unit.vllm_plugin.fakes import World


@pytest.fixture
def world() -> World:
    return World()
