"""Memory that nobody has touched yet, got ready faster than one small page at a time.

A copy into fresh memory waits for the kernel more than for the copy: measured for 1.3 GB on two
cores of a virtual machine, 0.2 s to copy and 1 to 5 s for the pages. All of this is advice; a
kernel that does not take it (MADV_POPULATE_WRITE: before 5.14) only is slower.
"""

from __future__ import annotations

import ctypes
import mmap

MADV_HUGEPAGE = 14
MADV_POPULATE_WRITE = 23

_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def huge(address: int, size: int) -> None:
    """Let untouched memory come in huge pages."""
    _advise(address, size, MADV_HUGEPAGE)


def populate(view: memoryview) -> None:
    """Make all pages of writable memory present; its content stays. Other threads go on."""
    first = ctypes.c_char.from_buffer(view)
    _advise(ctypes.addressof(first), view.nbytes, MADV_POPULATE_WRITE)


def _advise(address: int, size: int, advice: int) -> None:
    """Advise on the whole pages of a range."""
    page = mmap.PAGESIZE
    start = -(-address // page) * page
    length = (address + size) // page * page - start
    if length > 0:
        _libc.madvise(start, length, advice)
