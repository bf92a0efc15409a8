"""PD and mixed side by side: the maths, the verdicts, the notes, the document, the picture."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from pdinfra.bench.pd_compare import compare, difference, legend, notes, overall, panels
from pdinfra.bench.picture import svg
from pdinfra.cli.pd_tables import show_pd
from pdinfra.driver.look import INVALID, DriverError
from tests.unit.bench.loads import load, mixed, service

QUICK = {"ttft_median_ms": 80.0}
SLOW = {"ttft_median_ms": 120.0}
MORE = {"output_tokens_per_second": 40.0}
LESS = {"output_tokens_per_second": 28.0}


def test_differences_are_percent_of_mixed() -> None:
    found = difference(
        load(ttft_median_ms=82.0, ttft_p99_ms=100.0, tpot_median_ms=19.0, requests_per_second=1.0),
        load(),
    )
    assert (found.ttft_median_percent, found.ttft_p99_percent) == (-18.0, -50.0)
    assert (found.tpot_median_percent, found.requests_per_second_percent) == (-5.0, -50.0)


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        (QUICK, "pays", "PD: TTFT 20 % lower, TPOT equal, throughput equal: pays"),
        (QUICK | MORE, "pays", "throughput 25 % higher: pays"),
        (SLOW, "does not pay", "TTFT 20 % higher, TPOT equal, throughput equal: does not pay"),
        (QUICK | LESS, "depends", "pays if TTFT matters more to you than throughput"),
        (
            SLOW | {"tpot_median_ms": 10.0} | MORE,
            "depends",
            "pays if TPOT and throughput matter more to you than TTFT",
        ),
        ({"ttft_median_ms": 96.0}, "no difference", "no difference beyond the noise (5 %)"),
    ],
)
def test_a_load_gets_a_verdict_in_plain_words(
    changed: dict[str, float], verdict: str, words: str
) -> None:
    found = difference(load(**changed), load())
    assert found.verdict == verdict
    assert found.sentence.startswith("128x16 c4: PD: ")
    assert found.sentence.endswith(words)


def test_few_requests_need_a_larger_difference() -> None:
    few = {"requests": 20}
    assert difference(load(ttft_median_ms=92.0), load()).verdict == "pays"
    assert difference(load(ttft_median_ms=92.0, **few), load(**few)).verdict == "no difference"


@pytest.mark.parametrize(("pd", "other"), [(1, 0), (0, 1)])
def test_a_load_with_requests_that_failed_is_not_judged(pd: int, other: int) -> None:
    found = difference(load(failed=pd, **QUICK), load(failed=other))
    assert found.verdict == "not judged"
    assert "requests failed" in found.sentence


def test_a_load_with_stalls_is_to_be_repeated() -> None:
    stalled = load(tpot_p99_ms=201.0)
    assert difference(load(), stalled).sentence.endswith("; but something stalled, so repeat it")
    (line,) = notes(compare(service(), mixed(stalled)))
    assert line.startswith("mixed, 128x16 c4: TPOT of the slowest requests are over 10 times")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([QUICK, MORE], "PD pays at every load judged."),
        ([SLOW, LESS], "PD does not pay at any load judged"),
        ([{}, {}], "PD makes no difference beyond the noise; mixed is simpler."),
        ([QUICK, SLOW], "PD: pays at 128x16 c4; does not pay at 128x16 c4."),
        ([QUICK, {"failed": 3}], "Not judged: 128x16 c4."),
        ([{"failed": 3}], "No verdict: requests failed at every load."),
    ],
)
def test_all_loads_together_get_a_verdict(changes: list[dict[str, Any]], words: str) -> None:
    assert words in overall([difference(load(**each), load()) for each in changes])


def test_only_loads_with_the_same_prompts_are_put_side_by_side() -> None:
    other = load(input_tokens=64, seed=43)
    found = compare(service(load(), other), mixed(load(), load(input_tokens=64, seed=7)))
    assert len(found.pairs) == 1
    assert any("2 loads were put on one of both only" in line for line in notes(found))


@pytest.mark.parametrize(
    "changed", [{"seed": 7}, {"words": 33}, {"requests": 8}, {"concurrency": 1}]
)
def test_another_load_is_not_comparable(changed: dict[str, Any]) -> None:
    with pytest.raises(DriverError) as caught:
        compare(service(), mixed(load(**changed)))
    assert caught.value.code == INVALID
    assert "Fix: measure both with the same --shapes" in caught.value.lines[0]


def test_everything_that_forbids_to_compare_is_told_at_once() -> None:
    with pytest.raises(DriverError) as caught:
        compare(mixed(), mixed(model="n", cards=4))
    starts = [line.split(":")[0].split(",")[0] for line in caught.value.lines]
    assert starts == ["a result of mixed and one of mixed", "model", "cards"]


def test_what_one_must_know_is_noted() -> None:
    found = notes(
        compare(
            service(load(requests=8, cached=0.4, failed=1), accelerator="cpu"),
            mixed(load(requests=8, answer_tokens=9.0), image="pdinfra-sim/x:1"),
        )
    )
    for words in (
        "PD, 128x16 c4: 40 % of the prompts' tokens were in a cache already",
        "PD, 128x16 c4: 1 of 8 requests were not answered",
        "mixed, 128x16 c4: answers had 9 tokens only",
        "8 requests a load",
        "Engines on CPU: this says nothing about your cards.",
        "Engines are simulated",
        "Not the same image: i:1 for PD, pdinfra-sim/x:1 for mixed.",
    ):
        assert [line for line in found if line.startswith(words)], words


def test_a_clean_comparison_on_cards_needs_no_note() -> None:
    assert notes(compare(service(), mixed())) == []


def test_the_document_is_json_and_failed_requests_make_it_not_ok() -> None:
    document = json.loads(json.dumps(compare(service(load(failed=2)), mixed()).document()))
    assert document["ok"] is False
    assert set(document) == {"ok", "verdict", "pd", "mixed", "verdicts", "notes"}
    assert document["verdicts"][0]["verdict"] == "not judged"
    assert document["pd"]["loads"][0]["failed"] == 2


def test_the_picture_has_three_measures_each_with_a_scale_of_its_own() -> None:
    found = compare(service(load(**QUICK)), mixed())
    picture = ElementTree.fromstring(svg(panels(found), legend(found)))
    texts = [str(each.text) for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    for word in ("80 ms", "100 ms", "20.0 ms", "32/s", "128x16 c4"):
        assert word in texts
    assert "PD: 1 prefill, 1 decode (native, C)" in texts
    assert "mixed: 2 mixed, the same cards, no connector" in texts
    height = float(picture.attrib["height"])
    for rect in picture.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(rect.attrib.get("y", 0)) + float(rect.attrib["height"]) <= height


def test_the_table_has_both_services_the_difference_and_the_verdict() -> None:
    page = StringIO()
    console = Console(file=page, width=160)
    show_pd(console, compare(service(load(**QUICK, failed=2)), mixed()))
    shown = page.getvalue()
    for words in ("128 x 16", "80.0", "-20.0 %", "2 of 100", "not judged", "No verdict", "█"):
        assert words in shown
