"""SIMULATOR of a model hub (Hugging Face's and ModelScope's HTTP APIs), with faults."""

from tests.sim.hub.server import Faults, Hub

__all__ = ["Faults", "Hub"]
