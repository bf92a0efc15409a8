"""Let a worker that waits for its next step sleep at once, not a second later.

vLLM's worker and engine core look for each other's messages in shared memory
without a pause for a second after the last one, and only then wait for a
notice. Requests that come more often than that keep one core per engine busy
with waiting, and on a host with as many engines as cores everybody else, the
data system's many small hops first of all, gets the processor late.
"""

from __future__ import annotations

from typing import Any

BUSY_S = 0.001
"""How long to look without a pause, in seconds.

Measured with two engines on two cores and prompts of 1000 tokens through openYuanrong: time to
first token is 0.3 to 1.7 s with vLLM's second, 0.13 to 0.20 s with this.
"""


def apply() -> bool:
    """Return whether the fix was applied now."""
    try:
        from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
    except ImportError:
        return False
    condition: Any = SpinCondition
    # The last parameter with a default; another shape is a vLLM that has changed.
    if condition.__init__.__defaults__ != (1,):
        return False
    condition.__init__.__defaults__ = (BUSY_S,)
    return True
