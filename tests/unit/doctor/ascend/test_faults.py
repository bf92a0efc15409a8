"""Each fault of an Ascend host gives exactly its check, on exactly its host, with its fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pdinfra.doctor import examine
from pdinfra.doctor.ascend import RULES, checks
from pdinfra.model.ascend import DeviceClaim, HccnConf
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from tests.unit.ascend import CONTAINER, ascend, fleet, fleet_facts, network, npu, process
from tests.unit.builders import ASCEND, NOW, TWO_HOSTS, facts, observed, plan
from tests.unit.builders import network as host_network


@dataclass(frozen=True)
class Case:
    """A fault on host b (devices 0 and 1 are planned), and all that the doctor says of it."""

    ascend: dict[str, Any]
    check: str
    found: str
    fix: str
    status: str = "fail"
    host: str = "b"
    plan: dict[str, Any] = field(default_factory=dict)


def nets(**more: Any) -> dict[int, Any]:
    """Return b's networks with device 1's changed."""
    return {0: network(2, 0), 1: network(2, 1, **more)}


def npus(device: int = 1, **more: Any) -> tuple[Any, ...]:
    """Return b's devices with one of them changed."""
    return tuple(npu(n, **(more if n == device else {})) for n in range(8))


def conf(**addresses: str | None) -> HccnConf:
    """Return b's hccn.conf with the addresses of some devices changed (``d1=None``: left out)."""
    written = {device: f"10.20.2.{device + 1}" for device in range(8)}
    for name, address in addresses.items():
        del written[int(name[1:])]
        if address is not None:
            written[int(name[1:])] = address
    return HccnConf(addresses=written)


def mounts(path: str, kind: str) -> dict[str, str]:
    """Return b's mount sources with one of another kind."""
    there = ascend(fleet().host("b"), 2).mounts
    assert path in there, "a mount of the plan"
    return {**there, path: kind}


def claim(*devices: int, privileged: bool = False, service: str = "") -> tuple[DeviceClaim, ...]:
    """Return a container that has devices."""
    return (
        DeviceClaim(
            container="jupyter",
            container_id=CONTAINER,
            service=service,
            devices=devices,
            privileged=privileged,
        ),
    )


def nodes(without: str) -> tuple[str, ...]:
    """Return b's device nodes but one."""
    return tuple(node for node in ascend(fleet().host("b"), 2).nodes if node != without)


