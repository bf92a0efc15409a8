"""Guide vllm-ray-tensor-parallel against inventories/ray-four-hosts, which is that deployment."""

from __future__ import annotations

from typing import Any

import yaml

from pdinfra.assets import ROOT
from pdinfra.model.plan import Plan
from pdinfra.planning.load import load
from pdinfra.planning.plan import build
from tests.unit.builders import ASSETS, option, specs

FOLDER = ROOT / "inventories" / "ray-four-hosts"
GUIDE = {
    "--tensor-parallel-size": "4",
    "--gpu-memory-utilization": "0.75",
    "--max-num-seqs": "64",
    "--max-model-len": "4096",
}
"""Its command line, section 3.6."""


def made() -> Plan:
    """Return the plan of the example, as Ansible would load it."""
    tree = yaml.safe_load((FOLDER / "hosts.yml").read_text())["all"]
    every = yaml.safe_load((FOLDER / "group_vars" / "all.yml").read_text())
    groups = {name: list(each["hosts"]) for name, each in tree["children"].items()}
    hostvars: dict[str, dict[str, Any]] = {}
    for host, reached in tree["hosts"].items():
        path = FOLDER / "host_vars" / f"{host}.yml"
        own = yaml.safe_load(path.read_text()) if path.exists() else {}
        hostvars[host] = {**every, **reached, **own}
    return build(load({"all": list(hostvars), **groups}, hostvars), ASSETS)


def test_the_engine_has_the_guides_words() -> None:
    (instance,) = made().instances
    spec = specs(made())[instance.id]
    assert {name: option(spec, name) for name in GUIDE} == GUIDE
    assert spec.command[:3] == ("vllm", "serve", "/data/models/qwen2.5-14b")
    assert "--trust-remote-code" in spec.command
    assert option(spec, "--distributed-executor-backend") == "ray"


def test_there_is_one_head_which_the_others_join() -> None:
    found = specs(made())
    assert "--head" in found["ray-te1"].command
    for name in ("ray-te2", "ray-te3", "ray-te4"):
        assert option(found[name], "--address") == "172.18.81.126:6379"
        assert "--head" not in found[name].command


def test_each_host_gives_its_one_card() -> None:
    plan = made()
    assert plan.ray is not None
    assert plan.ray.resources["GPU"] == 4
    assert {name: specs(plan)[f"ray-{name}"].gpus for name in ("te1", "te4")} == {
        "te1": ("0",),
        "te4": ("0",),
    }


def test_clients_ask_where_the_guides_did() -> None:
    assert made().router.url == "http://172.18.81.126:8000"
