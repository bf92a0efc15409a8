"""A vLLM plugin that mends engines on small CPU hosts and brings openYuanrong to them.

vLLM loads it in every process of an engine (API server, engine core, worker)
through the entry point group ``vllm.general_plugins``.
"""

from __future__ import annotations

import logging

from pdinfra_vllm import (
    connectors,
    core_pinning,
    idle_workers,
    lost_pings,
    progress_thread,
    yuanrong_load,
)

# A child of vLLM's logger, which is the one that has a handler.
_logger = logging.getLogger("vllm.pdinfra")


def register() -> None:
    """Name our connector to vLLM, apply every fix and log, in one line, which ones took."""
    connectors.apply()
    fixes = {
        "NIXL progress thread sleeps between polls": progress_thread.apply,
        "NIXL workers are not pinned to the last core": core_pinning.apply,
        "workers that wait sleep": idle_workers.apply,
        "every ping wakes who sleeps": lost_pings.apply,
        "load format yuanrong is known": yuanrong_load.register,
    }
    applied = [what for what, apply in fixes.items() if apply()]
    if applied:
        _logger.info("pdinfra: %s", "; ".join(applied))
