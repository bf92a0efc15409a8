"""The environment of the guides' deployment, rendered from one place for every host.

Sources: guides yuanrong-pd-disaggregation and yuanrong-fast-model-load; what becomes of the
variables: upstream's docs/sample_code/llm_on_multiple_machines (run_vllm_on_yr.sh, scripts.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["disaggregated", "mixed"]

SECRET = re.compile(r"TOKEN|PASSW|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY", re.IGNORECASE)
MISSPELT = {"HCL_OP_EXPANSION_MODE": "HCCL_OP_EXPANSION_MODE"}
"""Names in the guides that nothing reads, and what they mean."""
KEPT = re.compile(r"ASCEND_|ATB_|ASDOPS_|LCCL_|LCAL_|TOOLCHAIN_HOME$")
"""What CANN's set_env.sh and ATB's set besides the paths (their names: CANN 8, never run here)."""
CLEAN_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"


class EnvironmentRefusedError(ValueError):
    """A variable must not be handed on; the text says which, why, and what would be right."""


@dataclass(frozen=True)
class Deployment:
    """What a user decides of the guides' deployment. Sizes and numbers as the guides count them.

    Without any instance it is the environment of a node that instances are placed on.

    ``ptp``, ``dtp``: NPUs of one prefill or decode instance; ``pdp``, ``ddp``: its data-parallel
    ranks. ``install_path``: YR_INSTALL_PATH; ``library_dir``: below it (table of versions).
    ``worker_address``: the data-system worker of the host that this is rendered for, ``ip:port``.
    """

    server_ip: str
    server_port: int
    model_path: str
    tools_dir: str
    install_path: str
    prefill: int = 0
    decode: int = 0
    ptp: int = 0
    dtp: int = 0
    pdp: int = 1
    ddp: int = 1
    library_dir: str = "function_system/lib"
    model_memory_gb: int = 20
    prefix_connector: bool = True
    worker_address: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def mode(self) -> Mode:
        """What scripts.py makes of the numbers: any zero, and all instances are MIXED."""
        return "disaggregated" if self.prefill > 0 and self.decode > 0 else "mixed"

    @property
    def instances(self) -> int:
        """How many instances there are to be."""
        return self.prefill + self.decode

    @property
    def npus(self) -> int:
        """How many NPUs the instances take together."""
        return self.prefill * self.ptp * self.pdp + self.decode * self.dtp * self.ddp


def problems(deployment: Deployment, npus: int | None = None) -> list[str]:
    """Return everything that is wrong with a deployment; ``npus``: how many all hosts have."""
    found = []
    if (
        deployment.prefill < 0
        or deployment.decode < 0
        or deployment.prefill + deployment.decode < 1
    ):
        found.append("no instance. Fix: at least one of prefill and decode")
    kinds = (
        ("prefill", deployment.prefill, deployment.ptp, deployment.pdp, "PTP", "PDP"),
        ("decode", deployment.decode, deployment.dtp, deployment.ddp, "DTP", "DDP"),
    )
    found += [
        f"{count} {kind} instances of {tp} NPUs and {dp} ranks. Fix: {tp_name} and {dp_name} from 1"
        for kind, count, tp, dp, tp_name, dp_name in kinds
        if count > 0 and (tp < 1 or dp < 1)
    ]
    if deployment.server_ip in ("0.0.0.0", "::", ""):
        found.append(
            f"SERVER_IP {deployment.server_ip!r} is no host's address. Fix: that of the master"
        )
    if not deployment.model_path.startswith("/"):
        found.append(f"MODEL_PATH {deployment.model_path!r} is not absolute")
    if npus is not None and deployment.npus > npus:
        found.append(
            f"the instances take {deployment.npus} NPUs, all hosts together have {npus}: what does "
            "not fit is never scheduled, and nothing says so. Fix: fewer or smaller instances"
        )
    found += [str(error) for error in _refusals(deployment.extra)]
    return found


def variables(deployment: Deployment, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the block by name, in the guides' order.

    ``inherited``: the image's own PYTHONPATH and LD_LIBRARY_PATH, which are kept. Different from
    the guides' text: HCL_OP_EXPANSION_MODE by its right name; no empty part in the two paths (it
    would mean the current folder). DATASYSTEM_ADDR besides DS_WORKER_ADDR: instances overwrite the
    second with the first. Raises EnvironmentRefusedError for a secret among the extras.
    """
    refused = _refusals(deployment.extra)
    if refused:
        raise refused[0]
    kept = inherited or {}
    block = {
        "SERVER_IP": deployment.server_ip,
        "SERVER_PORT": str(deployment.server_port),
        "MODEL_PATH": deployment.model_path,
        "PYTHONPATH": _path(kept.get("PYTHONPATH"), deployment.tools_dir),
        "VLLM_USE_V1": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "vLLM_MODEL_MEMORY_USE_GB": str(deployment.model_memory_gb),
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
        "LD_LIBRARY_PATH": _path(
            f"{deployment.install_path}/{deployment.library_dir}", kept.get("LD_LIBRARY_PATH")
        ),
        MISSPELT["HCL_OP_EXPANSION_MODE"]: "AIV",
        "USING_PREFIX_CONNECTOR": "1" if deployment.prefix_connector else "0",
    }
    if deployment.instances:
        block |= {
            "PREFILL_INS_NUM": str(deployment.prefill),
            "DECODE_INS_NUM": str(deployment.decode),
            "PTP": str(deployment.ptp),
            "DTP": str(deployment.dtp),
            "PDP": str(deployment.pdp),
            "DDP": str(deployment.ddp),
        }
    if deployment.worker_address:
        block |= {
            "DS_WORKER_ADDR": deployment.worker_address,
            "DATASYSTEM_ADDR": deployment.worker_address,
        }
    return block | {MISSPELT.get(name, name): value for name, value in deployment.extra.items()}


