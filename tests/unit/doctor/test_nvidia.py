"""What the doctor tells about NVIDIA hosts."""

from __future__ import annotations

from typing import Any

from pdinfra.doctor import examine
from pdinfra.doctor.nvidia import RULES, checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import DockerFact, GpuFact, HostFacts, NvidiaFact
from pdinfra.model.plan import Plan
from tests.unit.builders import GIB, NOW, NVIDIA, TWO_HOSTS, facts, observed, plan

ENGINE = DockerFact(state="running", version="28.2.2", root="/var/lib/docker")
READY = ENGINE.model_copy(update={"runtimes": ("nvidia", "runc")})


def gpu(index: int = 0, used: int = 0, driver: str = "550.90.07", total: int = 80) -> GpuFact:
    return GpuFact(
        index=index,
        name="NVIDIA H100",
        driver=driver,
        memory_total=total * GIB,
        memory_used=used * GIB,
        uuid=f"GPU-{index}",
    )


def seen(of: Plan, host: str = "a", *gpus: GpuFact, **more: Any) -> HostFacts:
    """Return a host that is ready for GPU engines."""
    ready = NvidiaFact(gpus=gpus or (gpu(0), gpu(1)), toolkit=True)
    return facts(of.host(host), **{"nvidia": ready, "docker": READY, **more})


def service(**every: Any) -> Plan:
    return plan(every={**NVIDIA, **every})


def unwell(of: Plan, **by_host: HostFacts) -> list[Check]:
    return [check for check in checks(of, by_host) if check.status != "ok"]


def only(found: list[Check]) -> Check:
    assert len(found) == 1, [str(check) for check in found]
    return found[0]


def test_ready_hosts_are_well_and_every_rule_was_looked_at() -> None:
    of = plan(TWO_HOSTS, NVIDIA)
    found = list(checks(of, {"a": seen(of, "a"), "b": seen(of, "b")}))
    assert {check.status for check in found} == {"ok"}
    assert {check.id for check in found} == {rule.id for rule in RULES}


def test_missing_driver_is_one_finding_with_its_fix() -> None:
    of = service()
    bare = NvidiaFact(error="nvidia-smi: command not found", toolkit=True)
    found = only(unwell(of, a=seen(of, nvidia=bare)))
    assert (found.id, found.status, found.host) == ("nvidia-driver", "fail", "a")
    assert found.found == "nvidia-smi: command not found"
    assert "pdinfra does not install it" in found.fix


def test_planned_gpu_that_does_not_exist() -> None:
    of = service(pd_decode={"devices": [7]})
    found = only(unwell(of, a=seen(of)))
    assert (found.id, found.status) == ("nvidia-gpu", "fail")
    assert found.found == "GPUs 0, 1"
    assert found.expected == "GPU 7 for decode-a-0"


def test_memory_of_others_that_leaves_too_little_fails() -> None:
    of = service()
    found = only(unwell(of, a=seen(of, "a", gpu(0, used=30), gpu(1))))
    assert (found.id, found.status) == ("nvidia-memory", "fail")
    assert found.found == "GPU 0: 50.0 GiB of 80.0 GiB free"
    assert found.expected == "73.6 GiB (92%) for prefill-a-0"


def test_memory_of_others_that_leaves_enough_is_a_warning() -> None:
    of = service(pd_gpu_memory_utilization=0.5)
    found = only(unwell(of, a=seen(of, "a", gpu(0, used=30), gpu(1))))
    assert (found.id, found.status) == ("nvidia-memory", "warn")


def test_user_s_own_argument_is_the_last_word_on_the_share() -> None:
    of = service(pd_gpu_memory_utilization=0.9, pd_engine_args=["--gpu-memory-utilization=0.5"])
    assert only(unwell(of, a=seen(of, "a", gpu(0, used=39), gpu(1)))).status == "warn"


def test_memory_of_the_running_engine_is_its_own() -> None:
    of = service()
    running = [observed(container) for container in of.host("a").containers]
    full = seen(of, "a", gpu(0, used=74), gpu(1, used=74), containers=running)
    assert unwell(of, a=full) == []


def test_missing_runtime_is_fine_while_up_installs_it() -> None:
    of = service()
    host = seen(of, nvidia=NvidiaFact(gpus=(gpu(0), gpu(1))), docker=ENGINE)
    mine = {check.id: check for check in checks(of, {"a": host})}["nvidia-runtime"]
    assert mine.status == "ok"
    assert "`up` installs it" in mine.found


def test_missing_runtime_fails_where_it_is_left_to_the_operator() -> None:
    of = service(pd_nvidia_runtime=False)
    found = only(unwell(of, a=seen(of, docker=ENGINE)))
    assert (found.id, found.status) == ("nvidia-runtime", "fail")
    assert found.found == "Docker does not know the runtime nvidia"


def test_drivers_that_differ_between_hosts_are_a_warning() -> None:
    of = plan(TWO_HOSTS, NVIDIA)
    hosts = {"a": seen(of, "a"), "b": seen(of, "b", gpu(0, driver="535.183.01"))}
    found = only(unwell(of, **hosts))
    assert (found.id, found.status, found.host) == ("nvidia-driver-versions", "warn", "a → b")
    assert found.found == "550.90.07 on a, 535.183.01 on b"


def test_other_services_are_not_asked_for_gpus() -> None:
    of = plan()
    assert list(checks(of, {"a": facts(of.host("a"))})) == []


def test_doctor_asks_them() -> None:
    of = service()
    found = examine(of, {"a": facts(of.host("a"), nvidia=None)}, NOW)
    assert [c.status for c in found if c.id == "nvidia-driver"] == ["fail"]
