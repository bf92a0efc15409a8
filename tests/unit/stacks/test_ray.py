"""What Ray Serve is told, and what an inventory cannot ask of Ray."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.model.plan import Plan
from pdinfra.model.problems import Problem
from tests.unit.builders import ON_RAY, lines, only, option, plan, problems, specs

SERVE: dict[str, Any] = {"pd_stack": "ray", "pd_connector": "nixl"}
GPUS: dict[str, Any] = {**ON_RAY, **SERVE, "pd_devices": [0, 1, 2, 3]}
EXECUTOR: dict[str, Any] = {**GPUS, "pd_ray_mode": "executor"}
HOSTS = {name: {"pd_address": f"192.0.2.{n}"} for n, name in enumerate("abc", start=1)}
MIXED = {"mixed": ["a", "b"], "router": ["a"]}
PAIRED = {"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}
OVER = {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]}
SPANNING = [{"role": "mixed", "hosts": ["b"], "tensor_parallel_size": 2}]


def hosts(**more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a, b and c with more variables for some."""
    return {name: {**mine, **more.get(name, {})} for name, mine in HOSTS.items()}


def document(made: Plan) -> dict[str, Any]:
    """Return what the keeper has Ray Serve told."""
    found: dict[str, Any] = json.loads(option(specs(made)["router"], "--application"))
    return found


def application(made: Plan) -> dict[str, Any]:
    """Return the one application."""
    (found,) = document(made)["applications"]
    return dict(found)


def config(made: Plan, role: str = "mixed") -> dict[str, Any]:
    """Return a role's LLMConfig."""
    args = application(made)["args"]
    return dict(args["llm_configs"][0] if role == "mixed" else args[f"{role}_config"])


def mixed(every: dict[str, Any] | None = None, **more: dict[str, Any]) -> Plan:
    """Return two mixed replicas on cards."""
    return plan(MIXED, {**GPUS, **(every or {})}, **hosts(**more))


def test_the_entry_listens_on_the_routers_host_alone() -> None:
    made = document(plan({**MIXED, "router": ["c"]}, {**SERVE, "pd_router_port": 8123}, **HOSTS))
    assert made["proxy_location"] == "HeadOnly"
    assert made["http_options"] == {"host": "192.0.2.3", "port": 8123}
    everywhere = mixed({"pd_router_bind": "0.0.0.0"})
    assert document(everywhere)["http_options"]["host"] == "0.0.0.0"


def test_mixed_replicas_are_one_application_of_rays_own_builder() -> None:
    made = mixed({"pd_model_name": "qwen", "pd_max_num_seqs": 8, "pd_gpu_memory_utilization": 0.75})
    found = application(made)
    assert (found["name"], found["route_prefix"]) == ("pd", "/")
    assert found["import_path"] == "ray.serve.llm:build_openai_app"
    own = config(made)
    assert own["model_loading_config"] == {"model_id": "qwen", "model_source": "/srv/models/qwen"}
    assert own["accelerator_config"] == {"kind": "gpu"}
    assert own["placement_group_config"] == {
        "bundles": [{"CPU": 1, "GPU": 1, "pd_mixed": 1}],
        "strategy": "STRICT_PACK",
    }
    assert own["engine_kwargs"] == {
        "tensor_parallel_size": 1,
        "dtype": "auto",
        "max_num_seqs": 8,
        "gpu_memory_utilization": 0.75,
    }
    assert "experimental_configs" not in own


def test_the_entry_of_the_application_is_where_the_head_is() -> None:
    entry = application(mixed())["args"]["ingress_deployment_config"]
    assert entry["num_replicas"] == 1
    assert set(entry["ray_actor_options"]["resources"]) == {"pd_entry"}