OTHER = "10.99.0.2"
DRIVER = [
    pytest.param(
        Case(
            {"state": "absent", "npu_smi": (), "driver": ""}, "npu-driver", "no npu-smi", "install"
        ),
        id="no driver",
    ),
    pytest.param(
        Case({"state": "unloaded", "detail": "ret is -8005"}, "npu-driver", "-8005", "lsmod"),
        id="driver not loaded",
    ),
    pytest.param(
        Case({"state": "failed", "detail": "ret is -9005"}, "npu-driver", "-9005", "reboot"),
        id="driver half up",
    ),
    pytest.param(
        Case({"state": "held", "detail": "ret is -8020"}, "npu-held", "-8020", "docker inspect"),
        id="held by a container",
    ),
    pytest.param(
        Case({"nodes": nodes("/dev/davinci1")}, "npu-node", "no /dev/davinci1", "reload"),
        id="node of a device missing",
    ),
    pytest.param(
        Case({"nodes": nodes("/dev/hisi_hdc")}, "npu-node", "no /dev/hisi_hdc", "reload"),
        id="shared node missing",
    ),
    pytest.param(
        Case({"compatibility": {0: "OK", 1: "NOT OK"}}, "npu-firmware", "NPU 1: ", "one HDK"),
        id="driver and firmware do not fit",
    ),
    pytest.param(
        Case(
            {"firmware": "6.4.12.1.241", "compatibility": dict.fromkeys(range(8), "NOT OK")},
            "npu-firmware",
            "firmware 6.4.12.1.241",
            "one HDK",
        ),
        id="firmware out of range is one finding",
    ),
    pytest.param(
        Case({"driver": "24.1.rc2.2"}, "npu-driver-same", "driver 24.1.rc2.2", "25.3.rc1", "warn"),
        id="another driver than on a",
    ),
]
CARDS = [
    pytest.param(
        Case({"npus": npus(health="Alarm")}, "npu-health", "device 1: Alarm", "-i 1 -c 0"),
        id="unhealthy",
    ),
    pytest.param(
        Case(
            {"npus": npus(health="Warning"), "error_codes": {1: "80E01801"}},
            "npu-health",
            "Warning (error code 80E01801)",
            "device 1 out of pd_devices",
        ),
        id="unhealthy with a code",
    ),
    pytest.param(
        Case({"npus": npus(device=0)[:1]}, "npu-device", "no device 1", "pd_devices"),
        id="device that the host does not have",
    ),
    pytest.param(
        Case(
            {"npus": npus(hbm_used=34118, processes=(process(seen=False),))},
            "npu-busy",
            "device 1: python (pid 4711)",
            "`kill 4711` on b",
        ),
        id="process of others",
    ),
    pytest.param(
        Case(
            {"openers": {0: (process(9, ""),)}}, "npu-busy", "device 0: a process (pid 9)", "kill 9"
        ),
        id="node held open",
    ),
    pytest.param(
        Case({"npus": npus(hbm_used=34058)}, "npu-memory", "device 1: 34058 of 65536", "fuser -v"),
        id="zombie",
    ),
    pytest.param(
        Case({"claims": claim(1, 2)}, "npu-claimed", "jupyter has device 1", "docker stop jupyter"),
        id="device of another container",
    ),
    pytest.param(
        Case(
            {"claims": claim(privileged=True)}, "npu-claimed", "jupyter is privileged", "", "warn"
        ),
        id="privileged container of others",
    ),
]
NETWORK = [
    pytest.param(
        Case({"hccn_tool": None, "networks": {}}, "npu-hccn-tool", "no hccn_tool", "install"),
        id="no hccn_tool",
    ),
    pytest.param(
        Case({"networks": nets(error="hccn_tool is busy")}, "npu-hccn-tool", "device 1", "pgrep"),
        id="busy",
    ),
    pytest.param(
        Case(
            {"networks": nets(error="permission denied: pls")},
            "npu-hccn-tool",
            "permission denied",
            "ansible_become: true for b",
        ),
        id="not root",
    ),
    pytest.param(
        Case(
            {"networks": nets(address=None, netmask=None, net_health="Fault")},
            "npu-address",
            "device 1 has none",
            "`hccn_tool -i 1 -ip -s address 10.20.2.2 netmask 255.255.0.0`",
        ),
        id="address lost",
    ),
    pytest.param(
        Case(
            {"networks": nets(address=None, netmask=None), "conf": conf(d1=None)},
            "npu-address",
            "device 1 has none",
            "address <free address> netmask 255.255.0.0",
        ),
        id="address never set",
    ),
    pytest.param(
        Case({"conf": None}, "npu-hccn-conf", "no /etc/hccn.conf", "touch /etc/hccn.conf"),
        id="no hccn.conf",
    ),
    pytest.param(
        Case(
            {"conf": HccnConf()}, "npu-hccn-conf", "no address in", "-i 0 -ip -s address 10.20.2.1"
        ),
        id="hccn.conf empty",
    ),
    pytest.param(
        Case(
            {"conf": conf(d1="10.20.2.77")},
            "npu-hccn-conf",
            "address_1=10.20.2.77",
            "-i 1 -ip -s address 10.20.2.2 netmask 255.255.0.0",
        ),
        id="hccn.conf differs",
    ),
    pytest.param(
        Case(
            {"conf": conf(d1=None)},
            "npu-hccn-conf",
            "no address_1",
            "-i 1 -ip -s address 10.20.2.2",
        ),
        id="hccn.conf without a device",
    ),
    pytest.param(
        Case(
            {"networks": nets(link="DOWN", net_health="Fault")},
            "npu-link",
            "device 1: link DOWN",
            "hccn_tool -i 1 -optical -g",
        ),
        id="link down",
    ),
    pytest.param(
        Case(
            {"networks": nets(net_health="Unreachable")},
            "npu-net-health",
            "device 1: Unreachable",
            "hccn_tool -i 1 -ping -g address 10.20.255.254",
        ),
        id="net health",
    ),
    pytest.param(
        Case(
            {"networks": nets(net_health="Init", detect="0.0.0.0")},
            "npu-net-health",
            "device 1: Init",
            "hccn_tool -i 1 -netdetect -s address 10.20.255.254",
            "warn",
        ),
        id="nothing watched",
    ),
    pytest.param(
        Case(
            {"networks": nets(gateway=None)}, "npu-gateway", "device 1", "-i 1 -gateway -s", "warn"
        ),
        id="no gateway",
    ),
]
FLEET = [
    pytest.param(
        Case(
            {"networks": nets(address="10.20.1.1"), "conf": conf(d1="10.20.1.1")},
            "npu-address-unique",
            "10.20.1.1 on device 0 of a and 1 of b",
            "on b: `hccn_tool -i 1 -ip -s address <free address> netmask 255.255.0.0`",
            host="a → b",
        ),
        id="address of another host",
    ),
    pytest.param(
        Case(
            {"networks": nets(address="10.20.2.1"), "conf": conf(d1="10.20.2.1")},
            "npu-address-unique",
            "10.20.2.1 on device 0 of b and 1 of b",
            "on b: ",
        ),
        id="address of another device",
    ),
    pytest.param(
        Case(
            {"networks": nets(netmask="255.255.255.0")},
            "npu-subnet",
            "device 1: 10.20.2.2/24, gateway 10.20.255.254",
            "netmask 255.255.0.0",
        ),
        id="netmask",
    ),
    pytest.param(
        Case({"networks": nets(tls=True)}, "npu-tls", "device 1: on", "-tls -s enable 0"),
        id="TLS differs on one device",
    ),
    pytest.param(
        Case(
            {"networks": {n: network(2, n, tls=True) for n in (0, 1)}},
            "npu-tls",
            "devices 0, 1: on",
            "for i in 0 1; do hccn_tool -i $i -tls -s enable 0",
        ),
        id="TLS differs between the hosts",
    ),
]
CONTAINERS = [
    pytest.param(
        Case(
            {"mounts": mounts("/usr/local/dcmi", "absent")},
            "npu-mounts",
            "no /usr/local/dcmi",
            "driver",
        ),
        id="mount missing",
    ),
    pytest.param(
        Case(
            {"mounts": mounts("/etc/ascend_install.info", "directory")},
            "npu-mounts",
            "/etc/ascend_install.info is a directory",
            "rmdir /etc/ascend_install.info",
        ),
        id="directory that Docker made",
    ),
]


