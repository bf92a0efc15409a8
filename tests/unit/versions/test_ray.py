"""Which Ray goes with which vLLM and Python, and what is said where it does not."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pdinfra.versions import ray, vllm
from pdinfra.versions.order import order
from pdinfra.versions.ray import (
    brings_ray,
    executor_gap,
    executor_rows,
    measured_pairs,
    python_gap,
    serve_gap,
    serve_rows,
    versions_in,
    vllm_of,
)
from pdinfra.versions.table import VersionError


def test_every_row_says_where_we_know_it_from() -> None:
    assert all(row.source.strip() for row in serve_rows())
    assert all(row.source.strip() for row in measured_pairs())
    assert all(row.source.strip() for row in executor_rows())


def test_a_newer_ray_never_asks_for_an_older_vllm() -> None:
    assert all(order(a.vllm) <= order(b.vllm) for a, b in pairwise(serve_rows()))


def test_what_a_ray_is_made_for_is_not_refused() -> None:
    assert [r.since for r in serve_rows() if serve_gap(r.since, r.vllm)] == []


def test_pdinfras_own_image_has_a_pair_that_goes_together_on_cpu() -> None:
    assert serve_gap(ray.BUILT, vllm.BUILT, "cpu") is None
    assert python_gap(ray.BUILT, "3.11") is None


def test_what_was_measured_on_cpu_says_nothing_of_other_accelerators() -> None:
    assert vllm_of("2.60.0", "cpu") == ("0.29.0", "0.32.0")
    assert vllm_of("2.60.0", "nvidia") == ("0.29.0",)
    gap = serve_gap("2.60.0", "0.32.0", "nvidia")
    assert gap is not None
    assert gap.endswith("this is 0.32.0. Fix: use vLLM 0.29.0")


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("2.44.1", "0.7.2"),
        ("2.48.0", "0.9.2"),
        ("2.49.2", "0.10.1.1"),
        ("2.52.1", "0.11.2"),
        ("2.55.1", "v0.18.1"),
        ("2.57.1", "0.25.1"),
        ("2.60.0", "0.29.0"),
    ],
)
def test_a_vllm_that_the_extra_llm_of_a_ray_takes_goes_with_it(release: str, version: str) -> None:
    assert serve_gap(release, version, "nvidia") is None


@pytest.mark.parametrize(
    ("release", "version", "cause", "fix"),
    [
        ("2.60.0", "0.25.1", "made for vLLM 0.29.0, this is 0.25.1", "or Ray 2.57.0, which goes"),
        ("2.60.0", "0.28.0", "this is 0.28.0", "use vLLM 0.29.0"),
        ("2.48.0", "0.8.5", "0.9.2 up to before 0.10.0", "or Ray 2.46.0"),
        ("2.43.0", "0.32.0", "0.7.2 up to before 0.8.2", "use vLLM 0.7.2 up to before 0.8.2"),
        ("2.52.0", "0.10.2", "0.11.0 up to before 0.12.0", "or Ray 2.50.0"),
        ("2.61.0", "0.31.0", "as far as pdinfra knows: up to Ray 2.60.0", "use vLLM 0.29.0"),
    ],
)
def test_another_vllm_is_refused_with_both_ways_out(
    release: str, version: str, cause: str, fix: str
) -> None:
    gap = serve_gap(release, version, "nvidia")
    assert gap is not None
    said, _, mend = gap.partition(". Fix: ")
    assert cause in said
    assert fix in mend
    assert "\n" not in gap


def test_ray_that_was_measured_with_a_vllm_is_offered_on_that_accelerator_only() -> None:
    assert "or Ray 2.60.0" in str(serve_gap("2.57.0", "0.32.0", "cpu"))
    assert "Ray 2.60.0" not in str(serve_gap("2.57.0", "0.32.0", "nvidia"))


def test_a_ray_newer_than_the_table_counts_as_the_newest_one() -> None:
    assert vllm_of("2.99.0") == ("0.29.0",)


@pytest.mark.parametrize("release", ["2.42.1", "1.13"])
def test_a_ray_without_serve_llm_is_refused_with_those_that_have_it(release: str) -> None:
    with pytest.raises(VersionError, match=r"Fix: use one of: 2\.43\.0, .*2\.60\.0$"):
        vllm_of(release)


@pytest.mark.parametrize("word", ["nightly", "latest", ""])
def test_what_is_no_version_is_refused_with_one_that_is(word: str) -> None:
    with pytest.raises(VersionError, match=r"is no release of Ray. Fix: .*2\.60\.0"):
        serve_gap(word, "0.29.0")
    with pytest.raises(VersionError, match=r"is no release of vLLM. Fix: .*0\.29\.0"):
        serve_gap("2.60.0", word)
    with pytest.raises(VersionError, match=r"is no release of Ray"):
        executor_gap(word, "0.29.0")


@pytest.mark.parametrize(
    ("release", "python", "fix"),
    [
        ("2.44.0", "3.13", "3.9 to 3.12"),
        ("2.52.0", "3.9", "3.10 to 3.13"),
        ("2.60.0", "3.15", "3.10 to 3.14"),
    ],
)
def test_a_python_without_a_package_of_ray_is_refused(release: str, python: str, fix: str) -> None:
    gap = python_gap(release, python)
    assert gap is not None
    assert gap.endswith(f"Fix: use Python {fix}")


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("2.9.3", "0.7.2"),
        ("2.40.0", "0.7.3"),
        ("2.44.0", "0.8.2"),
        ("2.45.0", "0.8.5.post1"),
        ("2.48.0", "0.10.1"),
        ("2.60.0", "v0.33.0"),
    ],
)
def test_executor_takes_the_ray_that_vllm_asks_for(release: str, version: str) -> None:
    assert executor_gap(release, version) is None


@pytest.mark.parametrize(
    ("release", "version", "fix"),
    [
        ("2.41.0", "0.7.3", "use Ray 2.40.0"),
        ("2.42.1", "0.8.5", "use Ray 2.43.0 or newer, but no 2.44"),
        ("2.44.1", "0.9.2", "use Ray 2.43.0 or newer, but no 2.44"),
        ("2.47.1", "0.11.0", "use Ray 2.48.0 or newer"),
        ("2.10.0", "0.32.0", "use Ray 2.48.0 or newer"),
    ],
)
def test_executor_refuses_another_ray_with_the_right_one(
    release: str, version: str, fix: str
) -> None:
    gap = executor_gap(release, version)
    assert gap is not None
    cause, _, mend = gap.partition(". Fix: ")
    assert release in cause
    assert version in cause
    assert mend == fix


def test_executor_of_a_vllm_older_than_the_table_is_refused() -> None:
    with pytest.raises(VersionError, match=r"Fix: use vLLM 0\.6\.6 or newer"):
        executor_gap("2.10.0", "0.3.3")


def test_vllms_package_requires_ray_until_0_17() -> None:
    assert brings_ray("0.17.1")
    assert not brings_ray("0.18.0")


@pytest.mark.parametrize(
    ("image", "release", "python"),
    [
        ("rayproject/ray-llm:2.60.0-py311-cu128", "2.60.0", "3.11"),
        ("registry.example:5000/rayproject/ray:2.49.2-py310-cpu", "2.49.2", "3.10"),
        ("rayproject/ray:2.55.0", "2.55.0", None),
        ("rayproject/ray-llm:2.48.0.abc123-py312", "2.48.0", "3.12"),
        ("rayproject/ray-llm:nightly-py311-cu128", None, "3.11"),
        ("own/llm:vllm-0.11.0-ray-2.51.1-py312", "2.51.1", "3.12"),
        ("own/llm:ray2.51.1", "2.51.1", None),
        ("own/vllm-ray:0.32.0", None, None),
        ("own/array:2.60.0", None, None),
        ("own/llm:array-2.60.0", None, None),
        ("vllm/vllm-openai:v0.11.0", None, None),
        ("quay.io/ascend/vllm-ascend:v0.11.0", None, None),
    ],
)
def test_what_an_images_name_tells(image: str, release: str | None, python: str | None) -> None:
    assert versions_in(image) == (release, python)
