"""Devices, mounted files, and what pdinfra itself writes."""

from __future__ import annotations

from pdinfra.hosttests import judge
from pdinfra.hosttests.conftest import Expect
from pdinfra.hosttests.seen import Seen
from pdinfra.model.plan import ManagedFile, Mount


def test_device_exists(seen: Seen, device: str, expect: Expect) -> None:
    """Each planned device is a device node."""
    expect(judge.device(seen, device))


def test_mount_source_exists(seen: Seen, mount: Mount, expect: Expect) -> None:
    """Each mount has something to mount."""
    expect(judge.mount_source(seen, mount))


def test_file_has_its_mode(seen: Seen, file: ManagedFile, expect: Expect) -> None:
    """What pdinfra writes is root's, and nobody else can write to it."""
    expect(judge.managed(seen, file))