def bad(of: Plan, seen: dict[str, HostFacts]) -> list[Check]:
    return [check for check in checks(of, seen) if check.status != "ok"]


def test_healthy_fleet_fails_nothing_and_warns_of_nothing() -> None:
    found = list(checks(fleet(), fleet_facts(fleet())))
    assert [str(check) for check in found if check.status != "ok"] == []
    assert {check.host for check in found} == {"a", "b"}
    assert {c.id for c in found} == {rule.id for rule in RULES} - {"npu-datadist-cards"}


@pytest.mark.parametrize("case", [*DRIVER, *CARDS, *NETWORK, *FLEET, *CONTAINERS])
def test_fault_gives_exactly_its_check(case: Case) -> None:
    of = fleet(**case.plan)
    (found,) = bad(of, fleet_facts(of, b=case.ascend))
    assert (found.id, found.host, found.status) == (case.check, case.host, case.status)
    assert case.found in found.found
    assert case.fix in found.fix
    assert found.fix


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"npus": npus(5, health="Alarm")}, id="health"),
        pytest.param({"npus": npus(5, processes=(process(),))}, id="process"),
        pytest.param({"npus": npus(5, hbm_used=60000)}, id="memory"),
        pytest.param({"claims": claim(5)}, id="container"),
        pytest.param({"nodes": nodes("/dev/davinci5")}, id="node"),
        pytest.param({"compatibility": {0: "OK", 1: "OK", 5: "NOT OK"}}, id="firmware"),
        pytest.param({"conf": conf(d5="10.0.0.1")}, id="hccn.conf"),
    ],
)
def test_devices_that_the_plan_does_not_use_do_not_matter(changed: dict[str, Any]) -> None:
    assert bad(fleet(), fleet_facts(fleet(), b=changed)) == []


