"""Whether the doctor tells a model that does not fit, before an engine finds out."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor import examine, failures
from pdinfra.doctor.fit import fit_checks
from pdinfra.model.ascend import AscendFacts, Npu
from pdinfra.model.checks import Check
from pdinfra.model.facts import GpuFact, HostFacts, ModelFact, NvidiaFact, Shape
from pdinfra.model.plan import Plan
from tests.unit.builders import ASCEND, GIB, NOW, NVIDIA, ON_RAY, facts, good_model, plan

MIXED = {"mixed": ["a"], "router": ["a"]}
A = {"ansible_host": "192.0.2.1"}
B = {"ansible_host": "192.0.2.2"}
GUIDE: dict[str, Any] = {**NVIDIA, "pd_gpu_memory_utilization": 0.75, "pd_max_model_len": 4096}
"""As guide vllm-ray-tensor-parallel has it, for cards of 24 GiB."""
QWEN = Shape(layers=48, head_dim=128, positions=131072, dtype="bfloat16")
TINY = Shape(layers=4, head_dim=32, positions=32768, dtype="bfloat16")


def qwen_14b(path: str, **more: Any) -> ModelFact:
    values = {"heads": 40, "kv_heads": 8, "weight_bytes": 29_540_067_328, "shape": QWEN}
    return good_model(path, **{**values, **more})


def a10s(count: int, gib: int = 24) -> NvidiaFact:
    return NvidiaFact(
        toolkit=True,
        gpus=tuple(
            GpuFact(
                index=n,
                name="NVIDIA A10",
                driver="550.90.07",
                memory_total=gib * GIB,
                memory_used=0,
                uuid=f"GPU-{n}",
            )
            for n in range(count)
        ),
    )


def seen(of: Plan, host: str = "a", **more: Any) -> HostFacts:
    """Return a host with the model of the guide; more: its cards, or another model."""
    planned = of.host(host)
    own = qwen_14b(planned.models[0].path)
    return facts(planned, **{"nvidia": a10s(4), "models": (own,), **more})


def guide(cards: int, **more: Any) -> Plan:
    return plan(MIXED, {**GUIDE, "pd_tensor_parallel_size": cards, **more})


def checked(of: Plan, **by_host: HostFacts) -> list[Check]:
    return list(fit_checks(of, by_host))


def only(found: list[Check]) -> Check:
    assert len(found) == 1, [str(check) for check in found]
    return found[0]


def test_model_of_the_guide_fits_its_four_cards() -> None:
    of = guide(4)
    found = only(checked(of, a=seen(of)))
    assert (found.status, found.host) == ("ok", "a")
    assert found.found == (
        "mixed-a-0: 6.9 GiB of weights on each of 4 cards, 2.0 GiB besides, "
        "0.2 GiB for KV of 4096 tokens"
    )
    assert found.expected == "at most 18.0 GiB, 75% of the 24.0 GiB of card 0"


def test_model_of_the_guide_does_not_fit_one_card_and_the_doctor_says_how_many_would_do() -> None:
    of = guide(1)
    found = only(checked(of, a=seen(of)))
    assert (found.id, found.status) == ("model-fits", "fail")
    assert found.found == "mixed-a-0: 27.5 GiB of weights on each of 1 card"
    assert found.fix == "2 such cards would do: set pd_tensor_parallel_size 2"


def test_cards_of_a_pipeline_are_counted_with_its_stages() -> None:
    of = guide(1, pd_pipeline_parallel_size=2)
    found = only(checked(of, a=seen(of, nvidia=a10s(4, gib=16))))
    assert found.status == "fail"
    assert found.fix == (
        "4 such cards would do: set pd_tensor_parallel_size 2, with pipeline_parallel_size 2"
    )


def test_share_that_keeps_the_weights_out_can_be_raised() -> None:
    of = guide(2, pd_gpu_memory_utilization=0.5)
    found = only(checked(of, a=seen(of)))
    assert found.status == "fail"
    assert found.fix.startswith("raise pd_gpu_memory_utilization, or: 4 such cards")


def test_model_that_no_number_of_cards_holds() -> None:
    of = guide(1)
    found = only(checked(of, a=seen(of, nvidia=a10s(4, gib=2))))
    assert found.status == "fail"
    assert "quantized model" in found.fix


def test_request_that_is_too_long_is_a_warning_with_the_length_that_fits() -> None:
    of = guide(2, pd_max_model_len=131072)
    found = only(checked(of, a=seen(of)))
    # 18 GiB - 2 GiB - 14770033664 bytes of weights, 98304 bytes for each token.
    assert (found.status, found.fix) == ("warn", "set pd_max_model_len to 24448")
    shorter = guide(2, pd_max_model_len=24448)
    assert only(checked(shorter, a=seen(shorter))).status == "ok"


def test_weights_that_leave_no_room_for_kv_are_a_warning_with_more_cards() -> None:
    of = guide(2)
    found = only(checked(of, a=seen(of, nvidia=a10s(2, gib=20))))
    assert (found.status, found.fix) == (
        "warn",
        "4 such cards would do: set pd_tensor_parallel_size 4",
    )


def test_kv_that_is_not_known_is_not_made_up() -> None:
    of = guide(4)
    odd = qwen_14b(of.host("a").models[0].path, shape=Shape(layers=48, positions=131072))
    found = only(checked(of, a=seen(of, models=(odd,))))
    assert found.status == "ok"
    assert found.found.endswith("KV not estimated")


def test_option_that_changes_the_sizes_is_named() -> None:
    of = guide(1, pd_engine_args=["--cpu-offload-gb", "20"])
    found = only(checked(of, a=seen(of)))
    assert (found.status, found.found) == (
        "ok",
        "mixed-a-0: not estimated, because of --cpu-offload-gb",
    )


def test_smallest_of_the_cards_counts() -> None:
    of = guide(2)
    unlike = NvidiaFact(gpus=(a10s(1).gpus[0], a10s(2, gib=12).gpus[1]), toolkit=True)
    found = only(checked(of, a=seen(of, nvidia=unlike)))
    assert found.expected == "at most 9.0 GiB, 75% of the 12.0 GiB of card 1"


def test_each_host_of_an_instance_is_judged_by_the_share_of_its_cards() -> None:
    entry = {"role": "mixed", "hosts": ["b"], "tensor_parallel_size": 4}
    groups = {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]}
    of = plan(groups, GUIDE, a={**A, "pd_instances": [entry]}, b=B)
    small = seen(of, "b", nvidia=a10s(2, gib=8))
    first, second = checked(of, a=seen(of, "a", nvidia=a10s(2)), b=small)
    assert (first.host, first.status) == ("a", "ok")
    assert (second.host, second.status) == ("b", "fail")
    assert "on each of 4 cards" in second.found
    assert "8 such cards would do" in second.fix


def test_hbm_of_npus_counts_as_npu_smi_shows_it() -> None:
    of = plan(every={**ASCEND, "pd_max_model_len": 4096})
    npus = tuple(
        Npu(
            device=n,
            card=n,
            chip=0,
            name="910B3",
            health="OK",
            hbm_used=0,
            hbm_total=hbm,
        )
        for n, hbm in enumerate((65536, 24576))
    )
    ascend = AscendFacts(state="ready", npus=npus)
    prefill, decode = checked(of, a=seen(of, nvidia=None, ascend=ascend))
    assert (prefill.status, decode.status) == ("ok", "fail")
    assert "24.0 GiB of card 1" in decode.expected


def test_cards_that_are_not_seen_or_tell_no_size_are_not_judged() -> None:
    of = guide(4)
    assert checked(of, a=seen(of, nvidia=NvidiaFact(error="no driver"))) == []
    assert checked(of, a=seen(of, nvidia=a10s(4, gib=0))) == []


@pytest.mark.parametrize(
    "models",
    [
        (),
        (good_model("/srv/models/qwen", error="Permission denied"),),
        (good_model("/srv/models/qwen", missing=("config.json",)),),
    ],
)
def test_model_that_is_not_whole_has_no_size(models: tuple[ModelFact, ...]) -> None:
    of = guide(1)
    assert checked(of, a=seen(of, models=models)) == []


def tiny(of: Plan, shape: Shape = TINY, **more: Any) -> HostFacts:
    path = of.host("a").models[0].path
    return facts(of.host("a"), models=(good_model(path, shape=shape, **more),))


def test_tiny_model_fits_a_cpu_as_it_is_shipped() -> None:
    of = plan()
    found = checked(of, a=tiny(of))
    assert [check.status for check in found] == ["ok", "ok"]
    # 4 layers, K and V, 2 heads of 32 numbers, 4 bytes: 2 KiB for each of 8192 tokens.
    assert found[0].found == (
        "prefill-a-0: 0.0 GiB of weights, 0.0 GiB for KV of 8192 tokens in each worker"
    )


def test_kv_on_a_cpu_has_what_the_setting_gives_it() -> None:
    of = plan(MIXED, {"pd_max_model_len": 65536})
    wide = TINY.model_copy(update={"layers": 48, "head_dim": 128})
    found = only(checked(of, a=tiny(of, wide)))
    # 48 x 2 x 2 x 128 x 4 = 98304 bytes for each token.
    assert found.status == "warn"
    assert found.fix == "set pd_kv_cache_gib to 6, or pd_max_model_len to 10880"


def test_weights_beyond_a_containers_limit_fail_widened_as_the_engine_does() -> None:
    of = plan(MIXED, {"pd_memory_gib": 4})
    found = only(checked(of, a=tiny(of, weight_bytes=3 * GIB)))
    assert (found.status, found.expected) == ("fail", "at most 4.0 GiB, the container's limit")
    assert found.found.startswith("mixed-a-0: 6.0 GiB of weights, 1.0 GiB for KV")
    assert found.fix == "set pd_memory_gib to 9, or remove it"


def test_kv_that_a_containers_limit_leaves_no_room_for_is_a_warning() -> None:
    of = plan(MIXED, {"pd_memory_gib": 4, "pd_kv_cache_gib": 3})
    assert only(checked(of, a=tiny(of, weight_bytes=GIB // 2))).status == "warn"


def test_up_refuses_what_does_not_fit() -> None:
    of = guide(1)
    bad = failures(examine(of, {"a": seen(of)}, NOW))
    assert "model-fits" in {check.id for check in bad}


def test_replicas_of_ray_serve_are_judged_like_engines_of_their_own() -> None:
    every = {**ON_RAY, "pd_gpu_memory_utilization": 0.75, "pd_max_model_len": 4096}
    of = plan(MIXED, {**every, "pd_devices": [0]}, a=A)
    found = only(checked(of, a=seen(of)))
    assert (found.status, found.host) == ("fail", "a")
    assert found.fix == "2 such cards would do: set pd_tensor_parallel_size 2"
    four = plan(MIXED, {**every, "pd_tensor_parallel_size": 4}, a=A)
    assert only(checked(four, a=seen(four))).status == "ok"


def test_replicas_of_ray_serve_on_cpu_have_the_nodes_memory_for_kv() -> None:
    of = plan(MIXED, {"pd_stack": "ray", "pd_max_model_len": 2048}, a=A)
    tiny = good_model(of.host("a").models[0].path, weight_bytes=5_000_000, shape=TINY)
    found = only(checked(of, a=facts(of.host("a"), models=(tiny,))))
    assert found.status == "ok"
    assert "for KV of 2048 tokens" in found.found
