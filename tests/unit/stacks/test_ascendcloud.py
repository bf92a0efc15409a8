"""Containers of stack ascendcloud are the guide's; what its bundle or tables cannot do is refused.

The guide is ascendcloud-ranktable-pd (2025-07-29); its 1p1d is inventories/ascendcloud-1p1d.
"""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from pdinfra.model.plan import ContainerSpec, Plan
from pdinfra.model.problems import Problem
from pdinfra.planning.finish import finish
from tests.unit.ascend import CLOUD, GUIDE, SBIN, addressed, bare, cloud, guide
from tests.unit.builders import ONE_HOST, TWO_HOSTS, Groups, lines, only, problems, specs

TOOLS = "/home/ma-user/AscendCloud/AscendCloud-LLM/llm_tools"
MODEL = "/srv/models/Qwen2.5-7B-Instruct"
STARTED = """
    sh {tools}/PD_separate/start_servers.sh \
        --model={model} \
        --tensor-parallel-size=2 \
        --max-model-len=4096 \
        --max-num-seqs=256 \
        --max-num-batched-tokens=4096 \
        --host=0.0.0.0 \
        --port={port} \
        --served-model-name Qwen2.5-7B-Instruct
"""
"""Steps two, three and four: they differ in the port alone."""
PORTS = {"prefill-a-0": 8088, "decode-a-0": 8089, "router": 9000}
DEVICES = {"prefill-a-0": (4, 5), "decode-a-0": (6, 7), "router": ()}
MOUNTS = """
    -v /etc/localtime:/etc/localtime
    -v /usr/local/Ascend/driver:/usr/local/Ascend/driver
    -v /etc/ascend_install.info:/etc/ascend_install.info
    -v /var/log/npu:/usr/slog
    -v /usr/local/sbin/npu-smi:/usr/local/sbin/npu-smi
    -v /sys/fs/cgroup:/sys/fs/cgroup:ro
"""
TABLES = "/var/lib/pdinfra/pd/ranktables"
CPU_ENTRY = {"prefill": ["a"], "decode": ["a"], "router": ["c"]}


def up(of: Plan, **more: Any) -> dict[str, ContainerSpec]:
    """Return the specs as they are once the hosts were looked at; more: as in ``bare``."""
    return specs(finish(of, bare(of, **more)).plan)


def after_shell(spec: ContainerSpec) -> list[str]:
    """Return what the container's shell is told to run, as a person would type it."""
    shell, flags, script, *words = spec.command
    assert (shell, flags) == ("bash", "-ic"), "what the image sets up is in its shell's rc file"
    assert script == 'exec sh "$0" "$@"'
    return ["sh", *words]


def bound(spec: ContainerSpec) -> list[str]:
    """Return mounts as ``docker run -v`` writes them, without their modes."""
    return [f"{mount.source}:{mount.target}" for mount in spec.mounts]


@pytest.mark.parametrize("name", PORTS)
def test_the_guides_command_lines(name: str) -> None:
    wanted = STARTED.format(tools=TOOLS, model=MODEL, port=PORTS[name])
    assert after_shell(up(guide())[name]) == shlex.split(wanted)


@pytest.mark.parametrize("name", PORTS)
def test_the_guides_devices_each_instances_own_and_none_for_the_scheduler(name: str) -> None:
    control = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
    own = tuple(f"/dev/davinci{device}" for device in DEVICES[name])
    assert up(guide())[name].devices == (*own, *control)


@pytest.mark.parametrize("name", PORTS)
def test_the_guides_mounts_the_model_and_the_tables(name: str) -> None:
    wanted = [word.removesuffix(":ro") for word in MOUNTS.split() if word != "-v"]
    spec = up(guide())[name]
    assert bound(spec) == [f"{MODEL}:{MODEL}", *wanted, f"{TABLES}:{TABLES}"]
    assert [m.target for m in spec.mounts if not m.read_only] == ["/usr/slog"]


@pytest.mark.parametrize("name", PORTS)
def test_the_guides_user_and_network(name: str) -> None:
    spec = up(guide())[name]
    assert (spec.user, spec.network_mode, spec.privileged) == ("ma-user", "host", False)
    assert spec.cap_drop == ("ALL",)