def test_prefill_and_decode_are_an_application_that_hands_kv_over() -> None:
    made = plan(PAIRED, {**GPUS, "pd_decode": {"tensor_parallel_size": 2}}, **hosts())
    assert application(made)["import_path"] == "ray.serve.llm:build_pd_openai_app"
    for role, base, ranks in (("prefill", 12000, 1), ("decode", 14000, 2)):
        own = config(made, role)
        assert own["experimental_configs"] == {"NIXL_SIDE_CHANNEL_PORT_BASE": base}
        transfer = own["engine_kwargs"]["kv_transfer_config"]
        assert transfer == {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
        bundles = own["placement_group_config"]["bundles"]
        assert bundles == [{"CPU": 1, "GPU": 1, f"pd_{role}": 1}] * ranks
    assert application(made)["deployments"] == [
        {"name": "Prefill:engine", "num_replicas": 1},
        {"name": "Decode:engine", "num_replicas": 2},
    ]


def test_on_cpu_kv_is_handed_over_in_memory_and_nobody_asks_for_cards() -> None:
    own = config(plan(PAIRED, SERVE, **HOSTS), "decode")
    assert own["accelerator_config"] == {"kind": "cpu"}
    assert own["engine_kwargs"]["kv_transfer_config"]["kv_buffer_device"] == "cpu"
    assert own["placement_group_config"]["bundles"] == [{"CPU": 1, "pd_decode": 1}]


def test_side_channels_are_ports_of_the_hosts_that_have_the_role() -> None:
    made = plan(PAIRED, SERVE, **HOSTS)
    ports = {
        h.name: [p.port for p in h.ports if p.purpose == "KV side channel"] for h in made.hosts
    }
    # A replica's place among all of its role tells its port, and any host may have any of them.
    assert ports == {"a": [12000], "b": [14000, 14001], "c": [14000, 14001]}


def test_a_replica_over_hosts_may_be_spread() -> None:
    made = plan(
        OVER, GPUS, **{k: v for k, v in hosts(a={"pd_instances": SPANNING}).items() if k != "c"}
    )
    group = config(made)["placement_group_config"]
    assert group["strategy"] == "PACK"
    assert len(group["bundles"]) == 2
    assert set(specs(made)) == {"ray-a", "ray-b", "router"}


def test_several_replicas_may_go_over_the_same_hosts() -> None:
    entries = [*SPANNING, *SPANNING]
    made = plan(OVER, GPUS, a={**HOSTS["a"], "pd_instances": entries}, b=HOSTS["b"])
    assert made.ray is not None
    assert [replica.id for replica in made.ray.replicas] == ["mixed-a-0", "mixed-a-1"]
    assert [node.resources["pd_mixed"] for node in made.ray.nodes] == [2, 2]


def test_another_number_of_replicas_is_another_number_alone() -> None:
    two = application(mixed())
    three = application(plan({**MIXED, "mixed": ["a", "b", "c"]}, GPUS, **HOSTS))
    assert two.pop("deployments") == [{"name": "LLMServer:engine", "num_replicas": 2}]
    assert three.pop("deployments") == [{"name": "LLMServer:engine", "num_replicas": 3}]
    assert two == three, "other arguments would restart every replica"


def test_bounds_let_ray_take_replicas_away_and_bring_them_back() -> None:
    made = plan(PAIRED, {**SERVE, "pd_ray_min_replicas": 2}, **HOSTS)
    prefill, decode = application(made)["deployments"]
    assert prefill["autoscaling_config"]["min_replicas"] == 1, "no more than there are"
    assert decode == {
        "name": "Decode:engine",
        "autoscaling_config": {"min_replicas": 2, "initial_replicas": 2, "max_replicas": 2},
    }
    assert made.ray is not None
    assert (made.ray.fewest("prefill"), made.ray.fewest("decode")) == (1, 2)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["--no-enable-prefix-caching"], {"enable_prefix_caching": False}),
        (["--trust-remote-code"], {"trust_remote_code": True}),
        (["--seed", "7", "--swap-space=0.5"], {"seed": 7, "swap_space": 0.5}),
        (["--revision", "no"], {"revision": "no"}),
        (["--revision", "2024-01-01"], {"revision": "2024-01-01"}),
        (["--rope-theta", "1e6"], {"rope_theta": 1e6}),
        (["--num-gpu-blocks-override", "-1"], {"num_gpu_blocks_override": -1}),
        (["--hf-overrides", '{"a": [1, null]}'], {"hf_overrides": {"a": [1, None]}}),
        (["--chat-template", "{% if x %}"], {"chat_template": "{% if x %}"}),
        (["--max-model-len", "4096"], {"max_model_len": 4096}),
    ],
)
def test_words_for_vllm_serve_are_arguments_of_the_engine(
    words: list[str], arguments: dict[str, Any]
) -> None:
    kwargs = config(mixed({"pd_engine_args": words, "pd_max_model_len": 1024}))["engine_kwargs"]
    assert {name: kwargs[name] for name in arguments} == arguments


