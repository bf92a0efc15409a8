"""A Ray cluster's plan: one head for any inventory, next to the guide's commands, and its ports."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pdinfra.model.plan import ContainerSpec, Plan
from pdinfra.planning.reach import links
from tests.unit.builders import ON_RAY, only, option, plan, problems, specs
from tests.unit.planning.test_properties import Service, attempt

SERVE: dict[str, Any] = {"pd_stack": "ray", "pd_connector": "nixl"}
EXECUTOR: dict[str, Any] = {**ON_RAY, "pd_stack": "ray", "pd_ray_mode": "executor"}
HOSTS = {
    "a": {"pd_address": "192.0.2.1"},
    "b": {"pd_address": "192.0.2.2"},
    "c": {"pd_address": "192.0.2.3"},
}
MIXED = {"mixed": ["a", "b", "c"], "router": ["a"]}

GUIDE_HEADS = """
ray start --head --node-ip-address=te1 --port=6379 --num-gpus=1 --resources='{"node:te1": 1}'
ray start --head --node-ip-address=te2 --port=6379 --num-gpus=1 --resources='{"node:te2": 1}'
ray start --head --node-ip-address=te3 --port=6379 --num-gpus=1 --resources='{"node:te3": 1}'
ray start --head --node-ip-address=te4 --port=6379 --num-gpus=1 --resources='{"node:te4": 1}'
"""
GUIDE_HOSTS = """
172.18.81.126 te1
172.18.81.127 te2
172.18.81.128 te3
172.18.81.129 te4
"""
GUIDE_SERVER = """
python -m vllm.entrypoints.openai.api_server --model /data/models/qwen2.5-14b
--tensor-parallel-size 4 --pipeline-parallel-size 1 --trust-remote-code
--gpu-memory-utilization 0.75 --max-num-seqs 64 --max-model-len 4096 --host 0.0.0.0 --port 8000
--disable-log-requests
"""
PINNED = {
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
    "--max-worker-port",
    "--metrics-export-port",
    "--min-worker-port",
    "--node-manager-port",
    "--object-manager-port",
    "--runtime-env-agent-port",
}
"""Ray takes these ports at random; a plan has them."""


def options(text: str) -> dict[str, str]:
    """Return the options of a command, ``--x y`` or ``--x=y``; "" for flags."""
    found = {}
    words = shlex.split(text)
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            continue
        following = words[number + 1] if number + 1 < len(words) else "--"
        found[name] = value if equals else "" if following.startswith("--") else following
    return found


def guide_addresses() -> dict[str, str]:
    """Return the addresses of the guide's hosts by name."""
    return {name: ip for ip, name in re.findall(r"(\S+) (\S+)\n", GUIDE_HOSTS)}


def told(spec: ContainerSpec) -> dict[str, str]:
    """Return the options of a planned container."""
    return options(shlex.join(spec.command))


def guide() -> Plan:
    """Return the plan of the guide's four hosts, in the guide's own words."""
    addresses = guide_addresses()
    server = options(GUIDE_SERVER)
    every = {
        **EXECUTOR,
        "pd_image": "vllm/vllm-openai:v0.11.0",
        "pd_ray_version": "2.50.0",
        "pd_model_path": server["--model"],
        "pd_devices": [0],
        "pd_port": int(server["--port"]),
        "pd_router_port": 9000,
        "pd_gpu_memory_utilization": float(server["--gpu-memory-utilization"]),
        "pd_max_num_seqs": int(server["--max-num-seqs"]),
        "pd_max_model_len": int(server["--max-model-len"]),
        "pd_engine_args": ["--trust-remote-code"],
    }
    first, *others = addresses
    size = int(server["--tensor-parallel-size"])
    entry = {"role": "mixed", "hosts": others, "tensor_parallel_size": size}
    hosts: dict[str, dict[str, Any]] = {n: {"pd_address": a} for n, a in addresses.items()}
    hosts[first]["pd_instances"] = [entry]
    return plan({"all": list(addresses), "mixed": [first], "router": [first]}, every, **hosts)