def test_hosts_of_other_accelerators_have_no_such_checks() -> None:
    of = plan(TWO_HOSTS)
    assert list(checks(of, {host.name: facts(host) for host in of.hosts})) == []


def test_the_doctor_has_them_among_its_checks() -> None:
    seen = fleet_facts(fleet(), b={"npus": npus(health="Alarm")})
    assert "npu-health" in [c.id for c in examine(fleet(), seen, NOW) if c.status == "fail"]


# Our own containers


def running(device_facts: dict[str, Any], **state: Any) -> dict[str, HostFacts]:
    """Return the fleet with b's engine running, and b's Ascend side changed."""
    of = fleet().host("b")
    engine = next(c for c in of.containers if c.kind == "instance")
    mine = observed(engine, **state)
    seen = facts(of, [mine], ascend=ascend(of, 2, **device_facts))
    return {**fleet_facts(fleet()), "b": seen}


def test_our_own_running_engine_is_no_trouble() -> None:
    ours = process(container="f" * 64)
    seen = running(
        {
            "npus": npus(hbm_used=60000, processes=(ours,)),
            "openers": {1: (ours,)},
            "claims": claim(0, 1, service="pd"),
        }
    )
    assert bad(fleet(), seen) == []


def test_our_own_engine_is_known_by_its_devices_where_proc_does_not_tell() -> None:
    hidden = running({"npus": npus(hbm_used=60000, processes=(process(seen=False),))})
    assert bad(fleet(), hidden) == []
    missing = running({"npus": npus(hbm_used=60000)})
    assert bad(fleet(), missing) == []


def test_stopped_engine_excuses_nothing() -> None:
    seen = running({"npus": npus(hbm_used=60000)}, Status="exited")
    assert [c.id for c in bad(fleet(), seen)] == ["npu-memory"]


def test_foreign_process_beside_our_engine_is_found() -> None:
    seen = running({"openers": {1: (process(),)}})
    assert [c.id for c in bad(fleet(), seen)] == ["npu-busy"]


def test_process_of_a_container_that_was_given_the_device_is_named_once() -> None:
    seen = fleet_facts(
        fleet(),
        b={"claims": claim(1), "npus": npus(processes=(process(container=CONTAINER),))},
    )
    assert [c.id for c in bad(fleet(), seen)] == ["npu-claimed"]


# Idle memory


@pytest.mark.parametrize(("used", "total"), [(3338, 65536), (3440, 65536), (2894, 32768)])
def test_idle_devices_as_captured_are_no_zombies(used: int, total: int) -> None:
    seen = fleet_facts(fleet(), b={"npus": npus(hbm_used=used, hbm_total=total)})
    assert bad(fleet(), seen) == []


# A3


A3_IMAGE = "quay.io/ascend/vllm-ascend:v0.11.0-a3"
A3 = fleet(b={"pd_image": A3_IMAGE})


def a3(**more: Any) -> dict[str, Any]:
    """Return an A3's side: virtual NICs, nothing about them in hccn.conf."""
    return {"generation": "a3", "conf": HccnConf(addresses={0: "10.9.9.9"}), **more}


def vnics(**more: Any) -> dict[int, Any]:
    return {n: network(2, n, **{"vnic": "UP", **(more if n else {})}) for n in (0, 1)}


def test_a3_without_gateway_and_with_another_hccn_conf_is_well() -> None:
    assert bad(A3, fleet_facts(A3, b=a3(networks=vnics(gateway=None)))) == []


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"link": "DOWN"}, "npu-link"),
        ({"net_health": "Init"}, "npu-net-health"),
        ({"net_health": "Fault"}, "npu-net-health"),
    ],
)
def test_roce_side_of_an_a3_only_warns_unless_it_is_used(
    changed: dict[str, Any], check: str
) -> None:
    seen = fleet_facts(A3, b=a3(networks=vnics(**changed)))
    assert [(c.id, c.status) for c in bad(A3, seen)] == [(check, "warn")]
    roce = fleet(pd_env={"HCCL_INTRA_ROCE_ENABLE": "1"})
    status = "warn" if changed == {"net_health": "Init"} else "fail"
    assert (check, status) in [
        (c.id, c.status) for c in bad(roce, fleet_facts(roce, b=a3(networks=vnics(**changed))))
    ]


