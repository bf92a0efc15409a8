"""Every format by its name: what writes it on one host, and what merges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pdinfra.ranktable import ascendcloud, hccl, vllm_ascend
from pdinfra.ranktable.dump import Document
from pdinfra.ranktable.topology import File, Topology
from pdinfra.versions.rank_tables import Format


@dataclass(frozen=True)
class Writer:
    """``generate`` takes a service and the address of the host whose files are wanted."""

    generate: Callable[[Topology, str], list[File]]
    merge: Callable[[Sequence[Document]], File]


WRITERS: dict[Format, Writer] = {
    "ascendcloud": Writer(ascendcloud.generate, ascendcloud.merge),
    "hccl-1.0": Writer(partial(hccl.generate, version="1.0"), hccl.merge),
    "hccl-1.2": Writer(partial(hccl.generate, version="1.2"), hccl.merge),
    "vllm-ascend": Writer(vllm_ascend.generate, vllm_ascend.merge),
}
