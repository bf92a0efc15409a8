"""npu-smi's three table generations, its listings and its last words."""

from __future__ import annotations

import pytest

from pdinfra.reading.npu_smi import count, field, state, super_pod, table
from tests.unit.ascend import A2_INFO, A2_LIST, A3_INFO, BOARD, HEALTH, NOT_LOADED, WIDE_INFO, said
from tests.unit.ascend import HELD as HELD_TEXT


def test_a2_table_has_one_device_for_each_card() -> None:
    found = table(A2_INFO)
    assert (found.version, found.a3) == ("25.3.rc1", False)
    assert [(n.device, n.card, n.chip, n.name, n.health) for n in found.npus] == [
        (0, 0, 0, "910B3", "OK"),
        (7, 7, 0, "910B3", "Warning"),
    ]


def test_hbm_is_read_without_a_blank_before_the_slash_and_memory_usage_is_not_taken_for_it() -> (
    None
):
    assert [(n.hbm_used, n.hbm_total) for n in table(A2_INFO).npus] == [
        (3338, 65536),
        (41697, 65536),
    ]


def test_a3_table_has_physical_ids_and_its_processes_go_by_card_and_chip() -> None:
    found = table(A3_INFO)
    assert found.a3
    assert [(n.device, n.card, n.chip) for n in found.npus] == [
        (0, 0, 0),
        (1, 0, 1),
        (8, 4, 0),
        (9, 4, 1),
    ]
    assert {n.device: [p.pid for p in n.processes] for n in found.npus if n.processes} == {
        8: [957687]
    }


def test_wide_table_has_a_fifth_process_column() -> None:
    found = table(WIDE_INFO)
    assert [(n.device, n.hbm_used) for n in found.npus] == [(0, 8515), (1, 3402)]
    (process,) = found.npus[0].processes
    assert (process.pid, process.name, process.memory) == (485946, "pytest", 5175)


def test_opened_source_prints_one_column_more() -> None:
    text = A2_INFO.replace("(page)|", "(page) |").replace("        |\n", "         |\n")
    assert [n.device for n in table(text).npus] == [0, 7]


def test_process_without_a_name_is_a_process() -> None:
    text = A2_INFO.replace("| python ", "|        ")
    (process,) = table(text).npus[1].processes
    assert (process.pid, process.name) == (139667, "")
    assert str(process) == "a process (pid 139667)"


@pytest.mark.parametrize("text", ["", "There is no NPU card on this server.\n", NOT_LOADED])
def test_text_without_a_table_has_no_devices(text: str) -> None:
    assert table(text).npus == ()


def test_working_driver_is_ready() -> None:
    assert state(said(A2_INFO)) == ("ready", "")


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (None, "absent", ""),
        (said(NOT_LOADED, 187), "unloaded", "ret is -8005"),
        (said("", 187, NOT_LOADED), "unloaded", "ret is -8005"),
        (said(HELD_TEXT, 172), "held", "the device is used"),
        (said("npu get board type failed. ret is -9005\n", 211), "failed", "-9005"),
        (said("There is no NPU card on this server.\n"), "failed", "no NPU card"),
        (said("", None, "no answer within 30 s"), "failed", "no answer"),
        (said("", 1), "failed", "npu-smi ended with 1"),
    ],
)
def test_driver_that_does_not_work_says_why(
    answer: dict[str, object] | None, expected: str, words: str
) -> None:
    found, detail = state(answer)
    assert found == expected
    assert words in detail


def test_devices_are_counted_over_all_cards() -> None:
    assert count(A2_LIST) == 2
    assert count(A2_LIST.replace("Count                     : 1", "Count : 2")) == 4


def test_fields_are_found_by_any_of_their_names() -> None:
    assert field(BOARD, "Compatibility") == "OK"
    assert field(BOARD, "PCIe Bus Info") == "0000:61:00.0"
    assert field(HEALTH, "Health Status", "Health") == "Warning"
    assert field(HEALTH, "Error Code") == "80E01801"
    assert field(BOARD, "Nothing") is None


def test_super_pod() -> None:
    text = "\tSDID                           : 16777216\n\tSuper Pod Size                 : 384\n"
    assert super_pod(text) is None
    assert super_pod(f"{text}\tSuper Pod ID                   : 0\n") == ("16777216", "0")
