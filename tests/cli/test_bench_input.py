"""Wrong words to `bench`: every problem at once, the right exit code, nothing touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT, Result, changed_inventory, command
from tests.unit.bench.loads import load, mixed, service
from tests.unit.bench.rows import measurement, row

BENCH = (sys.executable, "-m", "pdinfra", "bench")


def refused(result: Result, *words: str) -> None:
    """Assert exit code 2 and one line with a fix for each of the words, in order."""
    assert result.code == 2, result.text
    lines = result.err.strip().splitlines()
    assert len(lines) == len(words), result.err
    for line, word in zip(lines, words, strict=True):
        assert word in line
        assert "Fix:" in line


def test_all_bad_parameters_are_told_at_once(tmp_path: Path) -> None:
    result = command(
        *BENCH, "ttft", "--lengths", "1k", "--groups", "0", "--shared", "100", "--max-minutes", "0",
        "--save", str(tmp_path / "nowhere" / "a.json"), "--svg", str(tmp_path),
    )  # fmt: skip
    words = ("--lengths 1k", "--save", "--svg", "--groups 0", "--shared 100", "--max-minutes 0")
    refused(result, *words)


def test_missing_inventory_is_refused(tmp_path: Path) -> None:
    refused(command(*BENCH, "ttft", "-i", str(tmp_path / "no")), "no such inventory")
    refused(command(*BENCH, "ttft", "--against", str(tmp_path / "no")), "no such inventory")


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    saved, other = tmp_path / "saved.json", tmp_path / "other.json"
    saved.write_text(measurement().model_dump_json())
    compare = (*BENCH, "ttft", "--compare", str(saved), str(other))
    refused(command(*compare), "other.json: No such file")
    other.write_text("[")
    refused(command(*compare), "other.json: no JSON")
    other.write_text('{"ok": true}')
    refused(command(*compare), "other.json: no saved measurement")


def test_results_of_other_loads_are_not_compared(tmp_path: Path) -> None:
    saved, other = tmp_path / "saved.json", tmp_path / "other.json"
    saved.write_text(measurement().model_dump_json())
    other.write_text(measurement(row(seed=1), model="n").model_dump_json())
    result = command(*BENCH, "ttft", "--compare", str(saved), str(other))
    refused(result, "model: m here, n there", "no prompt length")


def test_compare_measures_nothing(tmp_path: Path) -> None:
    result = command(*BENCH, "ttft", "--compare", "a", "b", "--save", str(tmp_path / "c.json"))
    refused(result, "--compare: it measures nothing")


def test_nobody_to_ask_means_no_swap(tmp_path: Path) -> None:
    other = changed_inventory(tmp_path, pd_router_port=8001)
    result = command(*BENCH, "ttft", "--against", str(other), "--json")
    assert result.code == 2, result.text
    (line,) = json.loads(result.out)["errors"]
    assert "--yes" in line


def test_a_service_on_other_hosts_is_not_swapped_in(tmp_path: Path) -> None:
    other = changed_inventory(tmp_path)
    hosts = other / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("local:", "local:\n      ansible_host: 10.9.9.9", 1))
    result = command(*BENCH, "ttft", "--against", str(other), "--yes", "--json")
    assert result.code == 2, result.text
    assert "it has hosts 10.9.9.9" in json.loads(result.out)["errors"][0]


def test_two_saved_results_are_compared_and_drawn(tmp_path: Path) -> None:
    saved, other, picture = (tmp_path / name for name in ("a.json", "b.json", "c.svg"))
    saved.write_text(measurement().model_dump_json())
    other.write_text(measurement(row(ttft_mean_ms=400.0), stack="native").model_dump_json())
    words = ("ttft", "--compare", str(saved), str(other), "--svg", str(picture))
    result = command(*BENCH, *words)
    assert result.code == 0, result.text
    for word in ("with (yuanrong)", "without (native)", "-50.0 %", "200 ms, hits 33 %"):
        assert word in result.out
    assert picture.read_text().startswith("<svg ")
    assert command(*BENCH, *words, "--json").json["differences"][0]["ttft_mean_percent"] == -50.0


def test_the_guides_dataset_is_written_and_bad_parameters_are_not(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    small = ("--groups", "2", "--prompts", "3", "--prefix", "4", "--suffix", "5", "-o", str(file))
    assert command(*BENCH, "dataset", *small).code == 0
    assert len(file.read_text().splitlines()) == 6
    result = command(*BENCH, "dataset", "--groups", "0", "--suffix", "0", "-o", str(tmp_path))
    refused(result, "--groups 0", "--suffix 0", "--output")


@pytest.mark.parametrize("verb", ["ttft", "dataset"])
def test_help_says_what_it_is(verb: str) -> None:
    assert "guide" in command(*BENCH, verb, "--help").out


def test_load_of_an_instance_that_there_is_not() -> None:
    result = command(*BENCH, "load", "decode-9")
    assert result.code == 2, result.text
    last = result.err.strip().splitlines()[-1]
    assert "decode-9: no such instance. Fix: use one of prefill-local-0, decode-local-0" in last


def test_all_bad_parameters_of_pd_are_told_at_once(tmp_path: Path) -> None:
    result = command(
        *BENCH, "pd", "--shapes", "1024", "--concurrency", "0", "--seed", "-1",
        "--max-minutes", "0", "--save", str(tmp_path / "nowhere" / "a.json"),
        "--svg", str(tmp_path), "--yes",
    )  # fmt: skip
    words = (
        "--shapes 1024", "--concurrency 0", "--save", "--svg", "--seed -1", "--max-minutes 0",
    )  # fmt: skip
    refused(result, *words)
    refused(command(*BENCH, "pd", "--prompts", "4"), "--prompts 4: so many cannot be 8 at a time")
    refused(command(*BENCH, "pd", "-i", str(tmp_path / "no"), "--yes"), "no such inventory")


def test_nobody_to_ask_means_that_pd_is_left_alone() -> None:
    result = command(*BENCH, "pd", "--json")
    assert result.code == 2, result.text
    (line,) = json.loads(result.out)["errors"]
    assert "put 2 mixed instances in its place" in line
    assert "--yes" in line


@pytest.mark.parametrize(
    ("inventory", "words"),
    [
        ("ascendcloud-1p1d", "pd_stack ascendcloud: its engines have no mixed form"),
        ("prod", "openYuanrong itself places the engines"),
    ],
)
def test_what_has_no_mixed_twin_is_refused_before_anything(inventory: str, words: str) -> None:
    result = command(*BENCH, "pd", "-i", str(ROOT / "inventories" / inventory), "--yes", "--json")
    assert result.code == 2, result.text
    (line,) = json.loads(result.out)["errors"]
    assert words in line
    assert "Fix:" in line


def test_a_service_that_is_mixed_already_has_no_twin(tmp_path: Path) -> None:
    inventory = changed_inventory(tmp_path)
    hosts = inventory / "hosts.yml"
    text = hosts.read_text().replace("prefill:", "mixed:")
    hosts.write_text(text.replace("    decode:\n      hosts:\n        local:\n", ""))
    refused_last = command(*BENCH, "pd", "-i", str(inventory), "--yes")
    assert refused_last.code == 2, refused_last.text
    assert "group mixed: these instances are mixed already. Fix:" in refused_last.err


def test_two_saved_results_say_whether_pd_pays(tmp_path: Path) -> None:
    pd, other, picture = (tmp_path / name for name in ("a.json", "a-mixed.json", "a.svg"))
    pd.write_text(service(load(ttft_median_ms=80.0)).model_dump_json())
    other.write_text(mixed().model_dump_json())
    words = ("pd", "--compare", str(pd), str(other))
    result = command(*BENCH, *words, "--svg", str(picture))
    assert result.code == 0, result.text
    for word in ("-20.0 %", "TTFT 20 % lower, TPOT equal, throughput equal: pays", "PD pays"):
        assert word in result.out
    assert picture.read_text().startswith("<svg ")
    assert command(*BENCH, *words, "--json").json["verdicts"][0]["verdict"] == "pays"
    refused(
        command(*BENCH, "pd", "--compare", str(other), str(pd)), "a result of mixed and one of pd"
    )
    refused(command(*BENCH, *words, "--save", str(tmp_path / "b.json")), "it measures nothing")


def test_requests_without_an_answer_end_with_1(tmp_path: Path) -> None:
    pd, other = tmp_path / "a.json", tmp_path / "b.json"
    pd.write_text(service(load(failed=3)).model_dump_json())
    other.write_text(mixed().model_dump_json())
    result = command(*BENCH, "pd", "--compare", str(pd), str(other), "--json")
    assert result.code == 1
    assert result.json["ok"] is False


def test_a_result_of_ttft_is_none_of_pd(tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    saved.write_text(measurement().model_dump_json())
    result = command(*BENCH, "pd", "--compare", str(saved), str(saved))
    refused(result, "saved.json: no saved measurement")