def block(deployment: Deployment, inherited: Mapping[str, str] | None = None) -> str:
    """Return the block as shell text, one ``export`` a line."""
    lines = variables(deployment, inherited)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in lines.items())


def clean(
    deployment: Deployment | None, inherited: Mapping[str, str], home: str = "/root"
) -> dict[str, str]:
    """Return the whole environment for ``yr`` and the deployment script.

    ``yr`` writes its caller's environment into yr_daemon.log and session.json, which everyone may
    read; so it gets this and nothing else of the caller. Of ``inherited`` only the two paths, PATH,
    and what CANN needs are taken. Raises EnvironmentRefusedError as variables() does.
    """
    base = {"PATH": inherited.get("PATH") or CLEAN_PATH, "HOME": home, "LANG": "C.UTF-8"}
    base |= {
        name: value
        for name, value in inherited.items()
        if KEPT.match(name) and not SECRET.search(name)
    }
    if deployment is not None:
        return base | variables(deployment, inherited)
    paths = ("LD_LIBRARY_PATH", "PYTHONPATH")
    return base | {name: inherited[name] for name in paths if inherited.get(name)}


def notes(deployment: Deployment) -> list[str]:
    """Return what a user of the guides should know about this deployment."""
    found = ["HCCL_OP_EXPANSION_MODE: the guides write HCL_OP_EXPANSION_MODE, which nothing reads"]
    if deployment.mode == "mixed":
        found.append(
            f"{deployment.prefill} prefill and {deployment.decode} decode instances mean MIXED "
            "instances: each does both"
        )
    else:
        found.append(
            "nothing pins prefill to one host and decode to the other: openYuanrong places by "
            "free NPUs alone, and both may land on one host"
        )
    return found


def _refusals(extra: Mapping[str, str]) -> list[EnvironmentRefusedError]:
    """Return an error for each variable that looks like a secret."""
    return [
        EnvironmentRefusedError(
            f"{name} looks like a secret, and yr writes its environment into yr_daemon.log, which "
            "everyone may read. Fix: leave it out of this environment"
        )
        for name in extra
        if SECRET.search(name)
    ]


def _path(*parts: str | None) -> str:
    """Join paths, without the empty ones."""
    return ":".join(part for part in parts if part)
