"""Instances over several hosts: their parts, and what is refused before anything starts."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from pdinfra.doctor.spans import span_checks
from pdinfra.model.changes import Change
from pdinfra.model.inventory import Inventory
from pdinfra.model.plan import Plan
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import finish
from pdinfra.planning.load import load
from pdinfra.planning.plan import build
from pdinfra.planning.reach import links
from tests.unit.builders import (
    ASCEND,
    ASSETS,
    NVIDIA,
    converged,
    lines,
    observed,
    option,
    plan,
    problems,
    specs,
)

HOSTS = {"a": {"pd_address": "192.0.2.1"}, "b": {"pd_address": "192.0.2.2"}}
GROUPS = {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]}
START = datetime.fromisoformat("2026-11-21T14:00:00+00:00")
LEADER, PART = "mixed-a-0", "mixed-a-0-n1"


def entry(**more: Any) -> dict[str, Any]:
    """Return the variables of a host with one mixed instance over b as well."""
    return {"pd_instances": [{"role": "mixed", "hosts": ["b"], "tensor_parallel_size": 2, **more}]}


def service(every: dict[str, Any] | None = None, **more: Any) -> Plan:
    """Return a plan with one instance over a and b; b is in none of pdinfra's groups."""
    return plan(GROUPS, every, a=HOSTS["a"] | entry(**more), b=HOSTS["b"])


def refused(every: dict[str, Any] | None = None, **more: Any) -> str:
    """Return why such a service is not accepted."""
    return lines(problems(GROUPS, every, a=HOSTS["a"] | entry(**more), b=HOSTS["b"]))


def test_there_is_one_instance_with_a_container_on_each_host() -> None:
    made = service()
    (instance,) = made.instances
    assert instance.containers == (("a", LEADER), ("b", PART))
    assert [member.id for member in made.router.members] == [LEADER]
    found = specs(made)
    for name, node in ((LEADER, "0"), (PART, "1")):
        assert option(found[name], "--nnodes") == "2"
        assert option(found[name], "--node-rank") == node
        assert option(found[name], "--master-addr") == "192.0.2.1"
        assert option(found[name], "--master-port") == "29600"
    assert found[PART].env["VLLM_HOST_IP"] == "192.0.2.2"
    assert ("--headless" in found[LEADER].command, "--headless" in found[PART].command) == (
        False,
        True,
    )
    assert found[PART].image == found[LEADER].image
    assert [model.path for model in made.host("b").models] == [found[PART].command[2]]


def test_instances_on_one_host_are_started_as_before() -> None:
    command = specs(plan())["prefill-a-0"].command
    assert not {"--nnodes", "--pipeline-parallel-size"} & set(command)


def test_a_part_is_healthy_while_it_is_connected_to_the_first_host() -> None:
    pattern = specs(service())[PART].healthcheck.test[3]
    # /proc/net/tcp6 and /proc/net/tcp of Linux; 01 is an established connection, 06 an ended one.
    line = "   3: {}00000000:8166 {}010200C0:73A0 {} 00000000:00000000 00:00000000 00000000     0"
    inside = "0000000000000000FFFF0000"
    assert re.search(pattern, line.format(inside, inside, "01"))
    assert re.search(pattern, line.format("", "", "01"))
    assert not re.search(pattern, line.format(inside, inside, "06"))
    assert not re.search(pattern, line.format("", "", "01").replace("73A0", "73A1"))


def test_each_host_gives_its_next_free_cards_after_its_own_instances() -> None:
    hosts = {
        "a": HOSTS["a"] | {"pd_devices": [4, 5, 6, 7]} | entry(tensor_parallel_size=4),
        "b": HOSTS["b"] | {"pd_devices": [0, 1, 2]},
    }
    made = plan({**GROUPS, "mixed": ["a", "b"]}, NVIDIA, **hosts)
    first, own = made.instances
    assert first.devices == (4, 5)
    assert own.devices == (0,)
    assert first.parts[0].devices == (1, 2)
    assert specs(made)[PART].gpus == ("1", "2")
    assert made.host("b").observe.devices == (0, 1, 2)


def test_devices_of_the_entry_are_those_on_every_host() -> None:
    made = service(NVIDIA, tensor_parallel_size=4, devices=[2, 3])
    assert made.instances[0].devices == made.instances[0].parts[0].devices == (2, 3)


def test_a_pipeline_has_its_stages_on_the_hosts() -> None:
    made = service(NVIDIA, tensor_parallel_size=2, pipeline_parallel_size=2)
    assert option(specs(made)[PART], "--pipeline-parallel-size") == "2"
    assert made.instances[0].parts[0].devices == (0, 1)


