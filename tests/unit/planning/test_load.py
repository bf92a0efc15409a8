"""What a user is told about groups and variables, before anything is planned."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.problems import InvalidInventoryError
from pdinfra.planning.load import load
from tests.unit.builders import ONE_HOST, TWO_HOSTS, inventory, lines, only, problems


def test_smallest_inventory_is_three_groups_and_no_variable() -> None:
    loaded = inventory()
    assert [host.name for host in loaded.hosts] == ["a"]
    assert loaded.hosts[0].roles == ("prefill", "decode")
    assert loaded.router.name == "a"
    assert loaded.service.service == "pd"


def test_hosts_keep_the_order_of_the_inventory_not_of_the_groups() -> None:
    groups = {"all": ["c", "a", "b"], "prefill": ["a"], "decode": ["b"], "router": ["c"]}
    loaded = load(groups, {name: {} for name in "abc"})
    assert [host.name for host in loaded.hosts] == ["c", "a", "b"]


def test_hosts_and_variables_of_others_are_none_of_our_business() -> None:
    groups = {**ONE_HOST, "all": ["a", "nas"], "storage": ["nas"]}
    loaded = load(groups, {"a": {"ntp_server": "x", "ansible_user": "y"}, "nas": {"pd_typo": 1}})
    assert [host.name for host in loaded.hosts] == ["a"]
    assert [host.name for host in loaded.spare] == ["nas"]


def test_variables_of_our_own_playbooks_are_not_the_users() -> None:
    assert inventory(every={"pd_planned": {}, "pd_observed": {}})


@pytest.mark.parametrize("name", ["pd_mode", "pd_twin"])
def test_what_playbooks_are_told_cannot_be_set_in_an_inventory(name: str) -> None:
    found = only(problems(every={name: True}))
    assert (found.thing, found.cause) == (name, "unknown variable")


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"ansible_host": "10.0.0.7"}, "10.0.0.7"),
        ({"ansible_host": "10.0.0.7", "pd_address": "192.168.0.7"}, "192.168.0.7"),
        ({"ansible_connection": "local"}, "127.0.0.1"),
        ({}, "a"),
    ],
)
def test_address_is_what_other_hosts_reach(variables: dict[str, Any], address: str) -> None:
    assert inventory(every=variables).hosts[0].address == address


@pytest.mark.parametrize(
    ("groups", "thing", "fix"),
    [
        ({"prefill": ["a"], "decode": ["a"]}, "group router", "put one host into the group router"),
        (
            {"prefill": ["a"], "decode": ["b"], "router": ["a", "b"]},
            "group router",
            "leave one host in the group router",
        ),
        ({"prefill": ["a"], "router": ["a"]}, "group decode", "put at least one host into decode"),
        ({"decode": ["a"], "router": ["a"]}, "group prefill", "put at least one host into prefill"),
        ({"router": ["a"]}, "groups prefill, decode", "put hosts into the groups"),
        (
            {"prefill": ["a"], "decode": ["a"], "mixed": ["b"], "router": ["a"]},
            "group mixed",
            "give them a service and an inventory of their own",
        ),
    ],
    ids=["no-router", "two-routers", "no-decode", "no-prefill", "router-only", "mixed-and-pd"],
)
def test_missing_or_surplus_group_is_named_with_its_fix(
    groups: dict[str, list[str]], thing: str, fix: str
) -> None:
    problem = only(problems(groups))
    assert problem.thing == thing
    assert fix in problem.fix


def test_empty_inventory_names_every_group_that_is_missing() -> None:
    with pytest.raises(InvalidInventoryError) as caught:
        load({"all": []}, {})
    assert {p.thing for p in caught.value.problems} == {"group router", "groups prefill, decode"}


@pytest.mark.parametrize("name", ["decod", "decoders", "Decode"])
def test_misspelt_group_gets_its_right_name_told(name: str) -> None:
    found = problems({"prefill": ["a"], name: ["a"], "router": ["a"]})
    told = next(p for p in found if p.thing == f"group {name}")
    assert told.cause == "pdinfra has no such group"
    assert told.fix == "name it decode"


def test_a_similar_group_of_the_site_is_fine_beside_ours() -> None:
    assert inventory({**ONE_HOST, "routers": ["a"]})


@pytest.mark.parametrize(
    ("variables", "thing", "suggestion"),
    [
        ({"pd_conector": "NixlConnector"}, "pd_conector", "did you mean pd_connector?"),
        ({"pd_router_prot": 8000}, "pd_router_prot", "did you mean pd_router_port?"),
        ({"pd_decode": {"kv_cach_gib": 2}}, "pd_decode.kv_cach_gib", "did you mean kv_cache_gib?"),
        ({"pd_decode": {"pd_port": 8201}}, "pd_decode.pd_port", "did you mean port?"),
        (
            {"pd_instances": [{"role": "prefill", "portt": 1}, {"role": "decode"}]},
            "pd_instances[0].portt",
            "did you mean port?",
        ),
        ({"pd_zzzzzz": 1}, "pd_zzzzzz", "remove it; docs/inventory.md lists all variables"),
    ],
)
def test_misspelt_variable_gets_a_suggestion(
    variables: dict[str, Any], thing: str, suggestion: str
) -> None:
    problem = only(problems(every=variables))
    assert (problem.host, problem.thing) == ("a", thing)
    assert problem.cause == "unknown variable"
    assert problem.fix == suggestion


def test_one_line_says_host_thing_cause_and_fix() -> None:
    line = str(only(problems(every={"pd_conector": "x"})))
    assert line == "a: pd_conector: unknown variable. Fix: did you mean pd_connector?"


@pytest.mark.parametrize(
    ("variables", "thing", "value"),
    [
        ({"pd_router_port": "http"}, "pd_router_port", "'http'"),
        ({"pd_router_port": 80}, "pd_router_port", "80"),
        ({"pd_router_port": 65536}, "pd_router_port", "65536"),
        ({"pd_decode": {"kv_cache_gib": 0}}, "pd_decode.kv_cache_gib", "0"),
        ({"pd_decode": {"devices": [-1]}}, "pd_decode.devices[0]", "-1"),
        ({"pd_decode": "fast"}, "pd_decode", "'fast'"),
        ({"pd_gpu_memory_utilization": 1.5}, "pd_gpu_memory_utilization", "1.5"),
        ({"pd_tensor_parallel_size": 0}, "pd_tensor_parallel_size", "0"),
        ({"pd_dtype": "int4"}, "pd_dtype", "'int4'"),
        ({"pd_accelerator": "tpu"}, "pd_accelerator", "'tpu'"),
        ({"pd_stack": "kubernetes"}, "pd_stack", "'kubernetes'"),
        ({"pd_service": "Has Spaces"}, "pd_service", "'Has Spaces'"),
        ({"pd_model_path": "models/qwen"}, "pd_model_path", "'models/qwen'"),
        ({"pd_image_digest": "abc"}, "pd_image_digest", "'abc'"),
        ({"pd_engine_args": "--seed 1"}, "pd_engine_args", "'--seed 1'"),
        ({"pd_instances": []}, "pd_instances", "[]"),
    ],
)
def test_wrong_type_or_range_shows_the_value_and_what_is_right(
    variables: dict[str, Any], thing: str, value: str
) -> None:
    problem = only(problems(every=variables))
    assert (problem.host, problem.thing) == ("a", thing)
    assert problem.cause == f"{value} is not valid"
    assert problem.fix


def test_environment_variable_name_must_be_one() -> None:
    found = problems(every={"pd_env": {"NO-DASH": "1"}})
    assert "NO-DASH" in lines(found)


def test_numbers_in_the_environment_need_no_quotes() -> None:
    settings = inventory(every={"pd_env": {"A": 1, "B": 1.5}}).service
    assert settings.env == {"A": "1", "B": "1.5"}


def test_instance_without_role_is_told_to_set_it() -> None:
    problem = only(problems(every={"pd_instances": [{"port": 8100}]}))
    assert problem.thing == "pd_instances[0].role"
    assert problem.fix == "set pd_instances[0].role"


def test_instances_must_fit_the_groups_of_their_host() -> None:
    found = problems(TWO_HOSTS, a={"pd_instances": [{"role": "decode"}]})
    assert [p.cause for p in found] == [
        "has no prefill entry, but the host is in the group prefill",
        "has a decode entry, but the host is not in the group decode",
    ]


@pytest.mark.parametrize(
    ("variable", "one", "other"),
    [
        ("pd_service", "red", "blue"),
        ("pd_stack", "native", "ray"),
        ("pd_accelerator", "cpu", "nvidia"),
        ("pd_connector", "NixlConnector", "ExampleConnector"),
        ("pd_model_name", "one", "other"),
    ],
)
def test_variable_of_the_whole_service_must_not_differ_between_hosts(
    variable: str, one: str, other: str
) -> None:
    problem = only(problems(TWO_HOSTS, a={variable: one}, b={variable: other}))
    assert problem.thing == variable
    assert problem.cause == f"differs between hosts: {one} on a; {other} on b"
    assert problem.fix == f"set {variable} once, in group_vars/all.yml"


def test_every_problem_is_told_at_once() -> None:
    found = problems(
        {"prefill": ["a"], "decode": ["b"]},
        a={"pd_conector": "x", "pd_router_port": 1, "pd_service": "one"},
        b={"pd_decode": {"prot": 1}},
    )
    assert {p.thing for p in found} == {
        "group router",
        "pd_conector",
        "pd_router_port",
        "pd_decode.prot",
    }
