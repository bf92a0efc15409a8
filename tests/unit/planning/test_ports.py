"""Ports: clashes, reserved ranges, limits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.builders import ASCEND, ONE_HOST, TWO_HOSTS, lines, only, plan, problems


def test_clash_within_a_host_names_port_users_and_variable() -> None:
    problem = only(problems(every={"pd_prefill": {"port": 8200}}))
    assert (problem.host, problem.thing) == ("a", "port 8200")
    assert problem.cause == "wanted by prefill-a-0 (API) and decode-a-0 (API)"
    assert problem.fix == "give decode-a-0 another port"


def test_same_ports_on_two_machines_do_not_clash() -> None:
    assert plan(TWO_HOSTS, {"pd_port": 8100})


def test_two_inventory_hosts_with_one_address_are_one_machine() -> None:
    problem = only(
        problems(
            TWO_HOSTS, {"pd_port": 8100, "pd_address": "10.0.0.1"}, b={"pd_internal_port": 13000}
        )
    )
    assert problem.thing == "port 8100"
    assert problem.cause == "wanted by prefill-a-0 (API) and decode-b-0 (API)"


@pytest.mark.parametrize(
    ("variables", "port", "variable"),
    [
        ({"pd_router_port": 8100}, 8100, "pd_router_port"),
        ({"pd_router_metrics_port": 8200}, 8200, "pd_router_metrics_port"),
        ({"pd_router_port": 5700}, 5700, "pd_router_port"),
        ({"pd_router_port": 12003}, 12003, "pd_router_port"),
    ],
)
def test_instance_and_router_clash(variables: dict[str, Any], port: int, variable: str) -> None:
    problem = only(problems(every=variables))
    assert problem.thing == f"port {port}"
    assert "and router (" in problem.cause
    assert problem.fix == f"give router another {variable}"


def test_routers_own_two_ports_clash() -> None:
    problem = only(problems(every={"pd_router_port": 9000, "pd_router_metrics_port": 9000}))
    assert problem.cause == "wanted by router (API) and router (metrics)"


def test_side_channel_takes_a_port_for_each_rank() -> None:
    found = problems(
        every={
            "pd_prefill": {"tensor_parallel_size": 4, "kv_port": 5697},
        }
    )
    assert only(found).thing == "port 5700"
    assert only(found).fix == "give decode-a-0 another kv_port"


def test_side_channel_clashes_with_an_api_port() -> None:
    problem = only(problems(every={"pd_decode": {"kv_port": 8100}}))
    assert problem.cause == "wanted by prefill-a-0 (API) and decode-a-0 (KV side channel)"


def test_internal_ports_of_two_engines_must_not_overlap() -> None:
    problem = only(problems(every={"pd_decode": {"internal_port": 12004}}))
    assert problem.thing == "port 12004"
    assert problem.fix == "give decode-a-0 another internal_port"


def test_ports_beyond_the_last_one_are_refused() -> None:
    found = problems(every={"pd_decode": {"tensor_parallel_size": 2, "kv_port": 65535}})
    assert only(found).thing == "port 65536"
    assert "beyond 65535" in only(found).cause


def test_ascend_with_default_ports_can_be_planned() -> None:
    defaults = {k: v for k, v in ASCEND.items() if k != "pd_router_metrics_port"}
    made = plan(every=defaults)
    assert [i.kv_port for i in made.instances] == [36000, 36200]


@pytest.mark.parametrize(
    ("variables", "port", "owner"),
    [
        ({"pd_decode": {"kv_port": 20000}}, 20000, "AscendDirect's random ports"),
        ({"pd_decode": {"kv_port": 35999}}, 35999, "AscendDirect's random ports"),
        ({"pd_router_port": 29500}, 29500, "AscendDirect's random ports"),
        ({"pd_decode": {"port": 16666}}, 16666, "HCCL on the NPU"),
        ({"pd_decode": {"port": 16921}}, 16921, "HCCL on the NPU"),
        ({"pd_decode": {"port": 60031}}, 60031, "HCCL on the host"),
    ],
)
def test_ports_of_ascends_own_libraries_are_refused(
    variables: dict[str, Any], port: int, owner: str
) -> None:
    problem = only(problems(every={**ASCEND, **variables}))
    assert problem.thing == f"port {port}"
    assert owner in problem.cause


@pytest.mark.parametrize("port", [19999, 36100, 60032, 16922])
def test_ports_beside_the_reserved_ones_are_fine_on_ascend(port: int) -> None:
    assert plan(every={**ASCEND, "pd_decode": {"kv_port": port}})


def test_reserved_ports_of_ascend_are_free_on_cpu() -> None:
    assert plan(every={"pd_decode": {"kv_port": 20000}})


def test_several_clashes_are_all_told() -> None:
    found = problems(every={"pd_prefill": {"port": 8200, "kv_port": 5700}, "pd_router_port": 8200})
    assert {p.thing for p in found} == {"port 8200", "port 5700"}
    assert len(found) == 3, lines(found)


def test_plan_lists_every_port_that_opens_on_a_host() -> None:
    host = plan(ONE_HOST).host("a")
    assert {8000, 9001, 8100, 8200, 5600, 5700} <= {p.port for p in host.ports}
    assert host.observe.ports == tuple(sorted({p.port for p in host.ports}))
