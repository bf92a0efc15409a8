"""Images on several hosts: published once, pulled by all, by a mirror, from a file, and failing.

Real hosts, engines, registry and transfers; the image is a STAND-IN, 20 MB of nothing.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from tests.commands import ROOT, Result, command, lab_name, playbook

pytestmark = pytest.mark.lab

LAB = lab_name("img")
BYTES = 20_000_000
TAG = uuid.uuid4().hex[:8]
"""Of this run alone: the lab's registry remembers what was pushed to it."""
LOCAL = f"pdinfra-test/standin:{TAG}"
ON_HOSTS = f"quay.io/pdinfra-test/standin:{TAG}"
MIRRORED = f"quay.io/mirror/docker.io/library/standin:{TAG}"

ENGINES = """
- name: Engines
  hosts: all
  gather_facts: true
  gather_subset: [min]
  roles:
    - role: docker_engine
"""


class Hosts:
    """The hosts of the lab, and plays on them with a work order of the test's own."""

    def __init__(self, inventory: Path, push: str, scratch: Path) -> None:
        """push: the registry as this machine reaches it. Plays are written into ``scratch``."""
        self.push = push
        self._inventory = inventory
        self._scratch = scratch

    def play(self, text: str, *arguments: str) -> Result:
        """Run a playbook given as text."""
        path = self._scratch / "play.yml"
        path.write_text(text, encoding="utf-8")
        return playbook(str(path), *arguments, inventory=self._inventory)

    def images(
        self, *images: dict[str, Any], publish: list[dict[str, Any]], limit: str = "all"
    ) -> Result:
        """Run playbooks/images.yml as a plan would: these images on all hosts."""
        names = ("node1", "node2")
        order = {
            "pd_planned": {"plan": {"hosts": [{"name": n, "pip_args": []} for n in names]}},
            "pd_compared": {
                "publish": publish,
                "work": {n: {"images": list(images)} for n in names},
            },
        }
        sort = {
            "name": "The work order of a test",
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {"ansible.builtin.set_fact": order},
                {"ansible.builtin.group_by": {"key": "pd_todo_image"}, "changed_when": False},
            ],
        }
        plays = [sort, {"import_playbook": str(ROOT / "playbooks" / "images.yml")}]
        return self.play(yaml.safe_dump(plays), "--limit", limit)


def changed(run: Result) -> dict[str, int]:
    """Return the changed tasks by host of a play that must have gone well."""
    assert run.code == 0, run.text
    return {
        host: int(count) for host, count in re.findall(r"(?m)^(\S+) +: .*changed=(\d+)", run.out)
    }


def pulled(ref: str, remote: str) -> dict[str, Any]:
    return {"ref": ref, "source": "pull", "remote": remote}


def lab_command(verb: str, *options: str) -> Result:
    return command(sys.executable, "-m", "pdinfra", "lab", verb, "--name", LAB, *options)


@pytest.fixture(scope="module")
def standin() -> Iterator[str]:
    """Make the stand-in image in this machine's engine."""
    client = docker.from_env()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("nothing")
        info.size = BYTES
        tar.addfile(info, io.BytesIO(os.urandom(BYTES)))
    repository, _, tag = LOCAL.partition(":")
    client.api.import_image_from_data(archive.getvalue(), repository=repository, tag=tag)
    made = client.images.get(LOCAL)
    yield LOCAL
    client.images.remove(str(made.id), force=True)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts with running engines."""
    up = lab_command("up", "--hosts", "2", "--json")
    assert up.code == 0, up.text
    scratch = tmp_path_factory.mktemp("plays")
    lab = Hosts(ROOT / up.json["inventory"], up.json["registry"]["push"], scratch)
    engines = lab.play(ENGINES)
    assert engines.code == 0, engines.out
    yield lab
    lab_command("down")


@pytest.fixture(scope="module")
def published(hosts: Hosts, standin: str) -> dict[str, Any]:
    """Say how the stand-in comes into the registry; it is in this machine's engine already."""
    remote = f"{hosts.push}/pdinfra-test/standin:{TAG}"
    return {"ref": standin, "source": "build", "definition": "none", "remote": remote}


def test_image_is_published_for_one_host_then_pulled_by_the_other_without_a_push(
    hosts: Hosts, published: dict[str, Any]
) -> None:
    image = pulled(ON_HOSTS, ON_HOSTS)
    first = hosts.images(image, publish=[published], limit="node2")
    assert changed(first) == {"node2": 2}, "the push counts for the host that caused it"
    both = hosts.images(image, publish=[published])
    assert changed(both) == {"node1": 1, "node2": 0}
    assert changed(hosts.images(image, publish=[published])) == {"node1": 0, "node2": 0}


def test_image_that_comes_by_a_mirror_keeps_its_own_name(
    hosts: Hosts, published: dict[str, Any]
) -> None:
    name = f"standin:{TAG}"
    remote = MIRRORED.replace("quay.io", hosts.push)
    publish = [{**published, "remote": remote}]
    run = hosts.images(pulled(name, MIRRORED), publish=publish)
    assert changed(run) == {"node1": 2, "node2": 1}
    assert changed(hosts.images(pulled(name, MIRRORED), publish=[])) == {"node1": 0, "node2": 0}


def test_wrong_names_are_told_for_every_host_with_their_fix(hosts: Hosts) -> None:
    wrong = f"quay.io/pdinfra-test/nothing:{TAG}"
    run = hosts.images(
        pulled(wrong, wrong), pulled("nosuch.invalid/v:1", "nosuch.invalid/v:1"), publish=[]
    )
    assert run.code != 0
    words = " ".join(run.out.split())
    for host in ("node1", "node2"):
        assert f"{host}: image {wrong}: quay.io has no such image. Fix: correct the name" in words
        assert f"{host}: image nosuch.invalid/v:1: the name nosuch.invalid does not" in words


def test_image_is_loaded_from_a_file_on_the_host(
    hosts: Hosts, standin: str, tmp_path: Path
) -> None:
    archive = tmp_path / "standin.tar"
    with archive.open("wb") as handle:
        for chunk in docker.from_env().images.get(standin).save(named=standin):
            handle.write(chunk)
    there = f"/var/tmp/standin-{TAG}.tar"
    copy = {"ansible.builtin.copy": {"src": str(archive), "dest": there, "mode": "0644"}}
    play = [{"name": "Copy", "hosts": "node1", "gather_facts": False, "tasks": [copy]}]
    assert changed(hosts.play(json.dumps(play))) == {"node1": 1}
    image = {"ref": standin, "source": "load", "archive": there}
    assert changed(hosts.images(image, publish=[], limit="node1")) == {"node1": 1}
    assert changed(hosts.images(image, publish=[], limit="node1")) == {"node1": 0}
    other = {**image, "ref": "pdinfra-test/other:1"}
    refused = hosts.images(other, publish=[], limit="node1")
    assert refused.code != 0
    assert f"holds {standin}, not pdinfra-test/other:1" in " ".join(refused.out.split())
