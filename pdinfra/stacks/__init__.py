"""How instances are wired: one module for each stack, behind one small interface."""

from __future__ import annotations

from pdinfra.model.inventory import Stack
from pdinfra.stacks.base import StackModule
from pdinfra.stacks.later import LaterStack
from pdinfra.stacks.native import NativeStack

STACKS: dict[Stack, StackModule] = {
    "native": NativeStack(),
    "yuanrong": LaterStack("yuanrong"),
    "ascendcloud": LaterStack("ascendcloud"),
    "ray": LaterStack("ray"),
}
