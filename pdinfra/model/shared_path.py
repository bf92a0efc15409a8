"""Proving that a folder is the same one on several hosts, as data."""

from __future__ import annotations

from pdinfra.model.plan import Frozen


class SharedProbe(Frozen):
    """What one host does: it writes a file as user ``uid``, and reads those of ``hosts``.

    ``own``: the folder is pdinfra's, and made by `up`.
    """

    folder: str
    uid: int
    hosts: tuple[str, ...]
    own: bool


class Written(Frozen):
    """What came of writing. Sizes in bytes, of the file system that has the folder.

    ``there``: the folder is. ``error`` says why nothing could be written, ``mount`` where the file
    system is mounted, ``kind`` what it is, as in /proc/self/mountinfo.
    """

    there: bool
    error: str = ""
    mount: str = "/"
    kind: str = ""
    free: int = 0
    size: int = 0


ABSENT = "not there"
"""What a host says of a file that it does not see; anything else is why it could not read it."""
