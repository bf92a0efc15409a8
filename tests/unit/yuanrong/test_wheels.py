"""A set of wheels, before anything is touched."""

from __future__ import annotations

import hashlib

from pdinfra.versions.yuanrong import release
from pdinfra.yuanrong.wheels import Target, WheelFile, problems, version

IMAGE = Target("cp311", "x86_64", (2, 34))
NEW = [
    f"{name}-0.8.0-cp311-cp311-manylinux_2_34_x86_64.whl"
    for name in (
        "openyuanrong",
        "openyuanrong_runtime",
        "openyuanrong_functionsystem",
        "openyuanrong_datasystem",
    )
]
# As the guides name them.
GUIDE = [
    "openyuanrong-0.5.0-cp311-cp311-manylinux_2_34_x86_64.whl",
    "openyuanrong-datasystem-0.5.0-cp311-cp311-manylinux2014_x86_64.whl",
]


def sum_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def check(names: list[str], of: str = "0.8.0", target: Target = IMAGE, **sums: str) -> list[str]:
    files = [WheelFile(name, sum_of(name)) for name in names]
    checksums = {name: sum_of(name) for name in names} | sums
    return problems(files, release(of).wheels, target, checksums)


def test_whole_set_of_one_version_is_right() -> None:
    assert check(NEW) == []
    assert version(NEW) == "0.8.0"


def test_guides_second_file_must_be_renamed_as_pip_refuses_it() -> None:
    wrong = check(GUIDE, of="0.5.0")
    assert len(wrong) == 1
    assert wrong[0].endswith(
        "Fix: rename it to openyuanrong_datasystem-0.5.0-cp311-cp311-manylinux2014_x86_64.whl"
    )
    assert version(GUIDE) == "0.5.0"


def test_all_that_is_wrong_is_said_at_once() -> None:
    names = [
        NEW[0],
        NEW[1].replace("0.8.0", "0.9.0"),
        NEW[3].replace("cp311", "cp39").replace("x86_64", "aarch64"),
        "numpy-1.0-cp311-cp311-linux_x86_64.whl",
        "notes.txt",
    ]
    said = "\n".join(check(names))
    for part in (
        "openyuanrong_functionsystem is missing",
        "of several versions: openyuanrong 0.8.0, openyuanrong_runtime 0.9.0",
        "is for Python cp39, the image has cp311",
        "is for manylinux_2_34_aarch64, the image is x86_64",
        "numpy-1.0-cp311-cp311-linux_x86_64.whl is none of",
        "notes.txt is no wheel's name",
    ):
        assert part in said
    assert all("Fix: " in line for line in said.splitlines())


def test_two_versions_of_one_project_are_two_too_many() -> None:
    said = "\n".join(check([*NEW, NEW[0].replace("0.8.0", "0.9.0")]))
    assert "openyuanrong is there 2 times" in said
    assert version([*NEW, NEW[0].replace("0.8.0", "0.9.0")]) is None


def test_image_with_an_older_glibc_cannot_run_them() -> None:
    said = "\n".join(check(NEW, target=Target("cp311", "x86_64", (2, 28))))
    assert "glibc 2.28" in said


def test_checksums_missing_wrong_and_left_over() -> None:
    files = [WheelFile(name, sum_of(name)) for name in NEW]
    checksums = {
        NEW[0]: "0" * 64,
        NEW[1]: "no",
        NEW[2]: sum_of(NEW[2]).upper(),
        "old.whl": "0" * 64,
    }
    said = "\n".join(problems(files, release("0.8.0").wheels, IMAGE, checksums))
    assert f"{NEW[0]} has sha256 {sum_of(NEW[0])}, not {'0' * 64}" in said
    assert f"{NEW[1]} has no checksum" in said
    assert f"{NEW[3]} has no checksum" in said
    assert f"{NEW[2]} has" not in said
    assert "old.whl has a checksum, but there is no such file" in said


def test_no_files_at_all() -> None:
    assert len(check([])) == 4