@pytest.mark.parametrize(("pipeline", "status"), [(1, "warn"), (2, "ok")])
def test_doctor_warns_where_a_tensor_parallel_group_is_on_two_hosts(
    pipeline: int, status: str
) -> None:
    (check,) = span_checks(service(NVIDIA, pipeline_parallel_size=pipeline))
    assert (check.id, check.status) == ("tensor-parallel-host", status)


def test_the_first_hosts_port_is_planned_and_tried_from_the_others() -> None:
    made = service()
    assert 29600 in {port.port for port in made.host("a").ports}
    tried = [(link.source, link.target, link.port) for link in links(made)]
    assert ("b", "a", 29600) in tried


def test_gloo_is_told_the_interface_between_the_hosts_on_cpu_too() -> None:
    made = service()
    seen = {host.name: converged(host) for host in made.hosts}
    own = seen["b"].network.model_copy(update={"addresses": {"192.0.2.2": "eth7"}})
    seen["b"] = seen["b"].model_copy(update={"network": own})
    assert specs(finish(made, seen).plan)[PART].env["GLOO_SOCKET_IFNAME"] == "eth7"


def changes(now: Plan, looked_at: str = "ab", apart: float = 0.0) -> dict[str, Change]:
    """Return the instance's changes where all of `service()` runs, b's part that much later."""
    before = service()
    seen = {}
    for host in before.hosts:
        if host.name not in looked_at:
            continue
        start = START + timedelta(seconds=apart if host.name == "b" else 0)
        found = [observed(c, StartedAt=start.isoformat()) for c in host.containers]
        seen[host.name] = converged(host).model_copy(update={"containers": tuple(found)})
    made = compare(finish(now, seen), seen, "converge", check=False).changes
    return {c.id: c for c in made if c.kind == "instance"}


@pytest.fixture
def _no_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hosts' interfaces add to environments is not the matter there."""
    monkeypatch.setattr("pdinfra.planning.finish.interface_variables", lambda *_, **__: ())


@pytest.mark.usefixtures("_no_interfaces")
def test_all_parts_start_anew_together_or_not_at_all() -> None:
    assert {c.action for c in changes(service()).values()} == {"keep"}
    gone = changes(service(), apart=4000)
    assert {c.action for c in gone.values()} == {"replace"}
    assert "the parts of mixed-a-0 started 66 minutes apart" in gone[PART].reason


@pytest.mark.usefixtures("_no_interfaces")
def test_a_part_that_is_sick_takes_the_whole_instance_along() -> None:
    made = service()
    seen = {host.name: converged(host) for host in made.hosts}
    sick = {"Status": "unhealthy", "FailingStreak": 3, "Log": []}
    (part,) = made.host("b").containers
    seen["b"] = seen["b"].model_copy(update={"containers": (observed(part, Health=sick),)})
    found = compare(finish(made, seen), seen, "converge", check=False).changes
    by_id = {c.id: c for c in found}
    assert by_id[PART].action == by_id[LEADER].action == "replace"
    assert by_id[LEADER].reason.startswith(f"starts with {PART}")


@pytest.mark.usefixtures("_no_interfaces")
def test_a_part_that_was_not_looked_at_is_named() -> None:
    made = changes(service(max_model_len=4096), looked_at="a")
    assert made[LEADER].reason.endswith(f"{PART} must start with it: run without --limit")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["b", "b"], "name b 2 times"),
        (["x"], "name x, which the inventory does not have"),
        (["a"], "name a, on which the entry stands"),
    ],
)
def test_hosts_that_cannot_be_meant_are_refused(names: list[str], words: str) -> None:
    assert words in refused(hosts=names)


def test_ranks_that_hosts_cannot_share_are_refused_with_the_numbers() -> None:
    text = refused(NVIDIA, tensor_parallel_size=3)
    assert "tensor_parallel_size 3 x pipeline_parallel_size 1 are 3 ranks, which 2 hosts" in text


def test_cards_that_one_host_lacks_are_refused_there() -> None:
    hosts = {"a": HOSTS["a"] | entry(tensor_parallel_size=4), "b": HOSTS["b"] | {"pd_devices": [0]}}
    text = lines(problems(GROUPS, NVIDIA, **hosts))
    assert "4 x 1 ranks over 2 hosts take 2 devices here, but it has 1" in text
    assert "give it 2 devices on b" in text


