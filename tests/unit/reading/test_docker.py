"""Docker's own words → facts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdinfra.model.plan import Container
from pdinfra.planning.changes import host_changes
from pdinfra.reading.docker import container_fact, docker_fact, image_ids
from tests.unit.ascend import guide
from tests.unit.builders import ASCEND, NVIDIA, facts, inspect, observed, plan


def containers(every: dict[str, Any] | None = None) -> tuple[Container, ...]:
    return plan(every=every).host("a").containers


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"pd_memory_gib": 3, "pd_shm_gib": 0.5, "pd_env": {"EMPTY": "", "EQUALS": "a=b=c"}},
        {**NVIDIA, "pd_tensor_parallel_size": 2},
        {**ASCEND, "pd_tensor_parallel_size": 2},
        {"pd_privileged": True},
    ],
    ids=["cpu", "limits", "nvidia", "ascend", "privileged"],
)
def test_spec_comes_back_from_docker_as_it_went_in(variables: dict[str, Any]) -> None:
    for container in containers(variables):
        fact = observed(container)
        assert fact.spec == container.spec
        assert fact.spec_digest == fact.spec.digest


def test_planned_user_comes_back_and_an_images_own_is_none() -> None:
    (mine,) = [c for c in guide().host("a").containers if c.id == "router"]
    assert observed(mine).spec == mine.spec
    assert observed(mine).spec.user == "ma-user"
    assert observed(containers()[0]).spec.user is None


def test_user_that_somebody_changed_shows_in_the_plan() -> None:
    of = guide().host("a")
    mine = of.containers[0]
    document = inspect(mine)
    document["Config"]["User"] = "root"
    found = facts(of, [container_fact(document), *map(observed, of.containers[1:])])
    change = next(c for c in host_changes(of, found) if c.id == mine.id)
    assert (change.action, change.reason) == ("replace", "user: root → ma-user")


text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


@settings(max_examples=30)
@given(
    env=st.dictionaries(st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,8}\Z"), text, max_size=4),
    arguments=st.lists(text, max_size=4),
    memory=st.integers(1, 64),
)
def test_any_environment_and_argument_comes_back(
    env: dict[str, str], arguments: list[str], memory: int
) -> None:
    variables = {"pd_env": env, "pd_engine_args": arguments, "pd_memory_gib": memory}
    for container in containers(variables):
        assert observed(container).spec == container.spec


def test_fact_knows_which_container_of_the_plan_it_is() -> None:
    container = containers()[1]
    fact = observed(container, ExitCode=3, Status="exited")
    assert (fact.id, fact.role, fact.service) == ("decode-a-0", "decode", "pd")
    assert (fact.name, fact.state, fact.exit_code) == (container.name, "exited", 3)
    assert fact.started_at == "2026-11-21T14:47:45.219045962Z"


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({"Status": "healthy"}, "healthy"),
        ({"Status": "unhealthy"}, "unhealthy"),
        ({"Status": "starting"}, "starting"),
        ({"Status": "none"}, "none"),
        (None, "none"),
    ],
)
def test_health_is_dockers_word(health: dict[str, str] | None, expected: str) -> None:
    assert observed(containers()[0], Health=health).health == expected


def test_bind_in_dockers_short_form_is_the_same_mount() -> None:
    container = containers({"pd_model_path": "/srv/m"})[0]
    document = inspect(container)
    document["HostConfig"]["Mounts"] = None
    document["HostConfig"]["Binds"] = ["/srv/m:/srv/m:ro"]
    assert container_fact(document).spec.mounts == container.spec.mounts
    document["HostConfig"]["Binds"] = ["/srv/m:/srv/m"]
    assert not container_fact(document).spec.mounts[0].read_only


def test_container_that_somebody_made_by_hand_can_be_read() -> None:
    bare: dict[str, Any] = {
        "Id": "1" * 64,
        "Name": "/by-hand",
        "State": {"Status": "created"},
        "Config": {"Image": "sha256:abc", "Labels": None, "Env": None, "Cmd": None},
        "HostConfig": {},
    }
    fact = container_fact(bare)
    assert (fact.id, fact.state, fact.health) == ("", "created", "none")


def test_last_log_lines_are_kept() -> None:
    document = {**inspect(containers()[0]), "pdinfra_log": ["one", "two"]}
    assert container_fact(document).last_log == ("one", "two")


def test_running_engine_has_version_and_folder() -> None:
    raw = {
        "error": None,
        "version": {"Version": "28.2.2"},
        "info": {"DockerRootDir": "/data/docker"},
    }
    fact = docker_fact(raw)
    assert (fact.state, fact.version, fact.root) == ("running", "28.2.2", "/data/docker")


@pytest.mark.parametrize("kind", ["absent", "stopped", "denied"])
def test_engine_that_cannot_be_used_says_why(kind: str) -> None:
    fact = docker_fact({"error": {"kind": kind, "text": "[Errno 13] Permission denied"}})
    assert (fact.state, fact.detail) == (kind, "[Errno 13] Permission denied")


def test_image_is_found_by_tag_and_by_digest() -> None:
    images = [
        {"Id": "sha256:1", "RepoTags": ["v:1", "v:latest"], "RepoDigests": ["v@sha256:d"]},
        {"Id": "sha256:2", "RepoTags": None, "RepoDigests": None},
    ]
    assert image_ids({"images": images}) == {
        "v:1": "sha256:1",
        "v:latest": "sha256:1",
        "v@sha256:d": "sha256:1",
    }


def test_no_engine_means_no_image() -> None:
    assert image_ids({"error": {"kind": "absent", "text": ""}}) == {}
