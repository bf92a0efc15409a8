"""Names, addresses, routes and proxies of a host that works with other machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network

from pdinfra.doctor.rules import Rule
from pdinfra.model.addresses import is_ip, is_loopback
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts, ProxyFact
from pdinfra.model.plan import HostPlan, Plan
from pdinfra.stacks.interfaces import interface_variables

BRIDGES = ("docker", "br-", "veth", "virbr", "cni", "lo")
"""What the names of interfaces start with that no other machine can reach."""

HOSTNAME = Rule(
    id="hostname",
    what="The host's own name does not lead to a loopback address.",
    expected="the host's address, which the other machines can reach",
    fix="leave pd_manage_hosts on and run `up`, or mend the 127.0.1.1 line of /etc/hosts",
    source="vllm-ascend #2399: libraries offer what the own name leads to; Debian's 127.0.1.1",
)
NAMES = Rule(
    id="names",
    what="Names of other machines that the inventory uses as addresses can be resolved.",
    expected="an address that other machines can reach",
    fix="set pd_address (or ansible_host) of that host to its IP address, or mend its DNS entry",
    source="the plan: containers are told these names",
)
ADDRESS = Rule(
    id="address",
    what="The planned address is the host's own, on an interface that other machines can reach.",
    expected="an address of one of the host's network interfaces",
    fix="set pd_address to an address of the network between the hosts (`ip addr` lists them)",
    source="vllm-ascend #5635: the address of docker0 was offered, transfers failed with 103900",
)
INTERFACE = Rule(
    id="interface",
    what="Engines on NVIDIA, and native ones on Ascend, are told the interface of their host.",
    expected="an interface that has the host's address",
    fix="set pd_address to an address of the host itself, or the variables in pd_env",
    source="vllm-ascend #2399, #5635: libraries fall back to loopback or docker0",
    severity="warn",
)
ROUTE = Rule(
    id="route",
    what="The host has a default route.",
    expected="a default route",
    fix="`ip route add default via GATEWAY`, and in the system's network settings to last",
    source="libraries find their own address by a route; registries and model hubs lie behind it",
    severity="warn",
)
PROXY = Rule(
    id="proxy",
    what="Where a proxy is set, calls between the hosts do not go through it.",
    expected="the addresses of the service in no_proxy",
    fix="add them to no_proxy in the same place",
    source="guide AscendCloud-LLM, vllm-ascend v0.11 examples: `unset http_proxy`, `no_proxy`",
    severity="warn",
)

RULES: tuple[Rule, ...] = (HOSTNAME, NAMES, ADDRESS, INTERFACE, ROUTE, PROXY)


def network_checks(plan: Plan, host: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """Yield the checks of one host; none where the service lives on one machine."""
    if not plan.spans_machines:
        return
    yield _hostname(host, facts)
    yield from _names(plan, host, facts)
    yield _address(host, facts)
    yield _route(host, facts)
    yield _proxies(plan, host, facts)


def interface_checks(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Yield whether engines can be told an interface where the inventory names none.

    plan: as the inventory has it. Finished with facts, it has what stands in the way there.
    """
    for host in plan.active:
        names = interface_variables(plan.stack, host.accelerator)
        engines = [c.spec.env for c in host.containers if c.kind == "instance"]
        wanted = [name for name in names if any(name not in env for env in engines)]
        if not wanted or host.name not in facts:
            continue
        if interface := facts[host.name].network.interface(host.address):
            yield INTERFACE.ok(host.name, f"{host.address} on {interface}")
            continue
        found = f"no interface has {host.address}: {', '.join(wanted)} not set, or left as they are"
        yield INTERFACE.bad(host.name, found)


def _hostname(host: HostPlan, facts: HostFacts) -> Check:
    """The own name must be good for others too."""
    found = facts.network.resolved.get(facts.hostname, ())
    told = f"{facts.hostname} → {', '.join(found) or 'nothing'}"
    if found and not any(is_loopback(address) for address in found):
        return HOSTNAME.ok(host.name, told, expected=host.address)
    if host.basics is not None and host.basics.names:
        return HOSTNAME.ok(host.name, f"{told}: `up` mends it", expected=host.address)
    return HOSTNAME.bad(host.name, told, expected=host.address)


def _names(plan: Plan, host: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """Planned addresses that are names have to lead somewhere."""
    used = [other.address for other in plan.active if other.address != host.address]
    named = [name for name in dict.fromkeys(used) if not is_ip(name)]
    if not named:
        return
    wrong = {
        name: found
        for name in named
        for found in [facts.network.resolved.get(name, ())]
        if not found or any(is_loopback(address) for address in found)
    }
    if not wrong:
        yield NAMES.ok(host.name, f"{len(named)} names resolved")
        return
    told = ", ".join(f"{name} → {', '.join(found) or 'nothing'}" for name, found in wrong.items())
    yield NAMES.bad(host.name, told)


def _address(host: HostPlan, facts: HostFacts) -> Check:
    """Containers bind the planned address, and give it to others."""
    own = facts.network.addresses
    addresses: tuple[str, ...] = (host.address,)
    if not is_ip(host.address):
        addresses = facts.network.resolved.get(host.address, ())
    interfaces = {own[address] for address in addresses if address in own}
    listed = ", ".join(f"{a} ({i})" for a, i in own.items() if not is_loopback(a)) or "none"
    if not interfaces:
        return ADDRESS.bad(host.name, f"{host.address} is none of {listed}")
    inner = [name for name in interfaces if name.startswith(BRIDGES)]
    if inner:
        return ADDRESS.bad(host.name, f"{host.address} is on {inner[0]}, inside the host")
    return ADDRESS.ok(host.name, f"{host.address} on {', '.join(sorted(interfaces))}")


def _route(host: HostPlan, facts: HostFacts) -> Check:
    """There is a way out."""
    if facts.network.default_route:
        return ROUTE.ok(host.name, f"by {facts.network.default_route}")
    return ROUTE.bad(host.name, "no default route")


def _proxies(plan: Plan, host: HostPlan, facts: HostFacts) -> Check:
    """Calls between members must not go through a proxy."""
    wanted = list(dict.fromkeys(other.address for other in plan.active))
    caught = {
        proxy.where: missing
        for proxy in facts.network.proxies
        if (missing := [address for address in wanted if not _excepted(address, proxy.no_proxy)])
    }
    if not caught:
        found = ", ".join(_shown(proxy) for proxy in facts.network.proxies)
        return PROXY.ok(host.name, found or "no proxy")
    places = {proxy.where: proxy for proxy in facts.network.proxies}
    found = "; ".join(
        f"{_shown(places[where])} catches {', '.join(m)}" for where, m in caught.items()
    )
    every = dict.fromkeys(address for mine in caught.values() for address in mine)
    fix = f"add {','.join(every)} to no_proxy of {' and '.join(caught)}"
    return PROXY.bad(host.name, found, fix=fix)


def _shown(proxy: ProxyFact) -> str:
    """Return a proxy with the place it is set in."""
    return f"{proxy.url} ({proxy.where})"


def _excepted(address: str, no_proxy: Iterable[str]) -> bool:
    """Tell whether no_proxy has an address: itself, its domain, its network, or everything."""
    for entry in no_proxy:
        if entry in ("*", address):
            return True
        if "/" in entry and is_ip(address) and _inside(address, entry):
            return True
        if not is_ip(address) and address.endswith("." + entry.lstrip("*.")):
            return True
    return False


def _inside(address: str, network: str) -> bool:
    """Tell whether an address is in a network; what is not a network has none."""
    try:
        return ip_address(address) in ip_network(network, strict=False)
    except ValueError:
        return False
