"""Let every ping arrive that wakes a worker or an engine core.

vLLM's sender of pings has room for one (SNDHWM 1) and drops those that find no
room. That the last one has left is told to the socket by ZeroMQ's own thread,
and a socket that sends looks for such news only every 3,000,000 ticks of the
processor's clock (libzmq, max_command_delay), about 1.2 ms. So a ping within
this time after another is dropped although that one was long received, and who
went to sleep meanwhile sleeps until vLLM's next look by itself, after 5 s. In
vLLM as it comes nobody sleeps in the first second; here all do (idle_workers).
"""

from __future__ import annotations

from typing import Any

NAME = "notify_after_news"


def apply() -> bool:
    """Return whether the fix was applied now."""
    try:
        import zmq
        from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
    except ImportError:
        return False
    condition: Any = SpinCondition
    send = condition.notify
    if send.__name__ == NAME:
        return False

    def notify_after_news(self: Any) -> None:
        # Asking for the socket's events takes in all news at once. Then no room means that the ping
        # before is still on its way: it arrives after what this one tells was written.
        self.local_notify_socket.getsockopt(zmq.EVENTS)
        send(self)

    condition.notify = notify_after_news
    return True
