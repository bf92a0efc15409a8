"""nvidia-smi's answers → facts. The texts have the form of the real tool's output."""

from __future__ import annotations

from typing import Any

from pdinfra.reading.nvidia import nvidia_fact

GIB = 1024**3
TWO_A100 = """\
0, NVIDIA A100-SXM4-80GB, 535.183.01, 81920, 4, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77
1, NVIDIA A100-SXM4-80GB, 535.183.01, 81920, 40960, GPU-c6d4eb7e-1bb2-58f7-9b1b-2f3ef4a2ad91
"""
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n\n"
)


def raw(rc: int | None = 0, out: str = TWO_A100, err: str = "", **more: Any) -> dict[str, Any]:
    return {"smi": {"rc": rc, "stdout": out, "stderr": err}, "toolkit": None, **more}


def test_gpus_are_read_with_memory_in_bytes() -> None:
    fact = nvidia_fact(raw(toolkit="/usr/bin/nvidia-container-runtime"))
    assert fact.error is None
    assert fact.toolkit
    assert [gpu.index for gpu in fact.gpus] == [0, 1]
    second = fact.gpu(1)
    assert second is not None
    assert second.name == "NVIDIA A100-SXM4-80GB"
    assert second.driver == "535.183.01"
    assert (second.memory_total, second.memory_used) == (80 * GIB, 40 * GIB)
    assert fact.gpu(2) is None


def test_driver_that_does_not_answer_is_told_in_its_own_words() -> None:
    fact = nvidia_fact(raw(9, NO_DRIVER))
    assert fact.gpus == ()
    assert fact.error is not None
    assert fact.error.startswith("NVIDIA-SMI has failed because it couldn't communicate")
    assert fact.error.endswith("(exit code 9)")


def test_host_without_nvidia_smi() -> None:
    fact = nvidia_fact(raw(None, "", "nvidia-smi: command not found"))
    assert fact.error == "nvidia-smi: command not found"
    assert not fact.toolkit


def test_driver_without_a_gpu_is_no_host_with_gpus() -> None:
    fact = nvidia_fact(raw(0, "No devices were found\n"))
    assert fact.error == "nvidia-smi lists no GPU (No devices were found)"


def test_memory_that_the_gpu_shares_with_the_host_has_no_number() -> None:
    shared = "0, NVIDIA GB10, 580.95.05, [N/A], [N/A], GPU-1\n"
    fact = nvidia_fact(raw(0, shared))
    assert fact.error is None
    assert fact.gpus[0].memory_total == 0
