"""The service's own certificate authority: made once, by the role certificate, on the controller.

It lives outside of the repository and of every inventory: its key signs what may talk to etcd.
"""

from __future__ import annotations

import os
from pathlib import Path

from pdinfra.model.problems import InvalidInventoryError, Problem
from pdinfra.reading.certificate import fingerprint

CERTIFICATE = "ca.crt"


def folder(service: str) -> Path:
    """Return where the authority of a service is on this machine, whether it is there or not."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "pdinfra" / "pki" / service


def known(service: str) -> str:
    """Return the SHA-256 of the authority's certificate; empty before the first run made one.

    Raises InvalidInventoryError for a file that is no certificate.
    """
    path = folder(service) / CERTIFICATE
    try:
        return fingerprint(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        fix = f"mend it, or move {path.parent} away: then all certificates are made anew"
        cause = " ".join(str(error).split())[:200]
        problem = Problem(host="controller", thing=str(path), cause=cause, fix=fix)
        raise InvalidInventoryError([problem]) from None
