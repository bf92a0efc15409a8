"""A model's tensors: which they are, and their bytes."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import torch
from torch import nn

from pdinfra_vllm.yuanrong_load.manifest import TensorSpec


class UnsuitedError(Exception):
    """The model's weights are not plain memory that a load fills; the message says why."""


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters and persistent buffers, by name, each once.

    Raises UnsuitedError if one of them cannot be read and written as bytes.
    """
    for module in model.modules():
        if getattr(getattr(module, "quant_method", None), "uses_meta_device", False):
            raise UnsuitedError("vLLM quantizes these weights while it loads them")
    found: dict[str, torch.Tensor] = {
        name: parameter.data for name, parameter in model.named_parameters()
    }
    for prefix, module in model.named_modules():
        for leaf, buffer in module._buffers.items():
            if buffer is not None and leaf not in module._non_persistent_buffers_set:
                found[f"{prefix}.{leaf}" if prefix else leaf] = buffer
    for name, tensor in found.items():
        if tensor.is_meta:
            raise UnsuitedError(f"{name} has no memory yet")
        if tensor.layout != torch.strided or not tensor.is_contiguous():
            raise UnsuitedError(f"{name} is not contiguous")
    return found


def specs(tensors: dict[str, torch.Tensor]) -> tuple[TensorSpec, ...]:
    """Return what the tensors are."""
    return tuple(
        TensorSpec(name, tuple(each.shape), str(each.dtype), each.numel() * each.element_size())
        for name, each in tensors.items()
    )


def state(model: nn.Module) -> dict[str, object]:
    """Return what modules have besides parameters and buffers, to compare: values, or who it is.

    Loading some models sets more than tensors, e.g. whether a draft has an embedding of its own.
    """
    return {
        f"{prefix}.{name}": value if isinstance(value, bool | int | float | str) else id(value)
        for prefix, module in model.named_modules()
        for name, value in vars(module).items()
    }


def changed(before: dict[str, object], after: dict[str, object]) -> str | None:
    """Return what to say of the difference of two states, None if there is none."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return f"loading sets more than tensors, e.g. {names[0].lstrip('.')}" if names else None


class TorchMemory:
    """The tensors' bytes. On whatever device they are: torch copies to and from it."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        """Take contiguous tensors."""
        self._flat = [tensor.detach().reshape(-1).view(torch.uint8) for tensor in tensors]

    def write(self, tensor: int, start: int, data: memoryview) -> None:
        """Copy data into a tensor, from a byte on."""
        self._flat[tensor][start : start + data.nbytes].copy_(_seen(data))

    def read(self, tensor: int, start: int, into: memoryview) -> None:
        """Copy a tensor's bytes, from one on, into a buffer and fill it."""
        _seen(into).copy_(self._flat[tensor][start : start + into.nbytes])


class TorchDevice:
    """Tensors of an accelerator."""

    def empty_like(self, tensor: Any) -> Any:
        """Return new memory of the same shape and type. Raises RuntimeError if there is none."""
        return torch.empty_like(tensor)

    def checksum(self, tensor: Any) -> str:
        """Return two sums over the tensor's words: all of them, and every second.

        Made on the device: to bring the bytes to the host for a better one would take
        longer than the transfer. It tells stale, missing and foreign bytes.
        """
        flat = tensor.reshape(-1).view(torch.uint8)
        if flat.numel() % 4 == 0:
            flat = flat.view(torch.int32)
        sums = flat.sum(dtype=torch.int64).item(), flat[::2].sum(dtype=torch.int64).item()
        return hashlib.sha256(repr(sums).encode()).hexdigest()[:32]

    def address(self, tensor: Any) -> int:
        """Return where a tensor's memory begins."""
        return int(tensor.data_ptr())

    def kind(self, tensor: Any) -> str:
        """Return the kind of device: npu, cpu, ..."""
        return str(tensor.device.type)


def _seen(data: memoryview) -> torch.Tensor:
    """Return a tensor on the same memory."""
    with warnings.catch_warnings():
        # A value that was fetched is read-only, and is only read.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(data, dtype=torch.uint8)
