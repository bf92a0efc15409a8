"""vllm-ascend's AscendStoreConnector with openYuanrong's data system behind it.

Source: vllm-ascend, docs user_guide/feature_guide/kv_pool.md section 4, and
ascend_store/backend/yuanrong_backend.py by version (table versions/yuanrong.yml).
"""

from __future__ import annotations

from typing import Any

from pdinfra.model.inventory import Inventory
from pdinfra.model.problems import Problem
from pdinfra.stacks.base import Engine
from pdinfra.versions import yuanrong as versions
from pdinfra.versions.table import VersionError

NAME = "AscendStoreConnector"


def problems(inventory: Inventory) -> list[Problem]:
    """Refuse images that cannot use the data system that pdinfra brings."""
    images = dict.fromkeys(host.settings.image or "" for host in inventory.hosts if host.roles)
    where = inventory.hosts[0].name
    wrong = {image: _wrong(image) for image in images}
    return [Problem.of(where, f"pd_image {image}", text) for image, text in wrong.items() if text]


def config(engine: Engine) -> dict[str, Any]:
    """Return --kv-transfer-config; every instance of a host looks up at a port of its own."""
    return {
        "kv_connector": NAME,
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {
            "lookup_rpc_port": str(engine.instance.kv_port),
            "backend": "yuanrong",
        },
    }


def environment(worker: str) -> dict[str, str]:
    """Return what the engine is told besides; worker: of its host, ``ip:port``."""
    return {
        "DS_WORKER_ADDR": worker,
        # With 1 it calls what data system 0.8.1 does not have.
        "DS_ENABLE_REMOTE_H2D": "0",
        # Keys are hashes that all instances must agree on.
        "PYTHONHASHSEED": "0",
    }


def _wrong(image: str) -> str:
    """Return what is wrong with an image, as `CAUSE. Fix: FIX`; empty: nothing."""
    usable = "Fix: use v0.22.1rc1 to v0.25.1rc1"
    try:
        row = versions.engine(image)
        problem = versions.datasystem_problem(image, versions.DATASYSTEM)
    except VersionError as error:
        return str(error)
    if row.connector != NAME:
        return f"its connector for openYuanrong is {row.connector}. {usable}"
    if row.patch:
        return f"its {NAME} knows openYuanrong only by a patch. {usable}"
    if problem:
        cause = problem.partition(". Fix: ")[0]
        return f"{cause}. {usable}: pdinfra brings {versions.DATASYSTEM}"
    return ""