def test_virtual_nic_that_is_down_fails() -> None:
    seen = fleet_facts(A3, b=a3(networks=vnics(vnic="DOWN")))
    (found,) = bad(A3, seen)
    assert (found.id, found.status) == ("npu-link", "fail")
    assert "virtual NIC DOWN" in found.found


def test_image_for_other_cards_fails_on_its_host() -> None:
    wrong = fleet(b={"pd_image": A3_IMAGE})
    (found,) = bad(wrong, fleet_facts(wrong))
    assert (found.id, found.host, found.status) == ("npu-image", "b", "fail")
    assert (found.found, found.expected) == (f"{A3_IMAGE} on A2 cards", "one for A2")
    (other,) = bad(fleet(), fleet_facts(fleet(), b=a3(networks=vnics())))
    assert (other.id, other.host, other.expected) == ("npu-image", "b", "one for A3")


# Between the hosts


def test_tls_that_is_on_everywhere_is_a_warning_on_each_host() -> None:
    on = {
        name: {"networks": {n: network(index, n, tls=True) for n in (0, 1)}}
        for index, name in ((1, "a"), (2, "b"))
    }
    found = bad(fleet(), fleet_facts(fleet(), **on))
    assert [(c.id, c.host, c.status) for c in found] == [
        ("npu-tls", "a", "warn"),
        ("npu-tls", "b", "warn"),
    ]


def test_tls_is_switched_to_what_most_devices_have() -> None:
    on = {"networks": {n: network(1, n, tls=True) for n in (0, 1)}}
    found = bad(fleet(), fleet_facts(fleet(), a=on, b={"networks": nets(tls=True)}))
    assert [(c.id, c.host, c.status) for c in found] == [("npu-tls", "b", "fail")]
    assert found[0].fix == "`for i in 0; do hccn_tool -i $i -tls -s enable 1; done`"


def test_device_without_certificates_has_no_switch_to_compare() -> None:
    assert bad(fleet(), fleet_facts(fleet(), b={"networks": nets(tls=None)})) == []


def test_subnets_with_gateways_of_their_own_are_well() -> None:
    rails = {
        name: {
            "networks": {
                n: network(0, n, address=f"10.{n}.0.{host}", gateway=f"10.{n}.255.254")
                for n in (0, 1)
            },
            "conf": HccnConf(addresses={n: f"10.{n}.0.{host}" for n in (0, 1)}),
        }
        for host, name in ((1, "a"), (2, "b"))
    }
    assert bad(fleet(), fleet_facts(fleet(), **rails)) == []


def test_host_that_was_not_observed_hides_nothing_of_the_others() -> None:
    seen = fleet_facts(fleet(), b={"npus": npus(health="Alarm")})
    del seen["a"]
    assert [c.id for c in bad(fleet(), seen)] == ["npu-health"]


# The plan against the host


@pytest.mark.parametrize(
    ("image", "driver", "status"),
    [
        ("quay.io/ascend/vllm-ascend:v0.7.3", "24.1.rc1", None),
        ("quay.io/ascend/vllm-ascend:v0.10.0rc1-openeuler", "23.0.5", "fail"),
        ("quay.io/ascend/vllm-ascend:v0.13.0", "25.3.rc1", "warn"),
        ("m.daocloud.io/quay.io/ascend/vllm-ascend:v0.23.0", "25.5.0", None),
        ("m.daocloud.io/quay.io/ascend/vllm-ascend:v0.23.0", "24.1.0", "warn"),
        ("registry.example/own-image:1", "22.0.0", None),
    ],
)
def test_driver_is_held_against_what_the_image_asks_for(
    image: str, driver: str, status: str | None
) -> None:
    # Prefill and decode would be refused with images that do not have the connector.
    groups = {"mixed": ["a", "b"], "router": ["a"]}
    of = plan(groups, ASCEND | {"pd_image": image, "pd_tensor_parallel_size": 2})
    both = {name: {"driver": driver} for name in ("a", "b")}
    found = [(c.id, c.host, c.status) for c in bad(of, fleet_facts(of, **both))]
    wanted = [("npu-driver-version", host, status) for host in ("a", "b")] if status else []
    assert found == wanted


