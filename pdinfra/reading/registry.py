"""What the registry module brought → how far a transfer is, and what went wrong, with its fix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pdinfra.model.image_names import registry

MB = 10**6
"""As Docker counts."""
COMPLETE = ("Pull complete", "Already exists", "Pushed", "Layer already exists", "Mounted from")
LOADED = ("Download complete", "Verifying Checksum", "Extracting", *COMPLETE)

ABSENT = re.compile(r"manifest unknown|not found|name unknown|NAME_UNKNOWN|MANIFEST_UNKNOWN", re.I)
HIDDEN = re.compile(r"unauthorized|denied|authentication required|no basic auth", re.I)
"""What registries also answer for a repository that is not there yet, so as not to tell."""

NO_ENGINE = re.compile(r"^\[Errno \d+\]")
"""The engine's socket is not there, refuses, or is not for this user."""

EXPLANATIONS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        NO_ENGINE,
        "no Docker engine answers on this machine",
        "start Docker there, or give the user access (group docker)",
    ),
    (
        re.compile(r"x509|certificate signed by unknown|tls: failed to verify", re.I),
        "the certificate of {registry} is signed by an authority that is not known here",
        "put its CA certificate into /etc/docker/certs.d/{registry}/ca.crt",
    ),
    (
        re.compile(r"server gave HTTP response to HTTPS client", re.I),
        "{registry} speaks plain HTTP",
        'give it a certificate, or name it in "insecure-registries" of /etc/docker/daemon.json',
    ),
    (
        re.compile(r"no such host|server misbehaving|Temporary failure in name", re.I),
        "the name {registry} does not resolve",
        "correct the name or the resolver, set a proxy for Docker, or pull through pd_image_mirror",
    ),
    (
        re.compile(r"connection refused", re.I),
        "nothing listens at {registry}",
        "start the registry, or correct its name and port",
    ),
    (
        re.compile(
            r"timeout|timed out|deadline exceeded|no route to host|unreachable|connection reset"
            r"|unexpected EOF",
            re.I,
        ),
        "{registry} cannot be reached, or not reliably",
        "check route, firewall and proxy, then run again; complete layers are kept",
    ),
    (
        re.compile(r"no space left", re.I),
        "the disk of Docker's data-root is full",
        "free space (`docker system df`), or move the data-root, then run again",
    ),
    (ABSENT, "{registry} has no such image", "correct the name, tag or digest"),
    (
        re.compile(r"toomanyrequests|rate limit", re.I),
        "{registry} refuses more pulls for now",
        "log in there (`docker login`), pull through pd_image_mirror, or wait",
    ),
    (
        HIDDEN,
        "{registry} refuses access: no login, or no such repository",
        "`docker login {registry}` as the user that Ansible works as, or correct the name",
    ),
)
"""Patterns of the engine's own words (20.10 to 28), cause, fix. The first that matches counts."""


class Transfers(BaseModel):
    """A host's transfers. ``line`` says how far the one is that runs, in megabytes."""

    model_config = ConfigDict(frozen=True)

    done: bool
    line: str
    failed: tuple[str, ...]


def transfers(raw: Mapping[str, Any]) -> Transfers:
    """Read the state of a pull or push."""
    images = raw.get("images") or []
    running = [image for image in images if not image["done"] and not image["error"]]
    return Transfers(
        done=bool(raw.get("done")),
        line=_line(running[0]) if running else "",
        failed=tuple(explain(image) for image in images if image["error"]),
    )


def missing(raw: Mapping[str, Any]) -> list[str]:
    """Return which of the images that were asked for the registry does not show."""
    return [image["remote"] for image in raw["images"] if image["error"] and _absent(image)]


def unanswered(raw: Mapping[str, Any]) -> list[str]:
    """Return, explained, the questions that the registry or the engine did not answer."""
    return [explain(i) for i in raw["images"] if i["error"] and not _absent(i)]


def explain(image: Mapping[str, Any]) -> str:
    """Return one line: image, cause, fix. Docker's own words stand at the end."""
    words = " ".join(str(image["error"]).split())
    where = registry(image["remote"])
    for pattern, cause, fix in EXPLANATIONS:
        if pattern.search(words):
            told = f"{cause}. Fix: {fix}".format(registry=where)
            return f"{image['remote']}: {told}. (Docker: {words})"
    return f"{image['remote']}: {words}. Fix: see the log of the Docker engine, then run again."


def _absent(image: Mapping[str, Any]) -> bool:
    """Tell whether the answer means that the image is not there, or not to be seen."""
    words = image["error"]
    return not NO_ENGINE.search(words) and bool(ABSENT.search(words) or HIDDEN.search(words))


def _line(image: Mapping[str, Any]) -> str:
    """Return name, bytes and layers of a transfer that runs."""
    name = image["remote"].partition("@")[0].rpartition("/")[2]
    layers: list[Mapping[str, Any]] = list(image["layers"].values())
    if not layers:
        return f"{name}: asking {registry(image['remote'])}"
    complete = sum(_is(layer, COMPLETE) for layer in layers)
    current, total = sum(map(_current, layers)), sum(layer["total"] for layer in layers)
    # A layer tells its size only when its turn comes.
    more = "+" if any(not layer["total"] and not _is(layer, LOADED) for layer in layers) else ""
    unpacking = not more and any(layer["status"] == "Extracting" for layer in layers)
    moved = f"{current // MB} of {total // MB}{more} MB"
    if unpacking and current == total:
        moved = f"{total // MB} MB fetched, unpacking"
    return f"{name}: {moved}, {complete} of {len(layers)} layers complete"


def _current(layer: Mapping[str, Any]) -> int:
    """Return the bytes of one layer that have arrived. Pushing can count beyond the total."""
    return int(layer["total"] if _is(layer, LOADED) else min(layer["current"], layer["total"]))


def _is(layer: Mapping[str, Any], words: Iterable[str]) -> bool:
    """Tell whether a layer's status is one of these."""
    return str(layer["status"]).startswith(tuple(words))
