"""What makes a container another container."""

from __future__ import annotations

from pdinfra.model.plan import ContainerSpec, Healthcheck, Mount

SPEC = ContainerSpec(
    image="vllm-cpu:1",
    command=("vllm", "serve", "/srv/m"),
    env={"A": "1"},
    mounts=(Mount(source="/srv/m", target="/srv/m"),),
    shm_size=64,
    healthcheck=Healthcheck(
        test=("CMD", "true"), interval=5, timeout=5, retries=3, start_period=60
    ),
)


def test_release_with_a_new_field_replaces_no_container_that_does_not_use_it() -> None:
    # By the release before specs had a user.
    assert SPEC.digest == "2525146bdab77ea5"


def test_user_is_a_part_of_what_makes_a_container() -> None:
    assert SPEC.model_copy(update={"user": "ma-user"}).digest != SPEC.digest
