"""Golden texts: captured output of released drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sim.ascend.running import Simulated

NARROW = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.3.rc1                 Version: 25.3.rc1                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
NARROW_CHIP = """\
| 0                         | 0000:C1:00.0  | 0           0    / 0          3338 / 65536         |
+===========================+===============+====================================================+
"""
PROCESSES = """\
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
"""
A3_HEAD = """\
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     Ascend910           | OK            | 174.3       36                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3440 / 65536         |
+------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -           37                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          3441 / 65536         |
+===========================+===============+====================================================+
"""
GOLDEN = Path(__file__).parent


@pytest.mark.parametrize(("profile", "width"), [("a2-98", 98), ("a3-98", 98), ("wide-26.1", 116)])
@pytest.mark.parametrize("fault", ["", "process", "process-nameless", "unhealthy-critical"])
def test_every_line_is_as_wide_as_the_captured_ones(
    simulated: Simulated, profile: str, width: int, fault: str
) -> None:
    simulated.boot(npus=16, profile=profile)
    if fault:
        simulated.fault(f"on {fault}")
    code, text = simulated.npu_smi("info")
    assert code == 0
    assert {len(line) for line in text.splitlines()} == {width}


def test_a2_table(simulated: Simulated) -> None:
    simulated.boot()
    text = simulated.npu_smi("info")[1]
    assert text.startswith(NARROW)
    assert NARROW_CHIP in text
    assert PROCESSES in text


def test_a3_table_has_two_chips_per_npu_and_no_power_of_the_second(simulated: Simulated) -> None:
    simulated.boot(npus=4, profile="a3-98")
    text = simulated.npu_smi("info")[1]
    assert A3_HEAD in text
    assert text.count("No running processes found in NPU") == 2


def test_wide_table_has_a_fifth_process_column(simulated: Simulated) -> None:
    simulated.boot(profile="wide-26.1")
    text = simulated.npu_smi("info")[1]
    assert (GOLDEN / "wide-26.1.txt").read_text() in text
    assert (GOLDEN / "wide-26.1-processes.txt").read_text() in text


def test_five_digits_leave_no_space_before_the_slash(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on process --device 1")
    text = simulated.npu_smi("info")[1]
    assert "34119/ 65536" in text
    row = "| 1       0                 | 139668        | python                   | 30780 "
    assert row in text


def test_a3_processes_are_keyed_by_npu_and_chip(simulated: Simulated) -> None:
    simulated.boot(npus=4, profile="a3-98")
    simulated.fault("on process --device 3")
    assert "| 1       1                 | 139670 " in simulated.npu_smi("info")[1]


def test_a_zombie_holds_memory_without_a_row(simulated: Simulated) -> None:
    simulated.boot(npus=1)
    simulated.fault("on zombie --device 0")
    text = simulated.npu_smi("info")[1]
    assert "34058/ 65536" in text
    assert "No running processes found in NPU 0" in text


def test_listing(simulated: Simulated) -> None:
    simulated.boot(npus=4, profile="a3-98")
    assert simulated.npu_smi("info -l")[1] == (
        "\tTotal Count                    : 2\n"
        "\n\tNPU ID                         : 0\n\tChip Count                     : 2\n"
        "\n\tNPU ID                         : 1\n\tChip Count                     : 2\n"
    )


def test_mapping_has_a_row_for_each_cards_mcu(simulated: Simulated) -> None:
    simulated.boot(npus=1)
    head, chip, mcu = simulated.npu_smi("info -m")[1].splitlines()
    assert head == (
        "\tNPU ID                         Chip ID                        "
        "Chip Logic ID                  Chip Name"
    )
    assert chip.split() == ["0", "0", "0", "Ascend", "910B3"]
    assert mcu.split() == ["0", "1", "-", "Mcu"]


def test_a3_mapping_has_the_physical_id(simulated: Simulated) -> None:
    simulated.boot(npus=2, profile="a3-98")
    rows = [line.split() for line in simulated.npu_smi("info -m")[1].splitlines()]
    assert rows[1:] == [
        ["0", "0", "0", "0", "Ascend910"],
        ["0", "1", "1", "1", "Ascend910"],
        ["0", "2", "-", "-", "Mcu"],
    ]


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (
            "no-driver",
            187,
            "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
            "dcmi module initialize failed. ret is -8005\n",
        ),
        (
            "occupied",
            172,
            "dcmi model initialized failed, because the device is used. ret is -8020\n",
        ),
        ("driver-partial", 211, "npu get board type failed. ret is -9005\n"),
        ("no-card", 0, "There is no NPU card on this server.\n"),
    ],
)
def test_failures(simulated: Simulated, fault: str, code: int, text: str) -> None:
    simulated.boot()
    simulated.fault(f"on {fault}")
    assert simulated.npu_smi("info") == (code, text)
    simulated.fault("off --all")
    assert simulated.npu_smi("info")[0] == 0


@pytest.mark.parametrize("words", ["nonsense", "info -t nonsense -i 0", "info -t board", "info -x"])
def test_usage_errors_have_the_tools_own_words(simulated: Simulated, words: str) -> None:
    simulated.boot()
    code, text = simulated.npu_smi(words)
    assert code != 0
    assert text == "Command or option is not found.\n"


def test_queries(simulated: Simulated) -> None:
    simulated.boot()
    board = simulated.npu_smi("info -t board -i 1")[1]
    assert "\tSoftware Version               : 25.3.rc1\n" in board
    assert "\tCompatibility                  : OK\n" in board
    assert "\tHealth                         : OK\n" in simulated.npu_smi("info -t health -i 1")[1]
    chip = simulated.npu_smi("info -t health -i 1 -c 0")[1]
    assert chip.startswith("\tHealth Status                  : OK\n")
    assert "HBM Capacity(MB)               : 65536" in simulated.npu_smi("info -t usages -i 0")[1]
    assert simulated.npu_smi("-v") == (0, "npu-smi version: 25.3.rc1\n")
    assert "NPU1       HCCS       X " in simulated.npu_smi("info -t topo")[1]


def test_super_pod_is_of_a3_alone(simulated: Simulated) -> None:
    simulated.boot(npus=2, profile="a3-98")
    assert (
        "\tSuper Pod Size                 : 384\n"
        in (simulated.npu_smi("info -t spod-info -i 0 -c 1")[1])
    )
    simulated.boot(npus=2, profile="a2-98")
    assert simulated.npu_smi("info -t spod-info -i 0 -c 0")[1] == (
        "This device does not support querying spod-info.\n"
    )


@pytest.mark.parametrize("fault", ["compat", "firmware-old"])
def test_firmware_that_does_not_fit(simulated: Simulated, fault: str) -> None:
    simulated.boot()
    simulated.fault(f"on {fault}")
    assert "Compatibility                  : NOT OK" in (simulated.npu_smi("info -t board -i 0")[1])


def test_health_of_one_device(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on unhealthy-warning --device 1")
    text = simulated.npu_smi("info")[1]
    assert "| 1     910B3               | Warning       |" in text
    assert "| 0     910B3               | OK            |" in text
