"""Advice to the kernel: it may be taken or not, and changes no byte."""

from __future__ import annotations

import mmap
import resource

import pytest

from pdinfra_vllm.yuanrong_load import pages

SIZE = 64 * mmap.PAGESIZE


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_populated_memory_is_present_and_keeps_its_content() -> None:
    memory = mmap.mmap(-1, SIZE)
    memory[5:8] = b"abc"
    with memoryview(memory) as view:
        pages.populate(view)
    before = _faults()
    for page in range(0, SIZE, mmap.PAGESIZE):
        memory[page + 9] = 1
    if _faults() - before > 32:
        pytest.skip("this kernel has no MADV_POPULATE_WRITE")
    assert memory[4:9] == b"\0abc\0"


@pytest.mark.parametrize(("start", "size"), [(1, 10), (mmap.PAGESIZE - 1, 2)])
def test_parts_of_pages_are_left_alone(start: int, size: int) -> None:
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    with memoryview(memory) as view, view[start : start + size] as part:
        pages.populate(part)
    assert memory[:] == bytes(2 * mmap.PAGESIZE)
