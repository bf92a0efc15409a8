"""Where instances go: ids, settings by strength, devices."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.plan import Instance, Plan
from tests.unit.builders import (
    ASCEND,
    NVIDIA,
    ONE_HOST,
    TWO_HOSTS,
    lines,
    only,
    option,
    plan,
    problems,
    specs,
)


def by_id(of: Plan) -> dict[str, Instance]:
    return {instance.id: instance for instance in of.instances}


def test_ids_come_from_role_host_and_index() -> None:
    assert list(by_id(plan())) == ["prefill-a-0", "decode-a-0"]


def test_id_of_a_dotted_host_name_can_name_a_container() -> None:
    groups = {group: ["Node1.example.org"] for group in ONE_HOST}
    assert next(iter(by_id(plan(groups)))) == "prefill-node1-example-org-0"


def test_id_of_a_host_name_beyond_ascii_can_name_a_container() -> None:
    groups = {group: ["主机1"] for group in ONE_HOST}
    assert all(name.isascii() for name in by_id(plan(groups, {"pd_address": "10.0.0.1"})))


def test_instance_keeps_the_name_that_it_is_given() -> None:
    entries = [{"role": "prefill", "name": "p"}, {"role": "decode", "name": "d"}]
    made = plan(every={"pd_instances": entries})
    assert list(by_id(made)) == ["p", "d"]
    assert by_id(made)["p"].container == "pd-pd-p"


def test_two_instances_of_one_name_are_refused() -> None:
    entries = [{"role": "prefill", "name": "x"}, {"role": "decode", "name": "x"}]
    problem = only(problems(every={"pd_instances": entries}))
    assert problem.thing == "instance x"
    assert problem.cause == "2 instances have this name"


def test_no_instance_may_be_called_router() -> None:
    entries = [{"role": "prefill", "name": "router"}, {"role": "decode"}]
    assert any(p.thing == "instance router" for p in problems(every={"pd_instances": entries}))


def test_several_instances_on_a_host_get_ports_of_their_own() -> None:
    entries = [{"role": "prefill"}, {"role": "prefill"}, {"role": "decode"}, {"role": "decode"}]
    made = plan(every={"pd_instances": entries})
    assert [i.port for i in made.instances] == [8100, 8101, 8200, 8201]
    assert [i.kv_port for i in made.instances] == [5600, 5601, 5700, 5701]
    assert [i.internal_port for i in made.instances] == [12000, 12008, 12016, 12024]


def test_default_ports_of_instances_of_different_sizes_do_not_clash() -> None:
    entries = [
        {"role": "prefill", "tensor_parallel_size": 4},
        {"role": "prefill", "tensor_parallel_size": 1},
        {"role": "decode"},
    ]
    made = plan(every={"pd_instances": entries})
    big, small, _ = made.instances
    assert small.kv_port not in range(big.kv_port, big.kv_port + 4)


def test_setting_of_an_entry_beats_the_roles_and_the_roles_the_hosts() -> None:
    entries = [{"role": "prefill"}, {"role": "decode", "kv_cache_gib": 4}, {"role": "decode"}]
    found = specs(
        plan(
            every={
                "pd_kv_cache_gib": 2,
                "pd_decode": {"kv_cache_gib": 3},
                "pd_instances": entries,
            }
        )
    )
    wanted = {"prefill-a-0": "2", "decode-a-0": "4", "decode-a-1": "3"}
    assert {name: found[name].env["VLLM_CPU_KVCACHE_SPACE"] for name in wanted} == wanted


def test_environments_of_all_levels_are_merged_and_the_strongest_wins() -> None:
    found = specs(
        plan(every={"pd_env": {"A": "1", "B": "1"}, "pd_decode": {"env": {"B": "2", "C": "3"}}})
    )
    env = found["decode-a-0"].env
    assert (env["A"], env["B"], env["C"]) == ("1", "2", "3")
    assert "C" not in found["prefill-a-0"].env


def test_users_environment_beats_pdinfras_own() -> None:
    assert specs(plan(every={"pd_env": {"UCX_TLS": "rc"}}))["prefill-a-0"].env["UCX_TLS"] == "rc"


def test_users_arguments_come_last_so_that_they_win() -> None:
    spec = specs(plan(every={"pd_engine_args": ["--seed", "7"]}))["decode-a-0"]
    assert spec.command[-2:] == ("--seed", "7")


def test_a_role_can_switch_off_the_arguments_of_all() -> None:
    made = plan(every={"pd_engine_args": ["--seed", "7"], "pd_decode": {"engine_args": []}})
    assert "--seed" not in specs(made)["decode-a-0"].command
    assert "--seed" in specs(made)["prefill-a-0"].command


def test_false_and_zero_like_values_of_a_stronger_level_count() -> None:
    made = plan(every={"pd_enforce_eager": True, "pd_decode": {"enforce_eager": False}})
    assert "--enforce-eager" not in specs(made)["decode-a-0"].command


def test_devices_are_dealt_from_the_hosts_pool_in_order() -> None:
    made = plan(
        every={
            **NVIDIA,
            "pd_devices": [4, 5, 6],
            "pd_decode": {"tensor_parallel_size": 2},
        }
    )
    assert [i.devices for i in made.instances] == [(4,), (5, 6)]
    assert [specs(made)[i.id].gpus for i in made.instances] == [("4",), ("5", "6")]


def test_without_a_pool_devices_start_at_zero_on_every_host() -> None:
    made = plan(TWO_HOSTS, NVIDIA)
    assert [i.devices for i in made.instances] == [(0,), (0,)]


def test_devices_named_by_one_instance_are_not_dealt_to_another() -> None:
    made = plan(every={**NVIDIA, "pd_decode": {"devices": [0]}})
    assert {i.role: i.devices for i in made.instances} == {"prefill": (1,), "decode": (0,)}


def test_device_used_twice_names_both_users() -> None:
    found = problems(
        every={**NVIDIA, "pd_prefill": {"devices": [3]}, "pd_decode": {"devices": [3]}}
    )
    problem = only(found)
    assert (problem.host, problem.thing) == ("a", "device 3")
    assert problem.cause == "used 2 times, by prefill-a-0 and decode-a-0"


def test_device_listed_twice_in_the_pool_is_not_dealt_twice() -> None:
    # Right answers: refused, or the second instance left without a card (which is refused too).
    assert "device" in lines(problems(every={**NVIDIA, "pd_devices": [0, 0]}))


def test_two_inventory_hosts_of_one_machine_share_its_devices() -> None:
    own = {"pd_port": 8150, "pd_kv_port": 5650, "pd_internal_port": 12100}
    same = {**NVIDIA, "pd_address": "10.0.0.1"}
    groups = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}
    assert "device 0" in lines(
        problems(groups, same, a={"pd_devices": [0]}, b={"pd_devices": [0], **own})
    )


def test_pool_that_is_too_small_says_what_is_missing() -> None:
    problem = only(
        problems(every={**NVIDIA, "pd_devices": [0, 1], "pd_decode": {"tensor_parallel_size": 2}})
    )
    assert problem.thing == "decode-a-0"
    assert problem.cause == "tensor_parallel_size is 2, but it has 1 devices"


def test_devices_on_a_cpu_host_are_refused() -> None:
    problem = only(problems(every={"pd_devices": [0]}))
    assert problem.cause == "a CPU host has no devices"


def test_ascend_instance_gets_exactly_its_cards_and_the_control_devices() -> None:
    made = plan(every={**ASCEND, "pd_devices": [2, 5]})
    spec = specs(made)["decode-a-0"]
    assert spec.devices[0] == "/dev/davinci5"
    assert not any("davinci2" in d for d in spec.devices)
    assert "/dev/davinci_manager" in spec.devices
    assert spec.env["ASCEND_RT_VISIBLE_DEVICES"] == "5"
    assert "/etc/hccn.conf" in {m.source for m in spec.mounts}
    assert not spec.privileged


@pytest.mark.parametrize("size", [3, 5, 16])
def test_tensor_parallel_size_must_divide_the_tiny_models_heads(size: int) -> None:
    problem = only(problems(every={"pd_decode": {"tensor_parallel_size": size}}))
    assert problem.thing == "decode-a-0"
    assert problem.cause == f"tensor_parallel_size {size} does not divide the 8 heads of tiny-qwen2"
    assert problem.fix == "use a divisor of 8"


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_tensor_parallel_size_that_divides_the_heads_is_planned(size: int) -> None:
    made = plan(every={"pd_decode": {"tensor_parallel_size": size}})
    assert option(specs(made)["decode-a-0"], "--tensor-parallel-size") == str(size)


def test_absurd_tensor_parallel_size_is_told_in_a_few_lines() -> None:
    assert len(problems(every={"pd_decode": {"tensor_parallel_size": 65_000}})) < 20


@pytest.mark.parametrize("variable", ["memory_gib", "shm_gib"])
@pytest.mark.parametrize("value", [float("inf"), "inf"])
def test_endless_memory_is_refused_not_a_crash(variable: str, value: Any) -> None:
    assert variable in lines(problems(every={f"pd_{variable}": value}))


def test_memory_limits_are_bytes_of_the_container() -> None:
    spec = specs(plan(every={"pd_memory_gib": 1.5, "pd_shm_gib": 2}))["decode-a-0"]
    assert spec.memory == 3 * 1024**3 // 2
    assert spec.shm_size == 2 * 1024**3


def test_container_has_no_rights_unless_asked_for() -> None:
    found = specs(plan(every={"pd_decode": {"privileged": True}}))
    usual, asked = found["prefill-a-0"], found["decode-a-0"]
    assert not usual.privileged
    assert usual.cap_drop == ("ALL",)
    assert usual.security_opts == ("no-new-privileges",)
    assert asked.privileged
