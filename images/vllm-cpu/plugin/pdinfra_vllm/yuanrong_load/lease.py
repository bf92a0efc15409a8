"""Keep published weights for as long as an instance runs that uses them.

In processes of their own: every call of the data system's client (0.8.1) holds Python's
global lock until it is answered, and an engine must not stand still for that.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from pdinfra_vllm.yuanrong_load.settings import Settings

MODULE = "pdinfra_vllm.yuanrong_load"
GONE = 3
"""Exit code of ``renew`` when something is not there any more."""
LONGEST_S = 60

_logger = logging.getLogger("vllm.pdinfra")


def keep(
    settings: Settings,
    keys: Sequence[str],
    renew: Callable[[Settings, Sequence[str]], bool] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Renew the lease until the process ends or a key is gone."""
    while (renew or renewed)(settings, keys):
        pause(settings.lease_s / 3)


def renewed(settings: Settings, keys: Sequence[str]) -> bool:
    """Renew once, in a process; return False if a key is gone."""
    words = [sys.executable, "-m", MODULE, "renew", settings.worker, str(settings.lease_s)]
    try:
        done = subprocess.run(
            words, input="\n".join(keys), capture_output=True, text=True, timeout=LONGEST_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _logger.debug("pdinfra: the lease of the weights was not renewed: %s", error)
        return True
    return done.returncode != GONE