@pytest.mark.parametrize(
    "words",
    [
        ["7"],
        ["-tp", "2"],
        ["--enforce-eager", "-O3"],
        ["--x", "a", "b"],
        ["--compilation-config.level", "3"],
    ],
)
def test_words_that_name_no_argument_are_refused(words: list[str]) -> None:
    problem = only(problems(MIXED, {**GPUS, "pd_engine_args": words}, **HOSTS))
    assert problem.thing == f"pd_engine_args {' '.join(words)}"
    assert "--name value" in problem.fix


def test_variables_of_the_environment_are_the_replicas() -> None:
    made = mixed({"pd_env": {"VLLM_LOGGING_LEVEL": "DEBUG"}})
    assert config(made)["runtime_env"] == {"env_vars": {"VLLM_LOGGING_LEVEL": "DEBUG"}}
    assert "VLLM_LOGGING_LEVEL" not in specs(made)["ray-a"].env
    assert "runtime_env" not in config(mixed())


def test_the_keepers_image_is_the_routers_own() -> None:
    given = {"pd_router_image": "registry.example/router:1"}
    assert specs(mixed(given))["router"].image == "registry.example/router:1"


def refused(
    groups: dict[str, list[str]] | None = None,
    every: dict[str, Any] | None = None,
    **more: dict[str, Any],
) -> list[Problem]:
    """Return why mixed replicas, or other groups, are not accepted."""
    groups = groups or MIXED
    used = {host for members in groups.values() for host in members}
    return problems(
        groups, every or GPUS, **{n: mine for n, mine in hosts(**more).items() if n in used}
    )


def test_one_machine_twice_is_refused() -> None:
    problem = only(refused(b={"pd_address": "192.0.2.1"}, every={**SERVE}))
    assert str(problem) == (
        "b: address 192.0.2.1: is the same machine as a, and Ray has one node on a machine. "
        "Fix: put it all on a: pd_instances can have several entries"
    )


def test_names_for_addresses_are_refused() -> None:
    problem = only(refused(b={"pd_address": "te2.example"}))
    assert (problem.host, problem.thing) == ("b", "address te2.example")
    assert "pd_address" in problem.fix


def test_a_loopback_address_is_refused() -> None:
    problem = only(
        problems({"mixed": ["a"], "router": ["a"]}, SERVE, a={"pd_address": "127.0.0.1"})
    )
    assert (problem.host, problem.thing) == ("a", "address 127.0.0.1")
    assert "take no loopback one" in problem.cause
    assert "set pd_address" in problem.fix


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"pd_image": "vllm/vllm-openai:v0.28.0"}, "vllm/vllm-openai:v0.28.0 on b"),
        ({"pd_image_digest": f"sha256:{'1' * 64}"}, f"@sha256:{'1' * 64} on b"),
    ],
)
def test_images_that_differ_are_refused(other: dict[str, Any], word: str) -> None:
    problem = only(refused(b=other))
    assert (problem.host, problem.thing) == ("inventory", "pd_image")
    assert "vllm/vllm-openai:v0.29.0 on a" in problem.cause
    assert word in problem.cause
    assert problem.fix == "give all hosts one pd_image"


