"""openYuanrong's data system: which hosts keep its data and its members, and their containers."""

from __future__ import annotations

from collections.abc import Sequence

from pdinfra.model.inventory import Host, Inventory
from pdinfra.model.paths import HOME, socket_dir
from pdinfra.model.plan import (
    Container,
    ContainerSpec,
    EtcdMember,
    Healthcheck,
    Identity,
    ListenPort,
    Mount,
    Store,
    Worker,
)
from pdinfra.model.problems import Problem
from pdinfra.planning.containers import GIB, MIB, container
from pdinfra.planning.place import host_part, socket

ETCD_SIZES = (1, 3, 5)
"""Of which a majority can be lost the least: an even one bears no more than one fewer."""
ETCD_BYTES = GIB // 8
WORKER_BYTES = GIB // 2
"""A worker besides its data (measured: 231 MB and 486 threads, idle)."""
HEARTBEATS = 10
"""A worker tells etcd of itself so often within the time after which it counts as gone."""


def store(inventory: Inventory, authority: str) -> Store:
    """Return who keeps what. authority: SHA-256 of the authority's certificate, if there is one."""
    service = inventory.service
    members = []
    for host in inventory.etcd:
        name = f"etcd-{host_part(host)}"
        members.append(
            EtcdMember(
                id=name,
                host=host.name,
                url=f"https://{socket(host.address, service.etcd_port)}",
                peer_url=f"https://{socket(host.address, service.etcd_peer_port)}",
                container=f"pd-{service.service}-{name}",
            )
        )
    workers = []
    for host in inventory.hosts:
        if not host.roles:
            continue
        name = f"datasystem-{host_part(host)}"
        workers.append(
            Worker(
                id=name,
                host=host.name,
                address=host.address,
                port=host.settings.datasystem_port,
                container=f"pd-{service.service}-{name}",
                data_bytes=_data_bytes(host),
            )
        )
    return Store(etcd=tuple(members), workers=tuple(workers), authority=authority)


def store_problems(inventory: Inventory) -> list[Problem]:
    """Check the group etcd."""
    count = len(inventory.etcd)
    if count in ETCD_SIZES:
        return []
    cause = f"{count} hosts in it; with an even number the loss of a half stops it"
    fix = "put 1, 3 or 5 hosts into the group etcd"
    return [Problem(host="inventory", thing="group etcd", cause=cause, fix=fix)]


def identity(host: Host, store: Store) -> Identity | None:
    """Return the certificate that a host needs for its part of the store."""
    if host.name not in {m.host for m in store.etcd} | {w.host for w in store.workers}:
        return None
    service = host.settings.service
    return Identity(folder=f"{HOME}/{service}/pki", address=host.address, name=_etcd_name(service))


def store_ports(host: Host, store: Store) -> list[ListenPort]:
    """Return the ports that the host's part of the store opens."""
    settings = host.settings

    def port(number: int, owner: str, purpose: str) -> ListenPort:
        return ListenPort(port=number, address=host.address, owner=owner, purpose=purpose)

    ports = []
    for member in store.etcd:
        if member.host == host.name:
            ports.append(port(settings.etcd_port, member.id, "clients"))
            ports.append(port(settings.etcd_peer_port, member.id, "members"))
    ports += [port(w.port, w.id, "data") for w in store.workers if w.host == host.name]
    return ports


def store_memory(host: Host, store: Store) -> int:
    """Return the bytes that the host's part of the store will use."""
    workers = sum(w.host == host.name for w in store.workers)
    members = sum(m.host == host.name for m in store.etcd)
    return members * ETCD_BYTES + workers * (WORKER_BYTES + _data_bytes(host))


def store_containers(host: Host, store: Store, image: str) -> list[Container]:
    """Return the host's containers of the store, etcd first."""
    service = host.settings.service
    made = []
    for member in store.etcd:
        if member.host == host.name:
            spec = _etcd_spec(host, member, store.etcd, image)
            made.append(container(service, member.id, "etcd", host.name, "etcd", spec))
    for worker in store.workers:
        if worker.host == host.name:
            spec = _worker_spec(host, worker, store.etcd, image)
            made.append(container(service, worker.id, "datasystem", host.name, "worker", spec))
    return made


