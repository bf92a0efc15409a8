"""The instance's cards: their nodes, their network addresses, and who holds them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from typing import Any

from .container import DRIVER_STATE, INSTALL_INFO, MANAGERS, NPU_SMI, SLOG, Container
from .refusal import RefusalError
from .tables import Server

DCMI = {
    -8005: "dcmi module initialize failed. ret is -8005",
    -8020: "dcmi model initialized failed, because the device is used. ret is -8020",
    -9005: "npu get board type failed. ret is -9005",
}
"""The driver's words by its codes (reference/ascend.md 1.3)."""
LOCK = f"{SLOG}/pdinfra-sim-davinci{{}}.lock"


def address(server: Server) -> str:
    """Return the server's own IP address. Raises RefusalError if it is not one of this host's."""
    try:
        found = socket.gethostbyname(server.server_ip)
        with socket.socket() as probe:
            probe.bind((found, 0))
    except OSError as error:
        text = f"server_ip {server.server_ip} is no address of this host: {error.strerror}"
        raise RefusalError(f"{text}. Is the local table another host's?") from None
    return found


def check(container: Container, server: Server, tensor_parallel_size: int) -> None:
    """Refuse cards that the driver or HCCL would not bring up."""
    ids = [device.device_id for device in server.devices]
    if tensor_parallel_size != len(ids):
        text = f"--tensor-parallel-size {tensor_parallel_size}, but the local table has"
        raise RefusalError(f"{text} {len(ids)} devices ({','.join(ids)})")
    for name in [*(f"davinci{number}" for number in ids), *MANAGERS]:
        if not container.path(f"/dev/{name}").exists():
            raise RefusalError(f"{DCMI[-8005]}: the container has no /dev/{name}")
    if not container.path(INSTALL_INFO).is_file():
        raise RefusalError(f"{INSTALL_INFO} is no file: mount the host's")
    if not any(container.path(path).is_file() for path in NPU_SMI):
        raise RefusalError(
            f"{' or '.join(NPU_SMI)} is no file: mount driver and npu-smi of the host"
        )
    state = _driver(container)
    if code := state["dcmi"]:
        raise RefusalError(f"{DCMI[code]}: the driver does not work on this host")
    for device in server.devices:
        _check_network(device.device_id, device.device_ip, state["devices"])


def claim(container: Container) -> list[int]:
    """Take every card whose node the container has; return the locks' file descriptors.

    The driver gives a card to one container at a time. The descriptors stay open in the program
    that this one becomes: the locks go when it ends, however it ends. Raises RefusalError.
    """
    held = []
    for number in container.nodes():
        path = container.path(LOCK.format(number))
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            text = f"{path} cannot be written by uid {os.geteuid()}: {error.strerror}"
            raise RefusalError(f"{text}. Is the host's /var/log/npu mounted at {SLOG}?") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            text = f"/dev/davinci{number} belongs to another container"
            raise RefusalError(f"{DCMI[-8020]}: {text}") from None
        os.set_inheritable(handle, True)
        held.append(handle)
    return held


def _driver(container: Container) -> dict[str, Any]:
    """Return what the simulated driver says of its cards. Raises RefusalError."""
    try:
        state: dict[str, Any] = json.loads(container.path(DRIVER_STATE).read_text())
    except (OSError, ValueError) as error:
        text = f"{DRIVER_STATE} cannot be read: {error}"
        raise RefusalError(f"{DCMI[-8005]}: {text}. Is the host's driver mounted?") from None
    return state


def _check_network(device: str, device_ip: str, cards: dict[str, dict[str, str]]) -> None:
    """Compare a device's address with the card's own, as HCCL does. Raises RefusalError."""
    card = cards.get(device)
    if card is None:
        raise RefusalError(f"the driver knows no device {device}. ret is -8008")
    if card["address"] != device_ip:
        has = card["address"] or "no address"
        text = f"device_ip {device_ip} of device {device} in the rank table is not the card's"
        raise RefusalError(f"EI0014: {text}, which has {has}")
    if card["link"] != "UP":
        raise RefusalError(f"EI0006: the link of device {device} is {card['link']}")
