"""Device nodes: null devices under the names of the real ones."""

from __future__ import annotations

import os
import re
import stat

from .host import Host
from .state import State

SHARED = ("davinci_manager", "devmm_svm", "hisi_hdc")
NULL = os.makedev(1, 3)


def make_nodes(host: Host, state: State) -> None:
    """Make the nodes equal to the state: those that a fault took away are removed."""
    folder = host.path("/dev")
    folder.mkdir(exist_ok=True)
    wanted = {
        f"davinci{device}"
        for device in range(state.devices)
        if not state.on("missing-node", device) and not state.on("no-card")
    }
    for path in folder.iterdir():
        if re.fullmatch(r"davinci\d+", path.name) and path.name not in wanted:
            path.unlink()
    for name in sorted(wanted | set(SHARED)):
        path = folder / name
        if path.exists():
            continue
        if host.real:
            os.mknod(path, 0o660 | stat.S_IFCHR, NULL)
            path.chmod(0o666)
        else:
            path.touch()


def holders(host: Host) -> list[int]:
    """Return the processes that have a chip's node open."""
    found = []
    for process in host.path("/proc").glob("[0-9]*"):
        try:
            targets = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(re.fullmatch(r"/dev/davinci\d+", target) for target in targets):
            found.append(int(process.name))
    return sorted(found)