def test_the_guides_hosts_have_one_head_and_three_that_join_it() -> None:
    found = specs(guide())
    lines = [line for line in GUIDE_HEADS.split("\n") if line]
    addresses = guide_addresses()
    for line in lines:
        theirs = options(line)
        host = theirs.pop("--node-ip-address")
        ours = told(found[f"ray-{host}"])
        assert ours.pop("--node-ip-address") == addresses[host], "the guide has names"
        assert ours.pop("--num-gpus") == theirs.pop("--num-gpus") == "1"
        # The guide has four heads, so four clusters of one card each.
        assert "--head" in theirs
        assert ("--head" in ours) is (host == "te1")
        del theirs["--head"]
        if host == "te1":
            del ours["--head"]
            assert ours.pop("--port") == theirs.pop("--port") == "6379"
            assert ours.pop("--dashboard-host") == "127.0.0.1"
            del ours["--dashboard-port"], ours["--ray-client-server-port"]
        else:
            assert ours.pop("--address") == f"172.18.81.126:{theirs.pop('--port')}"
        # Ray itself has a resource node:ADDRESS, and the guide's looks like it; ours does not.
        assert json.loads(theirs.pop("--resources")) == {f"node:{host}": 1}
        entry = {"pd_entry": 1} if host == "te1" else {}
        assert json.loads(ours.pop("--resources")) == {f"pd_host_{host}": 1, **entry}
        assert theirs == {}, "each of the guide's options is above"
        del ours["--num-cpus"], ours["--object-store-memory"]
        assert set(ours) == PINNED | {"--block", "--disable-usage-stats"}
        assert found[f"ray-{host}"].env["VLLM_HOST_IP"] == addresses[host], "the guide has names"
        assert found[f"ray-{host}"].gpus == ("0",)


def test_the_guides_server_is_started_once_beside_the_head() -> None:
    made = guide()
    (instance,) = made.instances
    assert instance.containers[0] == ("te1", "mixed-te1-0")
    assert {name for name in specs(made) if name.startswith("mixed")} == {"mixed-te1-0"}
    spec = specs(made)["mixed-te1-0"]
    assert spec.command[:3] == ("vllm", "serve", "/data/models/qwen2.5-14b")
    theirs, ours = options(GUIDE_SERVER), told(spec)
    assert theirs.pop("--model") == spec.command[2]
    assert theirs.pop("--pipeline-parallel-size") == "1", "vLLM's default"
    assert theirs.pop("--host") == "0.0.0.0"
    assert ours.pop("--host") == "172.18.81.126", "on purpose: not on all networks"
    assert theirs.pop("--disable-log-requests") == "", "vLLM's default since 0.10"
    assert ours.pop("--distributed-executor-backend") == "ray", "the guide leaves it to vLLM"
    assert ours.pop("--served-model-name") == "qwen2.5-14b"
    assert ours.pop("--dtype") == "auto"
    assert ours == theirs
    assert spec.env["RAY_ADDRESS"] == "172.18.81.126:6379"


def test_the_engine_sees_the_sockets_of_the_node_beside_it() -> None:
    found = specs(guide())
    shared = [m for m in found["mixed-te1-0"].mounts if m.target == "/tmp/ray"]
    assert len(shared) == 1
    assert shared[0] in found["ray-te1"].mounts
    assert not shared[0].read_only


def test_gcs_keeps_what_it_knows_only_where_its_ray_can() -> None:
    assert "RAY_gcs_storage" not in specs(guide())["ray-te1"].env, "Ray 2.50"
    made = specs(plan(MIXED, SERVE, **HOSTS))
    assert made["ray-a"].env["RAY_gcs_storage"] == "rocksdb", "Ray 2.60 in the image of ours"
    assert "RAY_gcs_storage" not in made["ray-b"].env, "a node keeps nothing"


def test_a_host_with_the_router_alone_is_the_head_and_computes_nothing() -> None:
    made = plan({"mixed": ["a", "b"], "router": ["c"]}, SERVE, **HOSTS)
    ray = made.ray
    assert ray is not None
    assert (ray.head.host, ray.address) == ("c", "192.0.2.3:6379")
    assert ray.head.resources == {"pd_host_c": 1, "pd_entry": 1, "CPU": 0}
    assert option(specs(made)["ray-a"], "--address") == "192.0.2.3:6379"
    assert specs(made)["ray-c"].mounts == ()


