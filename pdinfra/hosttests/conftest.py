"""The plan comes in once, each of its things becomes a test, each host is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pdinfra.driver.hosts import planned_hosts
from pdinfra.driver.look import DriverError
from pdinfra.hosttests.judge import ASPECTS, Verdict
from pdinfra.hosttests.look import looker
from pdinfra.hosttests.seen import Document, Process, Seen
from pdinfra.hosttests.suite import Suite
from pdinfra.model.plan import (
    Container,
    HostPlan,
    Image,
    ListenPort,
    ManagedFile,
    Model,
    Mount,
)

Expect = Callable[[Verdict], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("pdinfra")
    group.addoption("--inventory", type=Path, help="Inventory whose hosts are tested.")
    group.addoption("--limit", help="Only these hosts (Ansible's pattern).")


def pytest_configure(config: pytest.Config) -> None:
    """Plan, unless `pdinfra verify --hosts` has done that already."""
    if Suite.of(config) is not None:
        return
    inventory = config.getoption("--inventory")
    if inventory is None:
        raise pytest.UsageError("pdinfra/hosttests: which hosts? Fix: add --inventory PATH")
    try:
        hosts = planned_hosts(inventory, config.getoption("--limit"))
    except DriverError as error:
        raise pytest.UsageError("\n".join(error.lines)) from None
    config.pluginmanager.register(Suite(hosts, looker(inventory)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each thing of the plan that a test function asks for."""
    names = next(names for names in THINGS if set(names) <= set(metafunc.fixturenames))
    cases: list[tuple[object, ...]] = []
    ids = []
    for host in _suite(metafunc.config).hosts:
        for things in THINGS[names](host):
            cases.append((host, *things))
            ids.append("-".join((host.name, *map(_label, things))))
    metafunc.parametrize(("node", *names), cases, ids=ids)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Drop what pytest makes of things that no host has."""
    items[:] = [item for item in items if isinstance(item.callspec.params["node"], HostPlan)]


@pytest.fixture
def node() -> HostPlan:
    """The host under test; every test is given one."""
    raise LookupError("pytest_generate_tests gives it")


@pytest.fixture
def container() -> Container:
    """The container under test; tests that ask for one are given it."""
    raise LookupError("pytest_generate_tests gives it")


@pytest.fixture
def anyhow(request: pytest.FixtureRequest, node: HostPlan, record_property: Any) -> Seen:
    """What the host said, even if that is nothing."""
    record_property("host", node.name)
    return _suite(request.config).seen[node.name]


@pytest.fixture
def seen(anyhow: Seen) -> Seen:
    """What the host said."""
    if anyhow.error:
        pytest.skip("the host could not be looked at (test_host_answers)")
    return anyhow


@pytest.fixture
def engine(seen: Seen) -> Seen:
    """What a host with a Docker engine said."""
    if seen.engine_error:
        pytest.skip("Docker does not answer (test_engine_answers)")
    return seen


@pytest.fixture
def inspected(engine: Seen, container: Container) -> Document:
    """The container under test, as Docker inspects it."""
    if container.id not in engine.containers:
        pytest.skip("no such container (test_container_runs)")
    return engine.containers[container.id]


@pytest.fixture
def process(engine: Seen, inspected: Document) -> Process:
    """The main process of the container under test."""
    if inspected["Id"] not in engine.processes:
        pytest.skip("the container does not run (test_container_runs)")
    return engine.processes[inspected["Id"]]


@pytest.fixture
def expect(request: pytest.FixtureRequest, node: HostPlan, record_property: Any) -> Expect:
    """Fail, in one line, unless a verdict holds; what was found is kept either way."""

    def judge(verdict: Verdict) -> None:
        record_property("found", verdict.found)
        record_property("expected", verdict.expected)
        if not verdict.ok:
            line = f"found {verdict.found}, expected {verdict.expected}"
            pytest.fail(f"{node.name}: {request.node.name}: {line}", pytrace=False)

    return judge


def _suite(config: pytest.Config) -> Suite:
    """Return the run's suite."""
    suite = Suite.of(config)
    assert suite is not None, "pytest_configure registers it"
    return suite


def _label(thing: object) -> str:
    """Return what a thing is called in a test's id."""
    match thing:
        case Container():
            return thing.id
        case Image():
            return thing.ref
        case ListenPort():
            return str(thing.port)
        case Mount():
            return thing.source
        case Model() | ManagedFile():
            return thing.path
    return str(thing)


def _listening(host: HostPlan) -> Iterator[tuple[ListenPort]]:
    """Yield the ports that are always open; vLLM opens its internal ones when it needs them."""
    yield from ((port,) for port in host.ports if port.purpose != "internal")


def _models(host: HostPlan) -> Iterator[tuple[Container, Model]]:
    """Yield each container with the models that it mounts."""
    for container in host.containers:
        sources = {mount.source for mount in container.spec.mounts}
        yield from ((container, model) for model in host.models if model.path in sources)


def _devices(host: HostPlan) -> Iterator[tuple[str]]:
    """Yield the devices of all containers, each once."""
    listed = (device for container in host.containers for device in container.spec.devices)
    yield from ((device,) for device in dict.fromkeys(listed))


def _mounts(host: HostPlan) -> Iterator[tuple[Mount]]:
    """Yield the mounts of all containers, each source once."""
    listed = (mount for container in host.containers for mount in container.spec.mounts)
    yield from ((mount,) for mount in {mount.source: mount for mount in listed}.values())


Things = Callable[[HostPlan], Iterable[tuple[object, ...]]]
THINGS: dict[tuple[str, ...], Things] = {
    ("container", "aspect"): lambda host: product(host.containers, ASPECTS),
    ("container", "model"): _models,
    ("container",): lambda host: ((container,) for container in host.containers),
    ("image",): lambda host: ((image,) for image in host.images),
    ("device",): _devices,
    ("mount",): _mounts,
    ("port",): _listening,
    ("file",): lambda host: ((file,) for file in host.files),
    (): lambda host: [()],
}
"""What is tested of a host, by the arguments that a test function asks for; the first that fits."""
