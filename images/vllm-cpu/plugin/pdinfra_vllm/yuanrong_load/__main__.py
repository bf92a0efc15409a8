"""Published weights, from outside an engine.

    python -m pdinfra_vllm.yuanrong_load renew HOST:PORT SECONDS < keys
    python -m pdinfra_vllm.yuanrong_load forget HOST:PORT NAME...

``renew`` lets keys live on. ``forget`` deletes published weights, by the names that
engines log: the next instance reads from disk again. Exit codes: 0 done, 1 the data
system did not do it, 2 wrong usage, 3 (renew) a key is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from pdinfra_vllm.yuanrong_load import manifest as manifests
from pdinfra_vllm.yuanrong_load import settings as settings_of
from pdinfra_vllm.yuanrong_load.lease import GONE
from pdinfra_vllm.yuanrong_load.manifest import BadManifestError
from pdinfra_vllm.yuanrong_load.names import PREFIX, Names
from pdinfra_vllm.yuanrong_load.store import DataSystem, Store, StoreError


def main(
    words: Sequence[str], lines: Sequence[str] = (), connect: Callable[[str], Store] | None = None
) -> int:
    """Do what the words say; return the exit code. ``lines`` are the keys of renew."""
    try:
        match list(words):
            case ["renew", worker, seconds] if seconds.isdigit():
                return GONE if (connect or _connect)(worker).renew(lines, int(seconds)) else 0
            case ["forget", worker, *names] if names and all(_is_name(name) for name in names):
                store = (connect or _connect)(worker)
                print(f"deleted: {sum(forget(store, Names(name)) for name in names)} keys")
                return 0
    except (StoreError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


def forget(store: Store, names: Names) -> int:
    """Delete one rank's published weights; return how many keys that were. Raises StoreError."""
    found = [key for key in (names.manifest, names.claim) if store.exist([key])[0]]
    value = store.read([names.manifest])[0] if names.manifest in found else None
    if value is not None:
        try:
            chunks = manifests.load(bytes(value.view)).chunks
        except BadManifestError:
            chunks = ()
        found += [key for key in manifests.keys(chunks) if names.own(key)]
    store.delete(found)
    return len(found)


def _is_name(name: str) -> bool:
    return name.startswith(f"{PREFIX}-")


def _connect(worker: str) -> Store:
    settings = settings_of.read({"worker": worker})
    return DataSystem(settings.host, settings.port, settings.connect_ms, settings.request_ms)


if __name__ == "__main__":
    keys = sys.stdin.read().split() if sys.argv[1:2] == ["renew"] else ()
    sys.exit(main(sys.argv[1:], keys))