def test_replicas_are_no_containers_and_the_plan_still_has_them() -> None:
    made = plan(MIXED, SERVE, **HOSTS)
    assert made.instances == ()
    assert set(specs(made)) == {"ray-a", "ray-b", "ray-c", "router"}
    assert made.ray is not None
    assert [replica.id for replica in made.ray.replicas] == ["mixed-a-0", "mixed-b-0", "mixed-c-0"]
    assert {model.path for host in made.hosts for model in host.models} == {
        mount.source for mount in specs(made)["ray-b"].mounts
    }


def test_a_node_has_the_cards_of_its_replicas_and_no_others() -> None:
    entries = [{"role": "mixed", "devices": [4, 5]}, {"role": "mixed", "devices": [1, 2]}]
    every = {**ON_RAY, **SERVE, "pd_tensor_parallel_size": 2, "pd_devices": [0, 1, 2, 4, 5]}
    made = plan(MIXED, every, **(HOSTS | {"b": HOSTS["b"] | {"pd_instances": entries}}))
    spec = specs(made)["ray-b"]
    assert spec.gpus == ("1", "2", "4", "5")
    assert option(spec, "--num-gpus") == "4"
    assert json.loads(option(spec, "--resources"))["pd_mixed"] == 4


def test_a_node_has_shared_memory_for_rays_objects_and_each_engine() -> None:
    every = {**SERVE, "pd_ray_object_store_gib": 2, "pd_shm_gib": 3}
    entries = [{"role": "mixed"}, {"role": "mixed"}]
    found = specs(plan(MIXED, every, **(HOSTS | {"b": HOSTS["b"] | {"pd_instances": entries}})))
    assert found["ray-a"].shm_size == 5 << 30
    assert found["ray-b"].shm_size == 8 << 30
    assert option(found["ray-b"], "--object-store-memory") == str(2 << 30)


def test_npus_are_told_by_their_own_word() -> None:
    every = {
        "pd_accelerator": "ascend",
        "pd_image": "quay.io/ascend/vllm-ascend:v0.23.0",
        "pd_model_path": "/srv/models/qwen",
        "pd_stack": "ray",
        "pd_ray_mode": "executor",
        "pd_ray_version": "2.55.0",
    }
    entry = [{"role": "mixed", "hosts": ["b"], "tensor_parallel_size": 4}]
    groups = {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]}
    made = plan(groups, every, a={**HOSTS["a"], "pd_instances": entry}, b=HOSTS["b"])
    spec = specs(made)["ray-b"]
    assert json.loads(option(spec, "--resources")) == {"pd_host_b": 1, "NPU": 2}
    assert option(spec, "--num-gpus") == "0"
    assert {"/dev/davinci0", "/dev/davinci1", "/dev/davinci_manager"} <= set(spec.devices)


def test_given_ports_are_those_of_all_parts_and_of_the_keeper() -> None:
    given = {"gcs": 7000, "dashboard": 7001, "workers": 20000}
    made = plan(MIXED, {**SERVE, "pd_ray_ports": given}, **HOSTS)
    found = specs(made)
    assert option(found["ray-a"], "--port") == "7000"
    assert option(found["ray-b"], "--address") == "192.0.2.1:7000"
    assert option(found["ray-b"], "--max-worker-port") == "20063"
    assert option(found["router"], "--dashboard") == "http://127.0.0.1:7001"
    assert made.host("a").observe.serve == "http://127.0.0.1:7001"
    assert {7000, 7001, 20000, 20063} <= {port.port for port in made.host("a").ports}


def test_the_dashboard_is_nowhere_else_than_on_this_host() -> None:
    made = plan(MIXED, SERVE, **HOSTS)
    ports = {p.port: p.address for p in made.host("a").ports}
    assert ports[8265] == "127.0.0.1"
    assert 8265 not in {p.port for p in made.host("b").ports}


