"""The folder that engines share for KV: which one, who must name it, when it is tried."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.plan import Plan
from pdinfra.planning.compare import Mode, compare
from pdinfra.planning.connectors import named
from pdinfra.planning.finish import finish
from pdinfra.planning.shared_path import shared_path, shared_path_problems, shared_probes
from pdinfra.planning.trial import Trial, trial
from tests.unit.builders import (
    NVIDIA,
    ONE_HOST,
    TWO_HOSTS,
    Groups,
    converged,
    facts,
    inventory,
    lines,
    only,
    plan,
)

FILES = {"pd_connector": "shared-storage"}
OWN = "/var/lib/pdinfra/pd/kv"
CONNECTORS: list[dict[str, Any]] = [
    FILES,
    {"pd_connector": "ExampleConnector"},
    {"pd_connector": "SharedStorageConnector"},
    {"pd_connector": "multi"},
    {"pd_connector": "MultiConnector", "pd_multi_connectors": ["nixl", "ExampleConnector"]},
]
OTHERS: list[dict[str, Any]] = [
    {},
    {"pd_kv_path": "/srv/kv"},
    {"pd_connector": "multi", "pd_multi_connectors": ["nixl", "lmcache"]},
]


@pytest.mark.parametrize("every", CONNECTORS)
def test_one_machine_has_a_folder_of_its_own(every: dict[str, Any]) -> None:
    of = named(inventory(ONE_HOST, every))
    assert (shared_path(of), shared_path_problems(of)) == (OWN, [])


@pytest.mark.parametrize("every", CONNECTORS)
def test_several_machines_must_name_the_one_that_they_share(every: dict[str, Any]) -> None:
    of = named(inventory(TWO_HOSTS, every))
    problem = only(shared_path_problems(of))
    assert (problem.host, problem.thing) == ("inventory", "pd_kv_path")
    assert "engines are on 2 machines" in problem.cause
    assert "NFS" in problem.fix
    assert shared_path(of) == ""
    given = named(inventory(TWO_HOSTS, {**every, "pd_kv_path": "/srv/kv"}))
    assert (shared_path(given), shared_path_problems(given)) == ("/srv/kv", [])


@pytest.mark.parametrize("every", OTHERS)
@pytest.mark.parametrize("groups", [ONE_HOST, TWO_HOSTS])
def test_connector_without_files_needs_none(groups: Groups, every: dict[str, Any]) -> None:
    of = named(inventory(groups, every))
    assert (shared_path(of), shared_path_problems(of)) == ("", [])


def test_router_elsewhere_is_no_machine_with_engines() -> None:
    of = named(inventory({"prefill": ["a"], "decode": ["a"], "router": ["c"]}, FILES))
    assert (shared_path(of), shared_path_problems(of)) == (OWN, [])


def test_hosts_of_one_address_are_one_machine() -> None:
    of = named(inventory(TWO_HOSTS, {**FILES, "pd_address": "192.0.2.1"}))
    assert (shared_path(of), shared_path_problems(of)) == (OWN, [])


def test_folders_that_differ_are_refused() -> None:
    of = named(inventory(TWO_HOSTS, FILES, a={"pd_kv_path": "/srv/a"}, b={"pd_kv_path": "/srv/b"}))
    assert "/srv/a on a and /srv/b on b" in lines(shared_path_problems(of))


def test_plan_of_another_connector_shares_none() -> None:
    assert plan().shared_path == ""
    assert shared_probes(plan(), {"a": facts(plan().host("a"))}) == {}


def sharing(of: Plan, folder: str = "/srv/kv") -> Plan:
    return of.model_copy(update={"shared_path": folder})


def tried(of: Plan, mode: Mode, *, new: bool) -> Trial:
    """Return what is tried on hosts that have everything, or no container yet."""
    seen = {host.name: facts(host) if new else converged(host) for host in of.hosts}
    return trial(of, seen, compare(finish(of, seen), seen, mode, check=False).changes, mode)


def test_it_is_tried_on_all_hosts_with_engines_before_one_is_made() -> None:
    groups = {"prefill": ["a"], "decode": ["b"], "router": ["c"]}
    found = tried(sharing(plan(groups)), "converge", new=True)
    assert set(found.shared) == {"a", "b"}
    assert found.shared["b"].folder == "/srv/kv"
    assert found.shared["b"].hosts == ("a", "b")
    assert not found.shared["b"].own
    assert "shared_path" in found.stages("a")
    assert "shared_path" not in found.stages("c")


def test_nothing_is_tried_where_no_engine_is_made_but_by_the_doctor() -> None:
    of = sharing(plan(TWO_HOSTS))
    assert tried(of, "converge", new=False).shared == {}
    assert tried(of, "look", new=True).shared == {}
    assert set(tried(of, "doctor", new=False).shared) == {"a", "b"}


def test_files_are_written_as_the_engines_write_them() -> None:
    cpu = sharing(plan(TWO_HOSTS))
    assert tried(cpu, "doctor", new=True).shared["a"].uid == 1000
    assert tried(sharing(plan(TWO_HOSTS, NVIDIA)), "doctor", new=True).shared["a"].uid == 0


def test_own_folder_is_made_on_one_machine_only() -> None:
    assert tried(sharing(plan(), OWN), "doctor", new=True).shared["a"].own
    assert not tried(sharing(plan(), "/srv/kv"), "doctor", new=True).shared["a"].own
    assert not tried(sharing(plan(TWO_HOSTS), OWN), "doctor", new=True).shared["a"].own
