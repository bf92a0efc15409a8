"""The shared folder: what is in it, and how it gets there and goes in one piece.

    <root>/<engine>/<prompt>/<rank>/<layer>.safetensors

``engine`` is the fingerprint of model, types and layout, so that engines which
cannot share KV never see each other's. A rank's folder is written under another
name and renamed when it is whole: what has its name is complete, whoever was
killed while writing, and of two who write the same one wins.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Both are never part of a rank's name.
_PARTIAL = ".partial"
_GONE = ".gone"
# Nobody writes one prompt for so long, seconds.
_ABANDONED_S = 600.0


class Folders:
    """The prompts of one engine in the shared folder."""

    def __init__(self, root: Path, engine: str, ranks: Sequence[str]) -> None:
        """``ranks`` are the names of all parts that a prompt's KV has, one per worker."""
        self._engine = root / engine
        self._ranks = tuple(ranks)
        self._numbers = itertools.count()
        # Containers have process ids of their own, hosts names of their own.
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"

    def holds(self, prompt: str) -> bool:
        """Tell whether all ranks have stored a prompt's KV."""
        return all(self.part(prompt, rank).is_dir() for rank in self._ranks)

    def part(self, prompt: str, rank: str) -> Path:
        """Return the folder with one rank's part of a prompt's KV."""
        return self._engine / prompt / rank

    def store(self, prompt: str, rank: str, write: Callable[[Path], None]) -> bool:
        """Return whether the part that ``write`` puts into a folder is the one that is kept.

        Raises:
            OSError: The folder cannot be written; nothing of the part is left but, where not
                even that works, a partial folder for :meth:`clean`.
        """
        final = self.part(prompt, rank)
        if final.is_dir():
            return False
        partial = self._aside(final, _PARTIAL)
        partial.mkdir(parents=True)
        try:
            write(partial)
            partial.rename(final)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and final.is_dir():
                return False
            raise
        return True

    def discard(self, prompt: str) -> None:
        """Take a prompt away, as far as that is possible: it could not be read."""
        for rank in self._ranks:
            final = self.part(prompt, rank)
            gone = self._aside(final, _GONE)
            with contextlib.suppress(OSError):
                final.rename(gone)
                shutil.rmtree(gone)

    def clean(self, most_bytes: int) -> int:
        """Take the oldest prompts away until at most ``most_bytes`` are left; return how many.

        Remains of writers that were killed go as well. Several engines may clean at once.
        """
        self._sweep()
        prompts = sorted(self._prompts())
        total = sum(size for _, size, _ in prompts)
        taken = 0
        for _, size, prompt in prompts:
            if total <= most_bytes:
                break
            self.discard(prompt)
            with contextlib.suppress(OSError):
                (self._engine / prompt).rmdir()
            total -= size
            taken += 1
        return taken

    def _prompts(self) -> Iterator[tuple[float, int, str]]:
        """Yield when each prompt was stored, its size in bytes and its name."""
        for prompt in self._engine.glob("*"):
            with contextlib.suppress(OSError):
                stored = [rank.stat().st_mtime for rank in prompt.iterdir()]
                size = sum(file.stat().st_size for file in prompt.glob("*/*"))
                if stored:
                    yield max(stored), size, prompt.name

    def _sweep(self) -> None:
        """Remove what writers and removers left that did not come to their end."""
        now = time.time()
        for suffix in (_PARTIAL, _GONE):
            for remains in self._engine.glob(f"*/*{suffix}"):
                with contextlib.suppress(OSError):
                    if now - remains.stat().st_mtime > _ABANDONED_S:
                        shutil.rmtree(remains)
                        remains.parent.rmdir()

    def _aside(self, final: Path, suffix: str) -> Path:
        """Return a name next to the final one that nobody else has."""
        return final.with_name(f"{final.name}.{self._writer}-{next(self._numbers)}{suffix}")
