"""Image names as Docker reads them: registry, repository, tag."""

from __future__ import annotations

DOCKER_HUB = "docker.io"


def canonical(ref: str) -> str:
    """Return a name with its registry: ``nginx:1`` is ``docker.io/library/nginx:1``."""
    if registry(ref) != DOCKER_HUB:
        return ref
    path = ref.removeprefix(f"{DOCKER_HUB}/")
    return f"{DOCKER_HUB}/{path if '/' in path else f'library/{path}'}"


def registry(ref: str) -> str:
    """Return the registry's host. What comes before the first slash is one if it looks like one.

    Source: the reference grammar of distribution/reference (a dot, a colon, or ``localhost``).
    """
    first, slash, _ = ref.partition("/")
    looks_so = "." in first or ":" in first or first == "localhost"
    return first if slash and looks_so else DOCKER_HUB


def repository(ref: str) -> str:
    """Return a name without its tag."""
    head, colon, tag = ref.rpartition(":")
    return head if colon and "/" not in tag else ref
