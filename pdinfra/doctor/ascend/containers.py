"""What the planned containers need of an Ascend host: mounts, ports, interfaces."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from pdinfra.doctor.ascend.host import AscendHost, all_or
from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import HCCL_PORTS
from pdinfra.model.checks import Check
from pdinfra.versions.table import is_a3, vllm_ascend

DOCKER_NETWORK = ip_network("172.17.0.0/16")
INTERFACES = ("HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
INNER = ("lo", "docker", "br-", "veth")
FILE_NAMES = ("npu-smi", "hccn_tool", "hccn.conf", "version.info", "ascend_install.info")
ELSEWHERE = ("npu-smi", "hccn_tool", "hccn.conf")
"""Missing ones have checks of their own."""
DATADIST = "LLMDataDistCMgrConnector"
DATADIST_CARDS = 8

MOUNTS = Rule(
    id="npu-mounts",
    what="What the containers mount of the driver is there, and files are files.",
    expected="every mounted file and directory of the driver",
    fix="install the driver again",
    source="vllm-ascend issue 7711; Docker makes a directory of a bind source that is missing",
)
PORTS = Rule(
    id="npu-hccl-ports",
    what="The kernel gives HCCL's ports on the host to nobody else.",
    expected="ports 60000-60031 reserved",
    fix="reserve them in net.ipv4.ip_local_reserved_ports (`up` does, with pd_manage_ports)",
    source="HCCL docs; vllm-ascend issues 4725, 8938",
    severity="warn",
)
INTERFACE = Rule(
    id="npu-interface",
    what="HCCL_IF_IP and the *_SOCKET_IFNAME of the engines are not loopback or Docker's bridge.",
    expected="an address and interface of the network between the hosts",
    fix="correct it in pd_env",
    source="vllm-ascend issues 2399, 5635",
)
CARDS = Rule(
    id="npu-datadist-cards",
    what=f"{DATADIST} drives at most {DATADIST_CARDS} devices of one host.",
    expected=f"at most {DATADIST_CARDS} devices with {DATADIST}",
    fix="plan fewer devices on this host, or set pd_connector to MooncakeConnectorV1",
    source="vllm-ascend issue 4488",
)
IMAGE = Rule(
    id="npu-image",
    what="The image of vllm-ascend is made for the host's cards: for A3 its tag has -a3.",
    expected="an image for the host's cards",
    fix="set pd_image for this host to the same version's image for its cards",
    source="vllm-ascend docs, installation: images by product; SOC_VERSION in its Dockerfiles",
)

RULES = (MOUNTS, PORTS, INTERFACE, CARDS, IMAGE)


def checks(host: AscendHost) -> Iterator[Check]:
    """Yield the checks; without a driver there is nothing to mount yet."""
    if host.ascend.state != "absent":
        yield from all_or(MOUNTS, host.name, _mounts(host), f"{len(host.ascend.mounts)} there")
    yield _ports(host)
    yield from all_or(INTERFACE, host.name, _interfaces(host), "none of them")
    if host.ascend.state == "ready":
        yield from all_or(IMAGE, host.name, _images(host), f"for {host.ascend.generation.upper()}")
    if host.connector == DATADIST:
        yield from all_or(CARDS, host.name, _cards(host), f"{len(host.devices)} devices")


def _mounts(host: AscendHost) -> Iterator[Check]:
    """Yield mounted paths that are missing, or directories in place of files."""
    for path, kind in sorted(host.ascend.mounts.items()):
        name = path.rpartition("/")[2]
        if kind == "directory" and name in FILE_NAMES:
            fix = f"`rmdir {path}` (Docker made it for a container), then install the driver again"
            yield MOUNTS.bad(host.name, f"{path} is a directory", expected="a file", fix=fix)
        elif kind == "absent" and name not in ELSEWHERE:
            yield MOUNTS.bad(host.name, f"no {path}", expected=path)


def _ports(host: AscendHost) -> Check:
    """HCCL's ports are reserved, or `up` reserves them."""
    first, last = host.facts.network.ephemeral
    inside = [port for port in HCCL_PORTS if first <= port <= last]
    open_to_all = set(inside) - host.facts.network.reserved
    if not open_to_all:
        return PORTS.ok(host.name, "nobody gets them")
    if host.plan.basics is not None and host.plan.basics.ports:
        return PORTS.ok(host.name, f"{len(open_to_all)} to reserve: `up` does")
    return PORTS.bad(host.name, f"{len(open_to_all)} of them inside {first}-{last}, not reserved")


def _interfaces(host: AscendHost) -> Iterator[Check]:
    """Yield engines that are told to talk over an interface that no other host reaches."""
    own = {**host.facts.network.addresses, host.plan.address: ""}
    fix = f"correct it in pd_env (per host: {host.name} has {', '.join(own)})"
    for container in host.engines:
        env = container.spec.env
        address = env.get("HCCL_IF_IP", "")
        if address and (_inner_address(address) or address not in own):
            yield INTERFACE.bad(host.name, f"HCCL_IF_IP={address} for {container.id}", fix=fix)
        for name in INTERFACES:
            value = env.get(name, "")
            # "^docker0" excludes, "=eth0" means exactly this one (HCCL docs).
            if not value.startswith("^") and value.lstrip("=").startswith(INNER):
                yield INTERFACE.bad(host.name, f"{name}={value} for {container.id}")


def _inner_address(text: str) -> bool:
    """Tell whether an address is loopback or of Docker's default bridge."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return address.is_loopback or address in DOCKER_NETWORK


def _cards(host: AscendHost) -> Iterator[Check]:
    """Yield more devices than the connector links."""
    if len(host.devices) > DATADIST_CARDS:
        yield CARDS.bad(host.name, f"{len(host.devices)} devices")


def _images(host: AscendHost) -> Iterator[Check]:
    """Yield images for other cards; a name that tells no version may be made for any."""
    generation = host.ascend.generation
    for image in dict.fromkeys(container.spec.image for container in host.engines):
        if vllm_ascend(image) is None or is_a3(image) == (generation == "a3"):
            continue
        expected = f"one for {generation.upper()}"
        yield IMAGE.bad(host.name, f"{image} on {generation.upper()} cards", expected=expected)
