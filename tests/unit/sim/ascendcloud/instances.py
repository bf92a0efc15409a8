"""Containers of instances in a folder, with the tables that pdinfra writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pdinfra.assets import TINY_MODEL
from pdinfra.ranktable import ascendcloud
from pdinfra.ranktable.topology import Card, Server, Topology
from tests.sim.ascend.simulator import boot, fault_command, hccn_tool
from tests.sim.ascendcloud.simulator.container import NPU_SMI, SLOG, Container

HOST = "127.0.0.1"
GLOBAL = f"global_ranktable_{HOST}.json"
HOST_TABLE = f"local_ranktable_{HOST}_host.json"


def topology(prefill: int = 1, decode: int = 1) -> Topology:
    """Return instances of two cards each, all on one host."""
    cards = [Card(number, f"10.20.1.{number + 1}") for number in range(2 * (prefill + decode))]
    servers = [Server(HOST, tuple(cards[at : at + 2])) for at in range(0, len(cards), 2)]
    return Topology(tuple(servers[:prefill]), tuple(servers[prefill:]), HOST)


def local_name(devices: str) -> str:
    return f"local_ranktable_{HOST}_{devices}.json"


def write_tables(folder: Path, of: Topology) -> None:
    folder.mkdir(exist_ok=True)
    for file in ascendcloud.generate(of, HOST):
        (folder / file.name).write_text(file.text)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a table in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@dataclass
class Node:
    """A lab host with eight cards in a folder; its root's variable is set, the caller is root."""

    root: Path
    tables: Path
    model: Path = field(default=TINY_MODEL)

    def boot(self) -> None:
        boot.main(["--npus", "8", "--host-index", "1"])
        write_tables(self.tables, topology())

    def fault(self, words: str) -> None:
        assert fault_command.main(words.split()) == 0

    def hccn_tool(self, words: str) -> None:
        assert hccn_tool.main(words.split()) == 0

    def container(self, local: str, *cards: int) -> Container:
        """Return a container as the guide starts it."""
        root = self.root.parent / f"container-{'-'.join(map(str, cards)) or 'none'}"
        for name in ("usr/local/sbin", "usr/local/Ascend", "etc", "dev"):
            (root / name).mkdir(parents=True, exist_ok=True)
        mounts = {
            "/usr/local/Ascend/driver": "/usr/local/Ascend/driver",
            "/etc/ascend_install.info": "/etc/ascend_install.info",
            NPU_SMI[0]: "/usr/local/bin/npu-smi",
            SLOG: "/var/log/npu",
            **{f"/dev/davinci{card}": f"/dev/davinci{card}" for card in cards},
            **{f"/dev/{n}": f"/dev/{n}" for n in ("davinci_manager", "devmm_svm", "hisi_hdc")},
        }
        for inside, outside in mounts.items():
            link = root / inside.lstrip("/")
            link.unlink(missing_ok=True)
            link.symlink_to(self.root / outside.lstrip("/"))
        return Container(self.variables(local), root)

    def variables(self, local: str) -> dict[str, str]:
        """Return the guide's variables, and what the image's ~/.bashrc sets."""
        return {
            "ASCEND_TOOLKIT_HOME": "/usr/local/Ascend/ascend-toolkit/latest",
            "GLOBAL_RANK_TABLE_FILE_PATH": str(self.tables / GLOBAL),
            "RANK_TABLE_FILE_PATH": str(self.tables / local),
        }

    def arguments(self, *more: str, port: int = 8088) -> list[str]:
        """Return the guide's arguments."""
        return [
            f"--model={self.model}", "--tensor-parallel-size=2", "--max-model-len=4096",
            "--max-num-seqs=256", "--max-num-batched-tokens=4096", f"--host={HOST}",
            f"--port={port}", "--served-model-name", "tiny", *more,
        ]  # fmt: skip
