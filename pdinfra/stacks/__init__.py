"""How instances are wired: one module for each stack, behind one small interface."""

from __future__ import annotations

from pdinfra.model.inventory import Stack
from pdinfra.stacks.ascendcloud import AscendCloudStack
from pdinfra.stacks.base import StackModule
from pdinfra.stacks.native import NativeStack
from pdinfra.stacks.ray import RayStack
from pdinfra.stacks.yuanrong import YuanrongStack

STACKS: dict[Stack, StackModule] = {
    "native": NativeStack(),
    "yuanrong": YuanrongStack(),
    "ascendcloud": AscendCloudStack(),
    "ray": RayStack(),
}
