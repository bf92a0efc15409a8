"""A host's changes → its work order: exactly what the roles are handed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from pdinfra.model.changes import Change, Kind
from pdinfra.model.plan import Container, HostPlan, Image, Model, Plan, Share
from pdinfra.planning.basics import NO_BASICS, BasicsWork
from pdinfra.planning.changes import stages
from pdinfra.planning.deployment import NO_DEPLOYMENT, DeploymentWork
from pdinfra.planning.drivers import DriverWork, driver_work
from pdinfra.planning.members import NO_MEMBERS, MemberWork
from pdinfra.planning.table_changes import NO_TABLES, TableWork


class ContainerWork(BaseModel):
    """A container to start; ``recreate`` when one of that name is there and must go first."""

    model_config = ConfigDict(frozen=True)

    container: Container
    recreate: bool


class ModelWork(BaseModel):
    """A model directory to provide; the fields are those of the plan's Model."""

    model_config = ConfigDict(frozen=True)

    path: str
    source: str
    repo: str
    revision: str
    endpoint: str
    files: tuple[str, ...]
    sha256: dict[str, str]
    origin: str


class HostWork(BaseModel):
    """What the roles do on one host. Empty lists mean that nothing is to be done.

    ``published`` is for the controller: images that the host is going to pull and pdinfra makes.
    Of the instances, the ids in ``later`` are started when all others of the service are healthy.
    ``store`` are the containers that the engines are started after, all of the host's; ``nodes``
    those of openYuanrong's full mode.
    """

    model_config = ConfigDict(frozen=True)

    stages: tuple[Kind, ...]
    basics: BasicsWork
    driver: DriverWork
    images: tuple[Image, ...]
    published: tuple[Image, ...]
    models: tuple[ModelWork, ...]
    shares: tuple[Share, ...] = ()
    etcd: tuple[ContainerWork, ...] = ()
    workers: tuple[ContainerWork, ...] = ()
    nodes: tuple[str, ...] = ()
    masters: tuple[ContainerWork, ...] = ()
    agents: tuple[ContainerWork, ...] = ()
    heads: tuple[ContainerWork, ...] = ()
    ray_nodes: tuple[ContainerWork, ...] = ()
    removed_heads: tuple[str, ...] = ()
    removed_ray_nodes: tuple[str, ...] = ()
    removed_etcd: tuple[str, ...] = ()
    removed_workers: tuple[str, ...] = ()
    removed_masters: tuple[str, ...] = ()
    removed_agents: tuple[str, ...] = ()
    store: tuple[str, ...] = ()
    instances: tuple[ContainerWork, ...]
    routers: tuple[ContainerWork, ...]
    removed_instances: tuple[str, ...]
    removed_routers: tuple[str, ...]
    wait_for: tuple[str, ...]
    members: MemberWork = NO_MEMBERS
    deployment: DeploymentWork = NO_DEPLOYMENT
    rank_tables: TableWork = NO_TABLES
    later: tuple[str, ...] = ()


def with_shares(plan: Plan, work: Mapping[str, HostWork]) -> dict[str, HostWork]:
    """Return all work, and that of the hosts which others copy the model from.

    Those have work even if they lack nothing themselves.
    """
    result = dict(work)
    asked = {model.origin for order in work.values() for model in order.models}
    for name in asked & work.keys():
        share = plan.host(name).share
        if share is None:
            continue
        steps = dict.fromkeys((*work[name].stages, "model"))
        more = {"shares": (share,), "stages": tuple(steps)}
        result[name] = work[name].model_copy(update=more)
    return result


def _model_work(model: Model) -> ModelWork:
    """Return what the role needs of a planned model."""
    return ModelWork.model_validate(model.model_dump(exclude={"tensor_parallel_sizes"}))


def host_work(
    plan: HostPlan,
    changes: Sequence[Change],
    *,
    check: bool,
    basics: BasicsWork = NO_BASICS,
    members: MemberWork = NO_MEMBERS,
    deployment: DeploymentWork = NO_DEPLOYMENT,
    later: Collection[str] = (),
    rank_tables: TableWork = NO_TABLES,
) -> HostWork:
    """Return the work that makes one host equal to the plan.

    members, deployment: on the router's host. later: instances of the second wave.
    """
    todo = {(change.kind, change.id): change.action for change in changes}

    def containers(kind: Kind) -> tuple[ContainerWork, ...]:
        return tuple(
            ContainerWork(container=c, recreate=todo[kind, c.id] == "replace")
            for c in plan.containers
            if todo.get((kind, c.id)) in ("create", "replace")
        )

    def removed(kind: Kind) -> tuple[str, ...]:
        return tuple(
            change.container
            for change in changes
            if change.kind == kind and change.action == "remove"
        )

    images = tuple(image for image in plan.images if ("image", image.ref) in todo)
    return HostWork(
        stages=_stages(changes, members, check=check),
        basics=basics,
        driver=driver_work(plan, changes),
        images=images,
        published=tuple(plan.published[i.ref] for i in images if i.ref in plan.published),
        models=tuple(_model_work(model) for model in plan.models if ("model", model.path) in todo),
        etcd=containers("etcd"),
        workers=containers("worker"),
        nodes=tuple(c.id for c in plan.containers if c.kind in ("master", "agent")),
        masters=containers("master"),
        agents=containers("agent"),
        heads=containers("head"),
        ray_nodes=containers("node"),
        removed_heads=removed("head"),
        removed_ray_nodes=removed("node"),
        removed_masters=removed("master"),
        removed_agents=removed("agent"),
        removed_etcd=removed("etcd"),
        removed_workers=removed("worker"),
        store=tuple(c.id for c in plan.containers if c.kind in ("etcd", "worker")),
        instances=containers("instance"),
        routers=containers("router"),
        removed_instances=removed("instance"),
        removed_routers=removed("router"),
        wait_for=tuple(container.id for container in plan.containers),
        members=members,
        deployment=deployment,
        rank_tables=rank_tables,
        later=tuple(c.id for c in plan.containers if c.id in later),
    )


def _stages(changes: Sequence[Change], members: MemberWork, *, check: bool) -> tuple[Kind, ...]:
    """Return the stages; members that leave and come back are no change, but work."""
    found = stages(changes, check=check)
    silent = members != NO_MEMBERS and "member" not in found and not check
    return (*found, "member") if silent else tuple(found)


def publications(orders: Iterable[HostWork]) -> tuple[Image, ...]:
    """Return what the controller brings into the registry: each image once, for all hosts."""
    wanted = {
        image.remote: image
        for order in orders
        if "image" in order.stages
        for image in order.published
    }
    return tuple(wanted.values())
