"""openYuanrong's full mode: inventories/prod against the guide's text, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from pdinfra.assets import ROOT
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import ContainerSpec, Plan
from pdinfra.model.problems import InvalidInventoryError
from pdinfra.operator_files import OperatorState
from pdinfra.planning.compare import Comparison, compare
from pdinfra.planning.finish import Finished
from pdinfra.planning.load import load
from pdinfra.planning.plan import build
from pdinfra.planning.reach import links
from pdinfra.yuanrong.__main__ import settings
from pdinfra.yuanrong.commands import guide_words
from pdinfra.yuanrong.environment import variables
from pdinfra.yuanrong.runner import Settings
from tests.unit.builders import (
    ASSETS,
    FULL,
    FULL_HOSTS,
    ONE_HOST,
    TWO_HOSTS,
    WHEELS,
    converged,
    facts,
    inventory,
    lines,
    listening,
    observed,
    plan,
    problems,
    specs,
)

PROD = ROOT / "inventories" / "prod"


def prod() -> Plan:
    """Return the plan of inventories/prod, as Ansible would load it."""
    tree = yaml.safe_load((PROD / "hosts.yml").read_text())["all"]
    read = {p.stem: yaml.safe_load(p.read_text()) for p in (PROD / "group_vars").glob("*.yml")}
    groups = {name: list(each["hosts"]) for name, each in tree["children"].items()}
    hostvars: dict[str, dict[str, Any]] = {}
    for host, own in tree["hosts"].items():
        mine = [name for name, members in groups.items() if host in members]
        layers = [read["all"], *(read.get(name, {}) for name in mine), own]
        hostvars[host] = {key: value for layer in layers for key, value in layer.items()}
    return build(load({"all": list(hostvars), **groups}, hostvars), ASSETS)


def told(spec: ContainerSpec | tuple[str, ...]) -> Settings:
    """Return the settings that a command of the plan carries, read as the container reads them."""
    words = spec if isinstance(spec, tuple) else spec.command
    return settings(words[words.index("--settings") + 1])


def full(**more: Any) -> Plan:
    basics = {"pd_manage_hosts": False, "pd_manage_ports": False}
    return plan(TWO_HOSTS, {**FULL, **basics, **more}, **FULL_HOSTS)


def refused(**more: Any) -> str:
    return lines(problems(TWO_HOSTS, {**FULL, **more}, **FULL_HOSTS))


def test_prod_starts_openyuanrong_with_the_guides_words() -> None:
    made = specs(prod())
    assert list(made) == ["yr-npu-1", "yr-npu-2"]
    master, agent = (told(spec).node for spec in made.values())
    switches = [
        "-l DEBUG",
        "--runtime_direct_connection_enable=true",
        "--enable_separated_redirect_runtime_std=true",
        "--etcd_addr_list=192.0.2.11",
        "--etcd_port=22440",
        "--etcd_peer_port=22441",
    ]
    assert " ".join(guide_words(master)) == f"yr start --master {' '.join(switches)}"
    assert " ".join(guide_words(agent)) == f"yr start {' '.join(switches)}"


def test_prod_deploys_with_the_guides_environment() -> None:
    made = prod()
    assert made.cluster is not None
    wanted = told(made.cluster.deploy)
    assert wanted.deployment is not None
    assert (wanted.agents, wanted.max_model_len) == (2, None)
    found = variables(wanted.deployment)
    # The block of the guide, its values put in; HCL_OP_EXPANSION_MODE by its right name.
    expected = {
        "SERVER_IP": "192.0.2.11",
        "SERVER_PORT": "9000",
        "MODEL_PATH": "/workspace/models/qwen2.5_7B",
        "VLLM_USE_V1": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "vLLM_MODEL_MEMORY_USE_GB": "20",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
        "HCCL_OP_EXPANSION_MODE": "AIV",
        "USING_PREFIX_CONNECTOR": "1",
        "PREFILL_INS_NUM": "1",
        "DECODE_INS_NUM": "1",
        "PTP": "4",
        "DTP": "4",
        "PDP": "1",
        "DDP": "1",
    }
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) == {
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "DS_WORKER_ADDR",
        "DATASYSTEM_ADDR",
    }
    assert found["LD_LIBRARY_PATH"].endswith("/yr/inner/function_system/lib")


def test_prod_gives_the_nodes_what_the_guide_gives_its_containers() -> None:
    spec = specs(prod())["yr-npu-2"]
    assert spec.privileged
    assert spec.network_mode == "host"
    assert spec.shm_size == 64 * 1024**3
    control = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
    # Four of the guide's eight: those of the planned instance.
    assert spec.devices == (*(f"/dev/davinci{n}" for n in range(4)), *control)
    sources = {mount.source for mount in spec.mounts}
    assert {
        "/usr/local/dcmi",
        "/usr/local/bin/npu-smi",
        "/usr/local/Ascend/driver/lib64",
        "/usr/local/Ascend/driver/version.info",
        "/etc/ascend_install.info",
        "/workspace/models/qwen2.5_7B",
    } <= sources
    assert [m.source for m in spec.mounts if not m.read_only] == ["/var/lib/pdinfra/pd/yr"]
    assert told(spec).node.deploy_path.startswith("/var/lib/pdinfra/pd/yr/")


def test_prods_image_is_the_guides_with_all_that_the_operator_brings() -> None:
    image = prod().host("npu-1").images[0]
    assert image.base == "quay.io/ascend/vllm-ascend:v0.10.0rc1-openeuler"
    assert image.ref.startswith("pdinfra/vllm-ascend-yuanrong:v0.10.0rc1-openeuler-")
    assert image.operator is not None
    assert [path.rpartition("/")[2] for path in image.operator.wheels] == sorted(WHEELS)
    (patch,) = json.loads(image.operator.manifest)
    assert (patch["target"], patch["tool"]) == ("/vllm-workspace/vllm-ascend", "am")


def test_the_image_is_another_one_when_anything_in_it_is() -> None:
    def ref(state: OperatorState, **more: Any) -> str:
        made = inventory(TWO_HOSTS, {**FULL, **more}, **FULL_HOSTS)
        return build(made, ASSETS, state=state).host("a").images[0].ref

    state = OperatorState(
        wheels=WHEELS,
        patches={"/workspace/tools/patch/0001-c.patch": "3" * 64},
        scripts="a" * 12,
        script=True,
    )
    first = ref(state)
    assert first == ref(state)
    assert first != ref(state.model_copy(update={"scripts": "b" * 12}))
    assert first != ref(state, pd_image_digest="sha256:" + "5" * 64)
    published = ref(state, pd_image_registry="r.example.com/x")
    assert published.startswith("r.example.com/x/vllm-ascend-yuanrong:")


def test_there_is_no_container_of_an_instance_and_no_router() -> None:
    made = full()
    assert made.convergeable
    assert made.instances == ()
    assert made.router.members == ()
    assert [(c.kind, c.role) for h in made.hosts for c in h.containers] == [
        ("master", "yr-master"),
        ("agent", "yr-agent"),
    ]
    assert made.model_name == "/workspace/models/qwen2.5_7B"
    assert made.router.url == "http://192.0.2.11:9000"
    assert made.store is not None
    assert made.store.master == "192.0.2.11:12123"
    assert [w.endpoint for w in made.store.workers] == ["192.0.2.11:31501", "192.0.2.12:31501"]


def test_every_port_is_planned_and_tried_between_the_hosts() -> None:
    made = full(pd_yuanrong_ports={"ds_worker": 31600})
    assert {p.port for p in made.host("b").ports} == {
        31600, 22772, 22773, 22774, 58866, 21006,
    }  # fmt: skip
    assert {22440, 22441, 12123, 22770, 9000} <= {p.port for p in made.host("a").ports}
    tried = {(link.source, link.target, link.port) for link in links(made)}
    assert {("b", "a", 22440), ("b", "a", 22770), ("b", "a", 12123)} <= tried
    assert {("b", "a", 31600), ("a", "b", 31600), ("a", "b", 58866)} <= tried


def test_numbers_of_instances_are_the_deployments_and_restart_no_node() -> None:
    groups = {"prefill": ["a"], "decode": ["a", "b"], "router": ["a"]}
    two = {"pd_instances": [{"role": "decode"}, {"role": "decode"}]}
    one = plan(groups, FULL, a=FULL_HOSTS["a"], b=FULL_HOSTS["b"])
    more = plan(groups, FULL, a=FULL_HOSTS["a"], b={**FULL_HOSTS["b"], **two})
    assert specs(one)["yr-a"] == specs(more)["yr-a"]
    assert one.cluster is not None
    assert more.cluster is not None
    assert one.cluster.digest != more.cluster.digest
    assert more.cluster.summary == "1 prefill of 4 NPUs, 3 decode of 4 NPUs"


def test_another_host_is_another_node_and_touches_no_other() -> None:
    groups = {"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}
    more = plan(groups, FULL, **FULL_HOSTS, c={"ansible_host": "192.0.2.13"})
    before = specs(plan(TWO_HOSTS, FULL, **FULL_HOSTS))
    assert {name: specs(more)[name] for name in before} == before
    assert more.cluster is not None
    assert told(more.cluster.count).agents == 3


def test_mixed_instances_are_the_second_guides_numbers() -> None:
    made = plan(
        {"mixed": ["a"], "router": ["a"]},
        {**FULL, "pd_tensor_parallel_size": 2},
        a={"ansible_host": "192.0.2.11"},
    )
    assert made.cluster is not None
    deployment = told(made.cluster.deploy).deployment
    assert deployment is not None
    found = variables(deployment)
    numbers = ("PREFILL_INS_NUM", "DECODE_INS_NUM", "PTP", "DTP", "PDP", "DDP")
    assert [found[name] for name in numbers] == ["1", "0", "2", "0", "1", "0"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"pd_yuanrong_wheels": {}}, "openyuanrong is missing. Fix: bring all of"),
        (
            {"pd_yuanrong_wheels": {**WHEELS, "openyuanrong-0.6.0-py3-none-any.whl": "4" * 64}},
            "of several versions",
        ),
        ({"pd_yuanrong_wheels_dir": None}, "set pd_yuanrong_wheels_dir"),
        ({"pd_yuanrong_machine": "aarch64"}, "the image is aarch64 with glibc 2.34"),
        ({"pd_yuanrong_patches": []}, "comes with the guide's"),
        ({"pd_yuanrong_scripts_dir": None}, "pd_yuanrong_scripts_dir: missing"),
        ({"pd_image": "quay.io/ascend/vllm-ascend:v0.9.1"}, "no connector for openYuanrong"),
        ({"pd_image_source": "load", "pd_image_archive": "/x.tar"}, "built on top of it"),
        ({"pd_yuanrong_ports": {"etcd": 31501}}, "port 31501 is both etcd and ds_worker"),
        ({"pd_yuanrong_ports": {"etcd": 9000}}, "give router another pd_router_port"),
        ({"pd_env": {"HF_TOKEN": "x"}}, "pd_env.HF_TOKEN: looks like a secret"),
        ({"pd_dtype": "float16"}, "pd_dtype: the guides' script decides this by itself"),
        ({"pd_decode": {"port": 8300}}, "pd_decode.port: the guides' script"),
        ({"pd_etcd_port": 2379}, "use pd_yuanrong_ports: {etcd: ...}"),
        ({"pd_model_name": "qwen"}, "serves the model by its path"),
        ({"pd_datasystem_gib": 0.0001}, "shared_memory_mb is 0"),
    ],
)
def test_what_cannot_work_is_refused_by_name(more: dict[str, Any], said: str) -> None:
    assert said in refused(**more)


def test_hosts_that_cannot_be_nodes_are_refused() -> None:
    far = {**TWO_HOSTS, "router": ["c"]}
    found = lines(problems(far, FULL, **FULL_HOSTS, c={"ansible_host": "192.0.2.13"}))
    assert "no instance is planned here" in found
    keeper = {**TWO_HOSTS, "etcd": ["b"]}
    assert "b: group etcd: " in lines(problems(keeper, FULL, **FULL_HOSTS))
    names = lines(problems(TWO_HOSTS, FULL))
    assert "a: address a: openYuanrong is told IPv4 addresses" in names
    loop = {"a": {"ansible_host": "127.0.0.1"}, "b": FULL_HOSTS["b"]}
    assert "the other hosts cannot reach it" in lines(problems(TWO_HOSTS, FULL, **loop))
    uneven = {"a": FULL_HOSTS["a"], "b": {**FULL_HOSTS["b"], "pd_tensor_parallel_size": 2}}
    both = {"prefill": ["a", "b"], "decode": ["b"], "router": ["a"]}
    assert "the script has one size for all" in lines(problems(both, FULL, **uneven))


def test_what_the_operator_brings_is_held_against_what_is_said_of_it() -> None:
    def wrong(state: OperatorState) -> str:
        made = inventory(TWO_HOSTS, FULL, **FULL_HOSTS)
        with pytest.raises(InvalidInventoryError) as caught:
            build(made, ASSETS, state=state)
        return str(caught.value)

    nothing = wrong(OperatorState())
    for said in ("no folder /workspace/tools/wheels", "no file /workspace/tools/patch"):
        assert said in nothing
    assert "has no run_vllm_on_yr.sh" in nothing
    damaged = dict.fromkeys(WHEELS, "9" * 64)
    found = wrong(
        OperatorState(
            wheels=damaged, patches={"/workspace/tools/patch/0001-c.patch": "9" * 64}, script=True
        )
    )
    assert found.count("damaged or another file") == 3


def compared(made: Plan, mode: Any = "converge", **more: Any) -> Comparison:
    """Compare with hosts on which all is as planned, but for what is given of host a."""
    assert made.cluster is not None
    notes = {made.cluster.deployed: made.cluster.digest, made.cluster.agents: "2"}
    seen = {
        "a": converged(made.host("a"), **{"notes": notes, **more}),
        "b": converged(made.host("b")),
    }
    return compare(Finished(made), seen, mode, check=False)


def actions(found: Comparison) -> dict[str, str]:
    return {change.id: change.action for change in found.changes}


KEEP = {"yr-a": "keep", "yr-b": "keep", "engines": "keep"}


def test_what_is_as_planned_is_left_alone() -> None:
    found = compared(full())
    assert actions(found) == KEEP
    assert all(not order.stages for order in found.work.values())


def test_a_new_deployment_cleans_the_old_one_and_touches_no_node() -> None:
    made = full()
    assert made.cluster is not None
    found = compared(made, notes={made.cluster.deployed: "another"})
    assert actions(found) == {**KEEP, "engines": "replace"}
    work = found.work["a"]
    assert work.stages == ("deployment",)
    assert work.deployment.clean == made.cluster.clean
    assert work.deployment.deploy == made.cluster.deploy


def test_an_entry_that_nobody_listens_at_is_deployed_anew() -> None:
    made = full()
    ports = tuple(listening(p.port) for p in made.host("a").ports if p.port != 9000)
    assert actions(compared(made, listening=ports)) == {**KEEP, "engines": "replace"}
    assert actions(compared(made, notes={})) == {**KEEP, "engines": "create"}


def test_a_master_that_starts_anew_takes_its_agents_along() -> None:
    made = full()
    old = full(pd_datasystem_gib=1)
    seen: dict[str, HostFacts] = {"a": converged(old.host("a")), "b": converged(made.host("b"))}
    found = compare(Finished(made), seen, "converge", check=False)
    assert actions(found) == {"yr-a": "replace", "yr-b": "replace", "engines": "create"}
    assert found.work["b"].agents[0].recreate
    reasons = {c.id: c.reason for c in found.changes}
    assert "--settings node shared_memory_mb: 1024 → 4096" in reasons["yr-a"]
    assert reasons["yr-b"] == "its master starts anew"


def test_nodes_that_docker_started_again_are_mended() -> None:
    made = full()
    assert made.cluster is not None
    hour = int(datetime(2026, 11, 21, 15, tzinfo=UTC).timestamp())
    notes = {made.cluster.deployed: f"{made.cluster.digest} {hour + 10}"}

    def after(master: str, agent: str) -> dict[str, str]:
        """Compare an hour later; both were started at these minutes and seconds past three."""
        seen = {
            name: facts(
                made.host(name),
                [observed(made.host(name).containers[0], StartedAt=f"2026-11-21T15:{at}.5Z")],
                clock=hour + 3600,
                notes=notes if name == "a" else {},
                listening=tuple(listening(p.port) for p in made.host(name).ports),
            )
            for name, at in (("a", master), ("b", agent))
        }
        found = compare(Finished(made), seen, "converge", check=False)
        return {change.id: f"{change.action}: {change.reason}" for change in found.changes}

    assert after("00:00", "00:04")["engines"].startswith("keep")
    lost = after("00:00", "30:00")
    assert lost["yr-b"].startswith("keep")
    assert lost["engines"] == "replace: yr-b was started anew"
    master = after("30:00", "00:04")
    assert master["yr-a"].startswith("keep")
    assert master["yr-b"] == "replace: its master was started anew after it"
    assert master["engines"].startswith("replace")


def test_a_new_agent_means_a_new_deployment() -> None:
    made = full()
    assert made.cluster is not None
    notes = {made.cluster.deployed: made.cluster.digest}
    seen = {"a": converged(made.host("a"), notes=notes), "b": facts(made.host("b"))}
    found = compare(Finished(made), seen, "converge", check=False)
    assert actions(found) == {"yr-a": "keep", "yr-b": "create", "engines": "replace"}


def test_down_cleans_what_is_deployed_and_removes_every_node() -> None:
    made = full()
    found = compared(made, "down")
    assert actions(found) == dict.fromkeys(KEEP, "remove")
    assert found.work["a"].deployment.clean
    assert not found.work["a"].deployment.deploy
    assert found.work["a"].removed_masters == ("pd-pd-yr-a",)
    assert found.work["b"].removed_agents == ("pd-pd-yr-b",)


def test_one_host_is_a_cluster_of_one() -> None:
    made = plan(ONE_HOST, FULL, a=FULL_HOSTS["a"])
    assert made.cluster is not None
    assert told(made.cluster.count).agents == 1
    spec = specs(made)["yr-a"]
    assert [d for d in spec.devices if d[-1].isdigit()] == [f"/dev/davinci{n}" for n in range(8)]