def test_cards_of_one_machine_under_two_names_are_not_given_twice() -> None:
    own = {"pd_address": "192.0.2.2", "pd_port": 8390, "pd_internal_port": 12800}
    groups = {"all": ["a", "b", "c"], "mixed": ["a", "c"], "router": ["a"]}
    text = lines(problems(groups, NVIDIA, a=HOSTS["a"] | entry(), b=HOSTS["b"], c=own))
    assert "device 0: used by mixed-a-0-n1 on b, which is the same machine (192.0.2.2)" in text


def test_a_size_that_does_not_divide_the_models_heads_is_refused() -> None:
    assert "does not divide the 8 heads" in refused(tensor_parallel_size=6)


def test_a_port_that_the_first_host_uses_already_is_refused() -> None:
    text = refused(master_port=8300)
    assert "wanted by mixed-a-0 (API) and mixed-a-0 (parts of the instance)" in text
    assert "give mixed-a-0 another master_port" in text


def test_names_for_addresses_are_refused() -> None:
    text = lines(problems(GROUPS, a=entry()))
    assert "a has the address a, and vLLM binds IP addresses there" in text


def test_another_image_or_model_on_a_further_host_is_refused() -> None:
    hosts = {
        "a": HOSTS["a"] | entry(),
        "b": HOSTS["b"] | {"pd_model_path": "/srv/other", "pd_image": "vllm/vllm-openai:v0.31.0"},
    }
    text = lines(problems(GROUPS, NVIDIA, **hosts))
    assert "b has the image vllm/vllm-openai:v0.31.0" in text
    assert "b has the model /srv/other" in text


@pytest.mark.parametrize(
    ("every", "words"),
    [
        ({**ASCEND}, "pdinfra does not know how to do with vllm-ascend"),
        ({"pd_stack": "ray"}, "Ray's refuses CPUs"),
        ({"pd_pipeline_parallel_size": 2}, "on CPU starts, and ends with the first request"),
        ({**NVIDIA, "pd_image": "vllm/vllm-openai:v0.11.0"}, "vLLM 0.11.0 does by Ray only"),
    ],
)
def test_what_cannot_go_over_hosts_is_refused(every: dict[str, Any], words: str) -> None:
    assert words in refused(every)


def test_every_problem_is_told_at_once() -> None:
    text = refused({"pd_stack": "ray"}, hosts=["b", "b", "x"], tensor_parallel_size=2)
    for words in ("Ray's refuses CPUs", "name b 2 times", "name x", "2 ranks, which 4 hosts"):
        assert words in text


def pair(connector: str, every: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return arguments of a service whose decode goes over b and c."""
    decode = {"role": "decode", "hosts": ["c"], "tensor_parallel_size": 2, **more}
    return {
        "every": {**every, "pd_connector": connector},
        "a": {"pd_address": "192.0.2.1"},
        "b": {"pd_address": "192.0.2.2", "pd_instances": [decode]},
        "c": {"pd_address": "192.0.2.3"},
    }


PAIR = {"all": ["a", "b", "c"], "prefill": ["a"], "decode": ["b"], "router": ["a"]}


def test_nixl_asks_the_first_host_for_the_kv_of_all() -> None:
    made = plan(PAIR, **pair("nixl", NVIDIA))
    env = specs(made)["decode-b-0"].env
    assert env["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "192.0.2.2"
    assert "--kv-transfer-config" in specs(made)["decode-b-0-n1"].command


def test_connectors_that_are_not_known_to_work_so_are_refused() -> None:
    text = lines(problems(PAIR, **pair("mooncake", NVIDIA)))
    assert "not known to work with MooncakeConnector" in text


def test_a_pipeline_that_would_hand_kv_over_is_refused() -> None:
    text = lines(problems(PAIR, **pair("nixl", NVIDIA, pipeline_parallel_size=2)))
    assert "refuses that for decode" in text


def test_a_host_that_nobody_names_stays_spare() -> None:
    hostvars = {"a": HOSTS["a"], "b": HOSTS["b"]}
    made: Inventory = load(GROUPS, hostvars)
    assert [host.name for host in made.spare] == ["b"]
    assert build(made, ASSETS).host("b").spare


def test_an_engine_over_hosts_has_workers_of_its_own() -> None:
    every = {"pd_instances": [{"role": "mixed", "hosts": ["b"], "tensor_parallel_size": 2}]}
    made = plan(GROUPS, a={**HOSTS["a"], **every}, b=HOSTS["b"])
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in specs(made)[LEADER].env
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in specs(made)[PART].env