def test_versions_of_ray_that_differ_are_refused() -> None:
    problem = only(refused(a={"pd_ray_version": "2.50.0"}, b={"pd_ray_version": "2.60.0"}))
    assert "pd_ray_version" in problem.thing


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "8.8.8.8", "head.example"])
def test_a_dashboard_that_others_may_reach_is_refused(address: str) -> None:
    problem = only(refused(a={"pd_ray_dashboard_address": address}))
    assert problem.thing == f"pd_ray_dashboard_address {address}"
    assert "can run code everywhere" in problem.cause
    assert "127.0.0.1" in problem.fix


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.2", "127.0.0.1"])
def test_a_dashboard_on_a_private_address_is_accepted(address: str) -> None:
    made = mixed(a={"pd_ray_dashboard_address": address})
    assert option(specs(made)["ray-a"], "--dashboard-host") == address
    assert option(specs(made)["router"], "--dashboard") == f"http://{address}:8265"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pd_kv_path", "/srv/kv"),
        ("pd_offload_gib", 4),
        ("pd_router_metrics_port", 9100),
        ("pd_router_internal_port", 9200),
        ("pd_router_policy", "random"),
        ("pd_drain_seconds", 5),
        ("pd_port", 8400),
        ("pd_kv_port", 5800),
        ("pd_internal_port", 13000),
        ("pd_master_port", 29700),
    ],
)
def test_variables_that_would_change_nothing_are_refused(name: str, value: object) -> None:
    problem = only(refused(b={name: value}))
    assert (problem.host, problem.thing, problem.fix) == ("b", name, "remove it")


def test_several_connectors_would_change_nothing_either() -> None:
    found = refused(every={**GPUS, "pd_multi_connectors": ["NixlConnector", "ExampleConnector"]})
    assert {(p.host, p.thing, p.fix) for p in found} == {
        (host, "pd_multi_connectors", "remove it") for host in "ab"
    }


@pytest.mark.parametrize(
    "where", [{"pd_mixed": {"port": 8400}}, {"pd_instances": [{"role": "mixed", "port": 8400}]}]
)
def test_useless_ports_are_found_wherever_they_are_given(where: dict[str, Any]) -> None:
    assert only(refused(b=where)).thing == "pd_port"


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"pd_max_model_len": 1024}, "max_model_len"),
        ({"pd_mixed": {"env": {"A": "1"}}}, "env"),
        ({"pd_tensor_parallel_size": 2}, "tensor_parallel_size"),
        ({"pd_model_path": "/srv/other/qwen"}, "model_path"),
    ],
)
def test_replicas_of_a_role_that_differ_are_refused(other: dict[str, Any], word: str) -> None:
    problem = only(refused(b=other))
    assert (problem.host, problem.thing) == ("b", "mixed-b-0")
    assert problem.cause.startswith(f"has another {word} than mixed-a-0")
    assert problem.fix == "give both the same, in group_vars or in pd_mixed"


def test_roles_may_differ_from_each_other() -> None:
    made = plan(PAIRED, {**GPUS, "pd_decode": {"max_num_seqs": 9}}, **hosts())
    assert config(made, "decode")["engine_kwargs"]["max_num_seqs"] == 9
    assert "max_num_seqs" not in config(made, "prefill")["engine_kwargs"]


@pytest.mark.parametrize("more", [{"threads": 2}, {"kv_cache_gib": 2}])
def test_cpu_engines_of_one_node_have_their_threads_in_common(more: dict[str, int]) -> None:
    both = {"prefill": ["a"], "decode": ["a"], "router": ["a"]}
    problem = only(refused(both, {**SERVE, "pd_decode": more}))
    assert (problem.host, problem.thing) == ("a", "decode-a-0")
    assert "than prefill-a-0" in problem.cause
    apart = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}
    made = plan(apart, {**SERVE, "pd_decode": {"threads": 2}}, **{k: HOSTS[k] for k in "ab"})
    assert specs(made)["ray-a"].env["OMP_NUM_THREADS"] == "1"
    assert specs(made)["ray-b"].env["OMP_NUM_THREADS"] == "2"


def test_another_connector_between_prefill_and_decode_is_refused() -> None:
    problem = only(refused(PAIRED, {**GPUS, "pd_connector": "mooncake"}))
    assert problem.thing == "pd_connector MooncakeConnector"
    assert "set pd_connector to nixl" in problem.fix


