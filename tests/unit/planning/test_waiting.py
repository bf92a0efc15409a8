"""Waiting for health: when to go on, when to give up, what to say."""

from __future__ import annotations

import pytest

from pdinfra.model.facts import ContainerFact
from pdinfra.planning.waiting import waiting
from tests.unit.builders import observed, plan


def container(
    health: str = "healthy", *log: str, restarts: int = 0, **state: object
) -> ContainerFact:
    found = observed(plan().host("a").containers[0], Health={"Status": health}, **state)
    return found.model_copy(update={"last_log": log, "restarts": restarts})


def test_all_healthy_is_done() -> None:
    told = waiting(["prefill-a-0"], [container()])
    assert (told.done, told.waiting, told.failed) == (True, (), ())


def test_starting_container_shows_its_last_log_line() -> None:
    told = waiting(["prefill-a-0"], [container("starting", "Loading", "Loading weights 40%")])
    assert not told.done
    assert told.waiting == ("prefill-a-0: Loading weights 40%",)


def test_container_without_a_log_shows_its_state() -> None:
    assert waiting(["prefill-a-0"], [container("starting")]).waiting == ("prefill-a-0: running",)


def test_container_that_is_gone_ends_the_wait() -> None:
    told = waiting(["prefill-a-0"], [])
    assert told.done
    assert told.failed == ("prefill-a-0: the container is gone",)


@pytest.mark.parametrize("state", ["exited", "dead", "paused"])
def test_lost_container_ends_the_wait_with_exit_code_and_log(state: str) -> None:
    lost = container("starting", "CUDA out of memory", Status=state, ExitCode=1)
    told = waiting(["prefill-a-0"], [lost])
    assert told.done
    assert told.failed[0].startswith(f"prefill-a-0: {state}, starting, exit code 1, 0 restarts.")
    assert "CUDA out of memory" in told.failed[0]


def test_unhealthy_container_ends_the_wait() -> None:
    assert waiting(["prefill-a-0"], [container("unhealthy")]).failed


@pytest.mark.parametrize(("restarts", "done"), [(1, False), (2, False), (3, True)])
def test_crash_loop_ends_the_wait_after_a_few_restarts(restarts: int, done: bool) -> None:
    looping = container("starting", Status="restarting", restarts=restarts)
    assert waiting(["prefill-a-0"], [looping]).done is done


def test_one_lost_container_ends_the_wait_for_all() -> None:
    told = waiting(["prefill-a-0", "other"], [container("starting")])
    assert told.done
    assert told.waiting
    assert told.failed


def test_containers_that_nobody_waits_for_do_not_matter() -> None:
    assert waiting([], [container("unhealthy")]).done