def test_the_guides_environment() -> None:
    made = up(guide())
    folder = made["router"].env["GLOBAL_RANK_TABLE_FILE_PATH"].rpartition("/")[0]
    locals_ = {"prefill-a-0": "45", "decode-a-0": "67", "router": "host"}
    more = {
        "NODE_PORTS": "8088,8089",
        "USE_OPENAI": "1",
        "no_proxy": "localhost,127.0.0.1,192.0.2.11",
    }
    for name, local in locals_.items():
        assert made[name].env == {
            "GLOBAL_RANK_TABLE_FILE_PATH": f"{folder}/global_ranktable_192.0.2.11.json",
            "RANK_TABLE_FILE_PATH": f"{folder}/local_ranktable_192.0.2.11_{local}.json",
            **(more if name == "router" else {}),
        }


def test_instances_start_before_the_scheduler_which_is_the_entry() -> None:
    of = guide()
    assert [c.id for c in of.host("a").containers] == ["prefill-a-0", "decode-a-0", "router"]
    assert of.router.static
    assert of.router.url == "http://192.0.2.11:9000"
    assert {p.port: (p.owner, p.address) for p in of.host("a").ports} == {
        8088: ("prefill-a-0", "0.0.0.0"),
        8089: ("decode-a-0", "0.0.0.0"),
        9000: ("router", "0.0.0.0"),
    }


def test_health_is_any_answer_because_the_bundles_path_is_not_known() -> None:
    for name, port in PORTS.items():
        kind, script = up(guide())[name].healthcheck.test
        assert kind == "CMD-SHELL"
        assert f"http://192.0.2.11:{port}/health" in script
        assert "000|5??) exit 1" in script


@pytest.mark.parametrize("place", [SBIN, "/usr/local/bin/npu-smi"])
def test_npu_smi_is_mounted_from_where_the_host_has_it(place: str) -> None:
    for spec in up(guide(), a={"npu_smi": (place,)}).values():
        smi = [mount for mount in spec.mounts if mount.source.endswith("npu-smi")]
        assert [(mount.source, mount.target) for mount in smi] == [(place, place)]


def test_npu_smi_at_both_places_is_mounted_as_the_guide_has_it() -> None:
    both = ("/usr/local/bin/npu-smi", SBIN)
    assert f"{SBIN}:{SBIN}" in bound(up(guide(), a={"npu_smi": both})["prefill-a-0"])


def test_scheduler_on_a_host_without_cards_has_nothing_of_a_driver() -> None:
    spec = up(cloud(CPU_ENTRY, GUIDE))["router"]
    assert bound(spec) == [f"{MODEL}:{MODEL}", f"{TABLES}:{TABLES}"]
    assert spec.devices == ()
    assert spec.user == "ma-user"
    assert spec.env["RANK_TABLE_FILE_PATH"].endswith("/local_ranktable_192.0.2.12_host.json")


def test_no_proxy_has_every_engines_host_once() -> None:
    assert up(cloud())["router"].env["no_proxy"] == "localhost,127.0.0.1,192.0.2.11,192.0.2.12"


def test_policies_go_to_those_who_know_them() -> None:
    made = up(guide(pd_prefill_batching_policy="gtsf", pd_prefill_routing_policy="BLB"))
    policies = {
        name: [word for word in spec.command if word.startswith("--prefill-")]
        for name, spec in made.items()
    }
    assert policies == {
        "prefill-a-0": ["--prefill-batching-policy=gtsf"],
        "decode-a-0": [],
        "router": ["--prefill-routing-policy=BLB"],
    }


def test_quantization_and_sizes_are_told_to_all_three() -> None:
    sizes: dict[str, Any] = {
        "pd_max_model_len": 8192, "pd_max_num_seqs": 64, "pd_quantization": "awq",
    }  # fmt: skip
    for spec in up(guide(**sizes)).values():
        assert "--quantization=awq" in spec.command
        assert "--max-model-len=8192" in spec.command
        assert "--max-num-batched-tokens=8192" in spec.command
        assert "--max-num-seqs=64" in spec.command


def test_the_users_own_words_and_variables_reach_the_engines() -> None:
    made = up(guide(pd_engine_args=["--trust-remote-code"], pd_env={"ASCEND_X": "1"}))
    for name in ("prefill-a-0", "decode-a-0"):
        assert made[name].command[-1] == "--trust-remote-code"
        assert made[name].env["ASCEND_X"] == "1"


def test_another_bundle_and_user_are_taken() -> None:
    spec = up(guide(pd_llm_tools_path="/opt/llm_tools/", pd_container_user="1000"))["router"]
    assert after_shell(spec)[1] == "/opt/llm_tools/PD_separate/start_servers.sh"
    assert spec.user == "1000"


