"""Role container on this machine's Docker: a vendor's image starts the plan's command, no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml
from docker.models.containers import Container as Running

from pdinfra.model.plan import Container, ContainerSpec, Healthcheck
from tests.commands import playbook, wait_until

NAME = "pd-entrypoint-test"
IMAGE = "pdinfra-test/entrypoint"
SPEC = ContainerSpec(
    image=f"{IMAGE}:1",
    command=("echo", "the plan's command"),
    env={},
    shm_size=64 * 1024**2,
    restart_policy="no",
    healthcheck=Healthcheck(test=("NONE",), interval=5, timeout=5, retries=1, start_period=5),
)


@pytest.fixture
def client(first_up: object) -> Iterator[docker.DockerClient]:
    """Docker with an image whose entrypoint ends at once, as a server without a model does."""
    found = docker.from_env(timeout=120)
    base = next(tag for image in found.images.list("pdinfra/base") for tag in image.tags)
    made = found.containers.create(base, "true")
    made.commit(IMAGE, "1", changes='ENTRYPOINT ["false"]')
    made.remove()
    yield found
    for container in found.containers.list(all=True, filters={"name": NAME}):
        container.remove(force=True)
    found.images.remove(f"{IMAGE}:1")
    found.close()


def test_an_images_own_entrypoint_is_left_out(client: docker.DockerClient, tmp_path: Path) -> None:
    container = Container(
        id="a", name=NAME, kind="instance", role="mixed", host="localhost", spec=SPEC, labels={}
    )
    play = {
        "name": "The role by itself",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {
            "container_work": [{"container": container.model_dump(mode="json"), "recreate": False}]
        },
        "roles": ["container"],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = playbook(str(tmp_path / "play.yml"))
    assert done.code == 0, done.text
    made: Running = client.containers.get(NAME)

    def ended() -> bool:
        made.reload()
        return str(made.status) == "exited"

    wait_until("it ends", 60, ended)
    assert made.logs().decode().strip() == "the plan's command"