@pytest.mark.parametrize(
    ("more", "port", "cause", "fix"),
    [
        ({"pd_router_port": 10150}, 10150, "Ray's workers", "ray-a another pd_ray_ports.workers"),
        ({"pd_ray_ports": {"gcs": 6380}}, 6380, "Ray's gcs", "ray-a another pd_ray_ports."),
        ({"pd_router_port": 12000}, 12000, "KV side channel", "router another pd_router_port"),
    ],
)
def test_ports_that_something_else_wants_are_refused(
    more: dict[str, Any], port: int, cause: str, fix: str
) -> None:
    groups = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}
    found = only(problems(groups, {**SERVE, **more}, a=HOSTS["a"], b=HOSTS["b"]))
    assert found.thing == f"port {port}"
    assert cause in found.cause
    assert found.fix.startswith(f"give {fix}")


def test_hosts_try_the_ports_of_the_head_and_each_others() -> None:
    made = plan(MIXED, SERVE, **HOSTS)
    tried = {(each.source, each.target, each.port) for each in links(made)}
    assert {("b", "a", 6379), ("c", "b", 6380), ("b", "c", 6381)} <= tried
    assert ("a", "b", 6379) not in tried, "only the head has that"
    assert not [each for each in tried if each[2] == 8265], "nobody else's business"


@pytest.mark.parametrize(
    ("routers", "cause"),
    [
        (["a", "b"], "2 hosts in it, a service has one router; Ray's head is on it"),
        ([], "no host in it; Ray's head is on it"),
    ],
)
def test_two_heads_and_none_are_refused(routers: list[str], cause: str) -> None:
    problem = only(problems({**MIXED, "router": routers}, SERVE, **HOSTS))
    assert (problem.thing, problem.cause) == ("group router", cause)
    assert "one host" in problem.fix


NAMES = ("a", "b", "c", "d")


@st.composite
def rays(draw: st.DrawFn) -> Service:
    """Draw an inventory on Ray that has a fair chance to be accepted."""
    hosts = list(NAMES[: draw(st.integers(1, len(NAMES)))])
    some = st.lists(st.sampled_from(hosts), min_size=1, unique=True)
    base = draw(st.sampled_from([{}, ON_RAY]))
    every: dict[str, Any] = {**base, **SERVE}
    groups: dict[str, list[str]] = {"all": hosts, "router": [draw(st.sampled_from(hosts))]}
    groups |= draw(
        st.one_of(
            st.fixed_dictionaries({"mixed": some}),
            st.fixed_dictionaries({"prefill": some, "decode": some}),
        )
    )
    every["pd_tensor_parallel_size"] = draw(st.sampled_from([1, 1, 2]))
    every["pd_ray_ports"] = draw(st.sampled_from([{}, {}, {"gcs": 6380}, {"workers": 20000}]))
    hostvars: dict[str, dict[str, Any]] = {}
    for number, host in enumerate(hosts):
        mine = hostvars.setdefault(host, dict(every))
        mine["pd_address"] = draw(st.sampled_from([f"10.0.0.{number}"] * 9 + ["10.0.1.1"]))
        if base:
            mine["pd_devices"] = list(range(draw(st.integers(4, 8))))
        roles = [role for role in ("prefill", "decode", "mixed") if host in groups.get(role, [])]
        counts = [draw(st.integers(1, 2)) for _ in roles]
        if roles:
            mine["pd_instances"] = [
                {"role": role}
                for role, count in zip(roles, counts, strict=True)
                for _ in range(count)
            ]
    return groups, hostvars


@st.composite
def executors(draw: st.DrawFn) -> Service:
    """Draw an inventory with one engine over several hosts, and perhaps others beside it."""
    hosts = list(NAMES[: draw(st.integers(2, len(NAMES)))])
    first, *others = hosts
    further = others[: draw(st.integers(1, len(others)))]
    size = (1 + len(further)) * draw(st.integers(1, 2))
    entry: dict[str, Any] = {"role": "mixed", "hosts": further, "tensor_parallel_size": size}
    alone = draw(st.integers(0, 1))
    hostvars: dict[str, dict[str, Any]] = {
        host: {
            **EXECUTOR,
            "pd_address": f"10.0.0.{number}",
            "pd_devices": list(range(draw(st.integers(2, 4)))),
        }
        for number, host in enumerate(hosts)
    }
    hostvars[first]["pd_instances"] = [entry] + [{"role": "mixed"}] * alone
    return {"all": hosts, "mixed": [first], "router": [draw(st.sampled_from(hosts))]}, hostvars