@pytest.mark.parametrize(
    "env",
    [
        {"HCCL_IF_IP": "127.0.0.1"},
        {"HCCL_IF_IP": "172.17.0.2"},
        {"HCCL_SOCKET_IFNAME": "lo"},
        {"GLOO_SOCKET_IFNAME": "docker0"},
        {"TP_SOCKET_IFNAME": "=docker0"},
    ],
)
def test_engine_that_talks_over_an_inner_interface_fails(env: dict[str, str]) -> None:
    of = fleet(pd_env=env)
    (name, value), *_ = env.items()
    found = bad(of, fleet_facts(of))
    assert [(c.id, c.host) for c in found] == [("npu-interface", "a"), ("npu-interface", "b")]
    assert f"{name}={value}" in found[0].found


@pytest.mark.parametrize(
    "env", [{"HCCL_SOCKET_IFNAME": "^docker0"}, {"GLOO_SOCKET_IFNAME": "eth0"}]
)
def test_engine_on_the_network_between_the_hosts_is_well(env: dict[str, str]) -> None:
    of = fleet(pd_env=env)
    assert bad(of, fleet_facts(of)) == []


def test_address_that_is_another_hosts_fails() -> None:
    of = fleet(pd_env={"HCCL_IF_IP": "192.0.2.11"})
    (found,) = bad(of, fleet_facts(of))
    assert (found.id, found.host) == ("npu-interface", "b")
    assert "HCCL_IF_IP=192.0.2.11" in found.found


def test_hccls_ports_are_kept_by_up_or_by_whoever_manages_the_host() -> None:
    mine = fleet(pd_manage_ports=False)
    found = [(c.id, c.host, c.status) for c in bad(mine, fleet_facts(mine))]
    assert found == [("npu-hccl-ports", host, "warn") for host in ("a", "b")]
    for kept in ({"reserved": range(60000, 60032)}, {"ephemeral": (32768, 59999)}):
        seen = {
            name: was.model_copy(update={"network": host_network(mine.host(name), **kept)})
            for name, was in fleet_facts(mine).items()
        }
        assert bad(mine, seen) == []


def test_too_many_cards_for_llmdatadist() -> None:
    of = fleet(pd_connector="LLMDataDistCMgrConnector", pd_tensor_parallel_size=9)
    both = {
        name: {
            "npus": tuple(npu(n) for n in range(16)),
            "nodes": (*(f"/dev/davinci{n}" for n in range(16)), *ascend(of.host("a"), 1).nodes),
            "networks": {n: network(index, n) for n in range(9)},
            "conf": HccnConf(addresses={n: f"10.20.{index}.{n + 1}" for n in range(16)}),
        }
        for index, name in ((1, "a"), (2, "b"))
    }
    found = bad(of, fleet_facts(of, **both))
    assert [(c.id, c.host) for c in found] == [
        ("npu-datadist-cards", "a"),
        ("npu-datadist-cards", "b"),
    ]


# Rules


def test_every_rule_says_what_it_is_and_where_it_is_from() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.id.startswith("npu-")
        assert rule.what
        assert rule.fix
        assert rule.source


def test_every_rule_has_a_fault_that_it_finds() -> None:
    tested = {p.values[0].check for p in (*DRIVER, *CARDS, *NETWORK, *FLEET, *CONTAINERS)}  # type: ignore[union-attr]
    elsewhere = {"npu-driver-version", "npu-interface", "npu-datadist-cards"}
    elsewhere |= {"npu-hccl-ports", "npu-image"}
    assert tested | elsewhere == {rule.id for rule in RULES}