def refused(
    groups: Groups = ONE_HOST,
    every: dict[str, Any] | None = None,
    **hosts: dict[str, Any],
) -> list[Problem]:
    """Return what is wrong with the guide's variables and others."""
    own = {name: {**mine, **hosts.get(name, {})} for name, mine in addressed(groups).items()}
    return problems(groups, {**GUIDE, **(every or {})}, **own)


@pytest.mark.parametrize(
    ("every", "thing", "cause", "fix"),
    [
        pytest.param(
            {"pd_decode": {"devices": [5, 6], "port": 8089}},
            "device 5",
            "used 2 times, by prefill-a-0 and decode-a-0",
            "give each instance devices of its own",
            id="overlapping cards",
        ),
        pytest.param(
            {"pd_decode": {"devices": [6, 7], "port": 8088}},
            "port 8088",
            "wanted by prefill-a-0 (API) and decode-a-0 (API)",
            "give decode-a-0 another port",
            id="one port on one host",
        ),
        pytest.param(
            {"pd_decode": {"devices": [6, 7], "port": 9000}},
            "port 9000",
            "wanted by decode-a-0 (API) and router (API)",
            "give router another pd_router_port",
            id="the scheduler's port",
        ),
        pytest.param(
            {"pd_model_path": "/home/ma-user/models/q"},
            "pd_model_path /home/ma-user/models/q",
            "a mount below /home/ma-user hides what the image has there",
            "put the model elsewhere, such as /srv/models",
            id="model in the user's home",
        ),
        pytest.param(
            {"pd_env": {"NODE_PORTS": "1,2"}},
            "pd_env.NODE_PORTS",
            "pdinfra derives it from the inventory",
            "remove it",
            id="NODE_PORTS by hand",
        ),
        pytest.param(
            {"pd_prefill": {**GUIDE["pd_prefill"], "env": {"RANK_TABLE_FILE_PATH": "/x"}}},
            "pd_prefill.env.RANK_TABLE_FILE_PATH",
            "pdinfra derives it from the inventory",
            "remove it",
            id="a table by hand",
        ),
        pytest.param(
            {"pd_decode": {**GUIDE["pd_decode"], "kv_port": 36000}},
            "pd_decode.kv_port",
            "means nothing to stack ascendcloud",
            "remove it",
            id="kv_port of a role",
        ),
        *[
            pytest.param(
                {f"pd_{name}": value},
                f"pd_{name}",
                "means nothing to stack ascendcloud",
                "remove it",
                id=name,
            )
            for name, value in {
                "connector": "NixlConnector",
                "kv_port": 36000,
                "internal_port": 12000,
                "router_policy": "round_robin",
                "router_image": "vllm-router:1",
                "router_metrics_port": 9100,
                "drain_seconds": 5,
                "kv_cache_gib": 1,
            }.items()
        ],
    ],
)
def test_bad_input_is_refused_with_its_fix(
    every: dict[str, Any], thing: str, cause: str, fix: str
) -> None:
    problem = only(refused(every=every))
    assert (problem.host, problem.thing, problem.cause, problem.fix) == ("a", thing, cause, fix)


def test_steps_smaller_than_the_longest_request_are_refused_for_each_instance() -> None:
    found = refused(every={"pd_max_model_len": 8192, "pd_max_num_batched_tokens": 4096})
    assert [problem.thing for problem in found] == ["prefill-a-0", "decode-a-0"]
    assert {p.cause for p in found} == {"max_num_batched_tokens 4096 is below max_model_len 8192"}
    assert {p.fix for p in found} == {"set max_num_batched_tokens to 8192 or more"}


def test_prefill_and_decode_on_one_port_of_different_hosts_are_refused() -> None:
    problem = only(refused(TWO_HOSTS, {"pd_decode": {"devices": [6, 7], "port": 8088}}))
    assert (problem.host, problem.thing) == ("b", "port 8088")
    assert problem.cause == "decode decode-b-0 has the port of prefill prefill-a-0 on a"
    assert problem.fix == "give decode-b-0 another port"


def test_two_instances_of_a_role_may_have_one_port_on_different_hosts() -> None:
    assert up(cloud())["router"].env["NODE_PORTS"] == "8088,8088,8089,8089"


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("127.0.0.1", "only the host itself reaches it"),
        ("npu-1.example.com", "not an IPv4 address"),
        ("fd00::1", "not an IPv4 address"),
    ],
)
def test_host_whose_address_means_nothing_to_the_others_is_refused(
    address: str, cause: str
) -> None:
    problem = only(refused(a={"pd_address": address}))
    assert (problem.host, problem.thing) == ("a", f"address {address}")
    assert problem.cause == cause
    assert (
        problem.fix == "set pd_address to the host's IPv4 address in the network between the hosts"
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "npu-1.example.com"])
def test_the_schedulers_host_needs_an_address_too(address: str) -> None:
    found = refused(CPU_ENTRY, c={"pd_address": address})
    assert {problem.host for problem in found} == {"c"}, lines(found)
    assert f"address {address}" in {problem.thing for problem in found}