def accepted(service: Service) -> Plan:
    """Return the plan of an inventory that is accepted; the others are no example."""
    made = attempt(service)
    assume(made is not None)
    assert made is not None
    return made


any_service = st.one_of(rays(), executors())


@settings(max_examples=80)
@given(any_service)
def test_any_accepted_inventory_has_one_head_that_all_nodes_join(service: Service) -> None:
    made = accepted(service)
    assert made.ray is not None
    nodes = [made_of for made_of in specs(made).values() if made_of.command[:2] == ("ray", "start")]
    heads = [spec for spec in nodes if "--head" in spec.command]
    assert len(heads) == 1
    assert [node.id for node in made.ray.nodes if node.head] == [made.ray.head.id]
    address = f"{option(heads[0], '--node-ip-address')}:{option(heads[0], '--port')}"
    joined = {option(spec, "--address") for spec in nodes if spec is not heads[0]}
    assert joined <= {address}
    assert address == made.ray.address
    assert len(nodes) == len(made.ray.nodes)
    assert made.ray.head.host == made.router.host


@settings(max_examples=80)
@given(any_service)
def test_no_port_of_a_machine_is_planned_twice_on_ray(service: Service) -> None:
    made = accepted(service)
    ports = Counter((host.address, port.port) for host in made.hosts for port in host.ports)
    assert [key for key, times in ports.items() if times > 1] == []


@settings(max_examples=80)
@given(rays())
def test_nodes_have_together_what_the_replicas_of_each_role_need(service: Service) -> None:
    made = accepted(service)
    assert made.ray is not None
    _, hostvars = service
    size = next(iter(hostvars.values()))["pd_tensor_parallel_size"]
    replicas = Counter(replica.role for replica in made.ray.replicas)
    has = made.ray.resources
    assert {role: has[f"pd_{role}"] for role in replicas} == {
        role: count * size for role, count in replicas.items()
    }
    ranks = sum(replicas.values()) * size
    assert has["CPU"] == ranks
    assert has.get("GPU", ranks) == ranks
    assert has["pd_entry"] == 1
    for node in made.ray.nodes:
        here = Counter(r.role for r in made.ray.replicas if r.host == node.host)
        assert {role: node.resources[f"pd_{role}"] for role in here} == {
            role: count * size for role, count in here.items()
        }


@settings(max_examples=40)
@given(executors())
def test_nodes_have_as_many_cards_as_the_engine_over_hosts_has_ranks(service: Service) -> None:
    made = accepted(service)
    assert made.ray is not None
    spanning = next(instance for instance in made.instances if instance.parts)
    assert made.ray.resources["GPU"] == spanning.ranks
    assert all(
        not set(node.gpus) & set(engine.gpus)
        for host in made.hosts
        for node in [c.spec for c in host.containers if c.kind in ("head", "node")]
        for engine in [
            c.spec for c in host.containers if c.kind == "instance" and c.id != spanning.id
        ]
    ), "cards of engines beside the cluster are not Ray's"


@settings(max_examples=40)
@given(any_service)
def test_planning_on_ray_is_deterministic(service: Service) -> None:
    assert accepted(service).dump() == accepted(service).dump()


@settings(max_examples=60)
@given(rays())
def test_adding_a_host_changes_no_other_node_and_of_the_rest_the_keeper(service: Service) -> None:
    before = accepted(service)
    groups, hostvars = service
    role = "mixed" if "mixed" in groups else "decode"
    new = {k: v for k, v in hostvars["a"].items() if k != "pd_instances"}
    after = accepted(
        (
            {**groups, "all": [*groups["all"], "new"], role: [*groups[role], "new"]},
            {**hostvars, "new": {**new, "pd_address": "10.0.9.9"}},
        )
    )
    old, now = specs(before), specs(after)
    assert {name for name in old if old[name].digest != now[name].digest} == {"router"}
    assert set(now) - set(old) == {"ray-new"}