def _etcd_spec(
    host: Host, member: EtcdMember, members: Sequence[EtcdMember], image: str
) -> ContainerSpec:
    """Return one member's container."""
    service = host.settings.service
    data, pki = f"{HOME}/{service}/etcd", f"{HOME}/{service}/pki"
    command = (
        "pd-etcd",
        "--name", member.id,
        "--data-dir", data,
        "--listen-client-urls", member.url,
        "--advertise-client-urls", member.url,
        "--listen-peer-urls", member.peer_url,
        "--initial-advertise-peer-urls", member.peer_url,
        "--initial-cluster", ",".join(f"{m.id}={m.peer_url}" for m in members),
        "--initial-cluster-token", f"pdinfra-{service}",
        "--cert-file", f"{pki}/node.crt",
        "--key-file", f"{pki}/node.key",
        "--trusted-ca-file", f"{pki}/ca.crt",
        "--client-cert-auth",
        "--peer-cert-file", f"{pki}/node.crt",
        "--peer-key-file", f"{pki}/node.key",
        "--peer-trusted-ca-file", f"{pki}/ca.crt",
        "--peer-client-cert-auth",
        # Leases and members only: a few kilobytes. History is of no use to anybody.
        "--auto-compaction-mode", "periodic",
        "--auto-compaction-retention", "1h",
    )  # fmt: skip
    return ContainerSpec(
        image=image,
        command=command,
        env=_etcd_client(members, pki),
        mounts=(
            Mount(source=data, target=data, read_only=False),
            Mount(source=pki, target=pki),
        ),
        shm_size=64 * MIB,
        healthcheck=Healthcheck(
            # etcdctl refuses --endpoints while the variable is set.
            test=("CMD", "env", f"ETCDCTL_ENDPOINTS={member.url}", "etcdctl", "endpoint", "health"),
            interval=5,
            timeout=10,
            retries=6,
            start_period=60,
        ),
    )


def _worker_spec(
    host: Host, worker: Worker, members: Sequence[EtcdMember], image: str
) -> ContainerSpec:
    """Return one worker's container. Flags: datasystem 0.8.1, worker_config.json of the wheel."""
    settings = host.settings
    home, pki = f"{HOME}/{settings.service}/datasystem", f"{HOME}/{settings.service}/pki"
    sockets = socket_dir(settings.service)
    ready = "/home/pdinfra/ready"
    silent = settings.datasystem_timeout_seconds
    command = (
        "pd-datasystem",
        f"--worker_address={worker.endpoint}",
        f"--etcd_address={','.join(m.url.removeprefix('https://') for m in members)}",
        "--enable_etcd_auth=true",
        f"--etcd_ca={pki}/ca.crt",
        f"--etcd_cert={pki}/node.crt",
        f"--etcd_key={pki}/node.key",
        f"--etcd_target_name_override={_etcd_name(settings.service)}",
        f"--shared_memory_size_mb={_data_bytes(host) // MIB}",
        f"--unix_domain_socket_dir={sockets}",
        f"--rocksdb_store_dir={home}/rocksdb",
        f"--log_dir={home}/logs",
        "--logtostderr=true",
        f"--ready_check_path={ready}",
        "--health_check_path=/home/pdinfra/healthy",
        f"--node_timeout_s={silent}",
        # The dead node's keys must be given up before clients lose patience with them.
        f"--node_dead_timeout_s={3 * silent}",
        f"--heartbeat_interval_ms={1000 * silent // HEARTBEATS}",
        "--client_dead_timeout_s=15",
    )
    listens = f"exec 3<>/dev/tcp/{worker.address}/{worker.port}"
    return ContainerSpec(
        image=image,
        command=command,
        env=_etcd_client(members, pki),
        mounts=(
            Mount(source=home, target=home, read_only=False),
            Mount(source=sockets, target=sockets, read_only=False),
            Mount(source=pki, target=pki),
        ),
        shm_size=64 * MIB,
        # The data is shared memory, which counts for the container that filled it.
        memory=_data_bytes(host) + 2 * WORKER_BYTES,
        healthcheck=Healthcheck(
            # Its own word (a file) is not enough: it stays when the worker hangs.
            test=("CMD", "bash", "-c", f"test -f {ready} && {listens}"),
            interval=3,
            timeout=5,
            retries=5,
            start_period=120,
        ),
    )


def _etcd_name(service: str) -> str:
    """Return the name of all members in their certificates.

    Measured, 0.8.1: of several members a worker compares the certificate with all their addresses
    as one name, and finds that nobody's.
    """
    return f"etcd.{service}.pdinfra"


def _etcd_client(members: Sequence[EtcdMember], pki: str) -> dict[str, str]:
    """Return what etcdctl needs to reach the members."""
    return {
        "ETCDCTL_ENDPOINTS": ",".join(m.url for m in members),
        "ETCDCTL_CACERT": f"{pki}/ca.crt",
        "ETCDCTL_CERT": f"{pki}/node.crt",
        "ETCDCTL_KEY": f"{pki}/node.key",
    }


def _data_bytes(host: Host) -> int:
    """Return the bytes that the host's worker keeps data in, whole MiB."""
    return int(host.settings.datasystem_gib * GIB) // MIB * MIB