def test_instances_of_a_role_have_one_size() -> None:
    spread = {"prefill": ["a", "b", "c"], "decode": ["c"], "router": ["a"]}
    wide = {"devices": [0, 1, 2, 3], "port": 8088, "tensor_parallel_size": 4}
    problem = only(refused(spread, b={"pd_prefill": wide}))
    assert (problem.host, problem.thing) == ("b", "prefill instance on devices 0,1,2,3")
    assert problem.cause == "4 cards, the other prefill instances have 2"
    assert problem.fix == "give every prefill instance as many cards: its tensor-parallel size"


@pytest.mark.parametrize(
    ("routers", "cause"),
    [([], "no host in it"), (["a", "b"], "2 hosts in it, a service has one router")],
)
def test_a_service_has_one_scheduler(routers: list[str], cause: str) -> None:
    found = refused({**TWO_HOSTS, "router": routers})
    assert cause in lines(found)


def test_mixed_instances_are_refused() -> None:
    found = refused({"mixed": ["a"], "router": ["a"]}, {"pd_prefill": {}, "pd_decode": {}})
    assert "AscendCloud's scheduler knows prefill and decode instances only" in lines(found)
    assert "put the host into prefill or decode" in lines(found)


@pytest.mark.parametrize("accelerator", ["cpu", "nvidia"])
def test_other_accelerators_are_refused(accelerator: str) -> None:
    found = refused(every={"pd_accelerator": accelerator})
    (problem,) = (p for p in found if p.thing == f"pd_accelerator {accelerator}")
    assert problem.cause == "AscendCloud's instances compute on Ascend devices only"
    assert problem.fix == "set pd_accelerator to ascend, or pd_stack to native"


def test_devices_whose_files_would_have_one_name_are_refused() -> None:
    every = {
        "pd_prefill": {"devices": [1, 2], "port": 8088, "tensor_parallel_size": 2},
        "pd_decode": {"devices": [12], "port": 8089, "tensor_parallel_size": 1},
    }
    problem = only(refused(every=every))
    assert problem.host == "a"
    assert problem.thing == "local_ranktable_192.0.2.11_12.json"
    assert problem.cause == "devices 1,2 and 12 would share this file name"
    assert problem.fix == "choose other devices: the vendor's file names join their ids"


def test_scheduler_without_engines_needs_the_instances_image() -> None:
    image = GUIDE["pd_image"]
    without = {name: value for name, value in GUIDE.items() if name != "pd_image"}
    own = addressed(CPU_ENTRY)
    found = problems(CPU_ENTRY, without, a={**own["a"], "pd_image": image}, c=own["c"])
    assert (only(found).host, only(found).thing) == ("c", "pd_image")


def test_everything_wrong_is_told_at_once() -> None:
    found = lines(
        refused(
            every={
                "pd_connector": "NixlConnector",
                "pd_env": {"NODE_PORTS": "1"},
                "pd_model_path": "/home/ma-user/q",
                "pd_max_num_batched_tokens": 16,
                "pd_decode": {"devices": [5, 6], "port": 8088},
            },
            a={"pd_address": "127.0.0.1"},
        )
    )
    for said in (
        "pd_connector",
        "pd_env.NODE_PORTS",
        "/home/ma-user/q",
        "max_num_batched_tokens 16",
        "device 5",
        "port 8088",
        "address 127.0.0.1",
    ):
        assert said in found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefill_batching_policy", "gtsf"),
        ("prefill_routing_policy", "BLB"),
        ("llm_tools_path", "/opt/llm_tools"),
        ("container_user", "root"),
    ],
)
def test_its_settings_are_refused_on_another_stack(name: str, value: str) -> None:
    problem = only(problems(ONE_HOST, {f"pd_{name}": value}))
    assert (problem.host, problem.thing) == ("a", f"pd_{name}")
    assert problem.cause == "is of stack ascendcloud, this is native"
    assert problem.fix == "remove it"


def test_the_example_with_two_hosts_has_the_devices_that_it_says() -> None:
    assert [i.devices for i in cloud(every=CLOUD).instances] == [(0, 1), (2, 3), (0, 1), (2, 3)]
