"""The list of patches for an image build."""

from __future__ import annotations

import json

from pdinfra.yuanrong.patches import Patch, guide_patches, manifest, problems

# Guides: "cd /vllm-workspace/vllm git apply /workspace/tools/vllm.patch" and
# "cd /vllm-workspace/vllm-ascend git am /workspace/tools/patch/0001-implement-chariot-...".
NAME = "0001-implement-chariot-ds-connector-and-support-multimoda.patch"


def test_guides_patches_with_their_folders_and_tools() -> None:
    both = guide_patches(NAME, "a" * 64, ("vllm.patch", "b" * 64))
    assert [(p.file, p.target, p.tool) for p in both] == [
        ("vllm.patch", "/vllm-workspace/vllm", "apply"),
        (NAME, "/vllm-workspace/vllm-ascend", "am"),
    ]
    assert len(guide_patches(NAME, "a" * 64)) == 1
    assert problems(both) == []


def test_all_that_is_wrong_is_said_at_once() -> None:
    bad = Patch("x/y.patch", "AB", "vllm", "patch")  # type: ignore[arg-type]
    assert len(problems([bad, bad])) == 9


def test_manifest_is_the_list_and_always_the_same() -> None:
    both = guide_patches(NAME, "a" * 64, ("vllm.patch", "b" * 64))
    assert [row["file"] for row in json.loads(manifest(both))] == ["vllm.patch", NAME]
    assert manifest(both) == manifest(list(both))
