"""By which variables engines are told the network interface between the hosts.

Sources: guide vllm-pd-connectors sets the first two on NVIDIA; the start scripts of vllm-ascend's
disaggregated prefill set the other three on every node. Left alone, libraries take the interface of
the host's own name or the first of the alphabet: loopback or docker0 (vllm-ascend #2399, #5635).
"""

from __future__ import annotations

from pdinfra.model.inventory import Accelerator, Stack

EXACT = ("NCCL_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")
"""NCCL's and HCCL's take what begins with a name, bond0.100 for bond0; ``=bond0`` is that alone.

Source: both libraries' documents of their environment variables. The others are whole names.
"""


def interface_variables(
    stack: Stack, accelerator: Accelerator, *, spans: bool = False
) -> tuple[str, ...]:
    """Return the names of the variables; none where the stack's own start sees to it.

    spans: whether the engine goes over several hosts, which it does by Gloo on CPU, too.
    """
    if accelerator == "nvidia":
        return ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    if accelerator == "ascend" and stack == "native":
        return ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")
    return ("GLOO_SOCKET_IFNAME",) if spans else ()


def interface_value(variable: str, interface: str) -> str:
    """Return a variable's value that means exactly this interface."""
    return f"={interface}" if variable in EXACT else interface
