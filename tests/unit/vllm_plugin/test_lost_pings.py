"""The fix of lost pings asks the socket for news before each ping, and takes once."""

from __future__ import annotations

from pathlib import Path

from tests.unit.vllm_plugin.scripts import run

CONDITION = """
class SpinCondition:
    def __init__(self, socket):
        self.local_notify_socket = socket
    def notify(self):
        self.local_notify_socket.send(b"ping")
"""
SCRIPT = """
from pdinfra_vllm import lost_pings
applied = lost_pings.apply(), lost_pings.apply()
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

class Socket:
    # As libzmq's: it hears that there is room again when it is asked for its events.
    room = False
    sent = 0
    def getsockopt(self, option):
        self.room = self.room or option == "events"
    def send(self, ping):
        self.sent += self.room
        self.room = False

socket = Socket()
for _ in range(3):
    SpinCondition(socket).notify()
print(*applied, socket.sent)
"""


def test_every_ping_finds_the_room_that_the_one_before_left(tmp_path: Path) -> None:
    module = tmp_path / "vllm" / "distributed" / "device_communicators" / "shm_broadcast.py"
    module.parent.mkdir(parents=True)
    module.write_text(CONDITION)
    (tmp_path / "zmq.py").write_text('EVENTS = "events"')
    assert run(SCRIPT, tmp_path) == "True False 3"


def test_without_vllm_it_does_nothing() -> None:
    assert run("from pdinfra_vllm import lost_pings; print(lost_pings.apply())") == "False"