def test_npus_on_ray_serve_are_refused() -> None:
    every = {
        **SERVE,
        "pd_accelerator": "ascend",
        "pd_image": "quay.io/ascend/vllm-ascend:v0.23.0",
        "pd_model_path": "/srv/models/qwen",
        "pd_ray_version": "2.60.0",
    }
    problem = next(p for p in refused(every=every) if p.thing == "pd_ray_mode serve")
    assert (problem.thing, problem.fix) == (
        "pd_ray_mode serve",
        "set pd_ray_mode to executor, or pd_stack to native",
    )


@pytest.mark.parametrize("instances", [SPANNING, [{"role": "mixed", "pipeline_parallel_size": 2}]])
def test_a_cpu_engine_over_hosts_is_refused(instances: list[dict[str, Any]]) -> None:
    problem = only(refused(OVER, SERVE, a={"pd_instances": instances}))
    assert "vLLM's own executor (Ray's refuses CPUs)" in problem.cause
    assert "set pd_stack to native" in problem.fix


def test_ranks_that_hosts_cannot_share_are_refused() -> None:
    entry = [{**SPANNING[0], "tensor_parallel_size": 3}]
    text = lines(refused(OVER, EXECUTOR, a={"pd_instances": entry}))
    assert "3 ranks, which 2 hosts cannot share evenly" in text


def test_a_size_that_does_not_divide_the_models_heads_is_refused() -> None:
    text = lines(refused(every={**SERVE, "pd_tensor_parallel_size": 3}))
    assert "tensor_parallel_size 3 does not divide the 8 heads" in text


def executor(every: dict[str, Any] | None = None, **a: Any) -> str:
    """Return why one engine over a and b is not accepted."""
    return lines(refused(OVER, {**EXECUTOR, **(every or {})}, a={"pd_instances": SPANNING, **a}))


def test_rays_executor_on_cpus_is_refused() -> None:
    text = lines(refused(OVER, {**SERVE, "pd_ray_mode": "executor"}, a={"pd_instances": SPANNING}))
    assert "vLLM's Ray executor refuses CPUs" in text
    assert "pd_stack to native" in text


def test_rays_executor_without_several_hosts_is_refused() -> None:
    problem = only(refused(MIXED, EXECUTOR))
    assert "Ray would have nothing to do" in problem.cause
    assert "name further hosts in an entry of pd_instances" in problem.fix


def test_two_engines_over_several_hosts_are_refused() -> None:
    found = refused(OVER, EXECUTOR, a={"pd_instances": [*SPANNING, *SPANNING]})
    problem = only(found)
    assert (problem.host, problem.thing) == ("a", "mixed-a-1")
    assert problem.cause.startswith("goes over several hosts as mixed-a-0 does")
    assert problem.fix.startswith("give it a service and an inventory of its own")


def test_prefill_and_decode_by_the_executor_are_refused() -> None:
    groups = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}
    text = lines(refused(groups, EXECUTOR))
    assert "has the role prefill, which the Ray executor is not for here" in text
    assert "set pd_ray_mode to serve" in text


def test_bounds_for_the_executor_are_refused() -> None:
    assert "pd_ray_min_replicas: is of pd_ray_mode serve, this is executor" in executor(
        {"pd_ray_min_replicas": 1}
    )


def test_what_only_ray_has_is_refused_elsewhere() -> None:
    found = problems(MIXED, {**ON_RAY, "pd_stack": "native"}, **{k: HOSTS[k] for k in "ab"})
    assert {(p.thing, p.cause) for p in found} == {
        ("pd_ray_version", "is of stack ray, this is native")
    }


def test_everything_is_told_at_once() -> None:
    text = lines(
        refused(
            {**MIXED, "mixed": ["a", "b", "c"]},
            a={"pd_ray_dashboard_address": "0.0.0.0", "pd_kv_path": "/srv/kv"},
            b={"pd_address": "te2", "pd_image": "vllm/vllm-openai:v0.28.0", "pd_port": 8400},
            c={"pd_address": "192.0.2.1", "pd_max_num_seqs": 3, "pd_drain_seconds": 3},
        )
    )
    for words in (
        "pd_ray_dashboard_address 0.0.0.0",
        "pd_kv_path",
        "address te2",
        "images differ",
        "pd_port",
        "same machine as a",
        "another max_num_seqs",
        "pd_drain_seconds",
    ):
        assert words in text
