"""The image build's patches, on plain git repositories: what an operator meets."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pdinfra.yuanrong.patches import Patch, Tool, manifest
from tests.commands import ROOT

SCRIPT = ROOT / "images" / "vllm-ascend-yuanrong" / "apply_patches.py"
BEFORE = "".join(f"line {number}\n" for number in range(1, 30))
AFTER = BEFORE.replace("line 12\n", "line twelve, by the patch\n")
# The user's own configuration must not decide: an image build has none.
ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}
WHO = ("-c", "user.name=upstream", "-c", "user.email=upstream@example.com")


@dataclass
class Sources:
    """A repository, and a folder of patches for it."""

    repository: Path
    patches: Path

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *WHO, *words], cwd=self.repository, env=ENV, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, text: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", text)

    def text(self) -> str:
        return (self.repository / "loader.py").read_text()

    def state(self) -> tuple[str, str, bool]:
        """Everything that a failed patch must leave alone."""
        interrupted = (self.repository / ".git" / "rebase-apply").exists()
        return self.git("rev-parse", "HEAD"), self.git("status", "--porcelain"), interrupted

    def make(self, tool: Tool, name: str, **files: str) -> Patch:
        """Return a patch that writes these files, made by git itself on another branch."""
        self.git("checkout", "-q", "-b", f"making-{name}")
        for path, text in files.items():
            (self.repository / path.replace("__", "/")).write_text(text)
        self.commit(f"patch {name}")
        form = ("format-patch", "--stdout", "-1") if tool == "am" else ("diff", "main", "HEAD")
        body = self.git(*form)
        self.git("checkout", "-q", "main")
        return self.keep(tool, f"{name}.patch", body)

    def keep(self, tool: Tool, name: str, body: str) -> Patch:
        (self.patches / name).write_text(body)
        digest = hashlib.sha256(body.encode()).hexdigest()
        return Patch(name, digest, str(self.repository), tool)

    def run(self, *patches: Patch) -> subprocess.CompletedProcess[str]:
        (self.patches / "patches.json").write_text(manifest(patches))
        words = [sys.executable, str(SCRIPT), str(self.patches / "patches.json"), str(self.patches)]
        return subprocess.run(words, env=ENV, capture_output=True, text=True)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    made = Sources(tmp_path / "vllm-ascend", tmp_path / "patches")
    made.repository.mkdir()
    made.patches.mkdir()
    made.git("init", "-q", "-b", "main")
    (made.repository / "loader.py").write_text(BEFORE)
    made.commit("upstream")
    return made


@pytest.mark.parametrize("tool", ["am", "apply"])
def test_patch_that_fits_is_applied_and_skipped_the_next_time(sources: Sources, tool: Tool) -> None:
    patch = sources.make(tool, "0001-connector", **{"loader.py": AFTER, "connector.py": "new\n"})
    first = sources.run(patch)
    assert first.returncode == 0, first.stderr
    assert "0001-connector.patch: applied to" in first.stdout
    assert sources.text() == AFTER
    assert (sources.repository / "connector.py").read_text() == "new\n"
    before = sources.state()
    second = sources.run(patch)
    assert second.returncode == 0
    assert "already in" in second.stdout
    assert sources.state() == before


def test_am_keeps_the_patch_as_a_commit_of_its_author(sources: Sources) -> None:
    sources.run(sources.make("am", "0001-connector", **{"loader.py": AFTER}))
    assert sources.git("log", "-1", "--format=%an %s").strip() == "upstream patch 0001-connector"


def test_several_patches_are_applied_in_their_order(sources: Sources) -> None:
    first = sources.make("am", "0001-first", **{"loader.py": AFTER})
    sources.git("checkout", "-q", "-b", "with-first", "making-0001-first")
    (sources.repository / "loader.py").write_text(AFTER.replace("twelve", "twelve again"))
    sources.commit("second")
    second = sources.keep("am", "0002-second.patch", sources.git("format-patch", "--stdout", "-1"))
    sources.git("checkout", "-q", "main")
    assert sources.run(second, first).returncode == 1
    assert sources.run(first, second).returncode == 0
    assert "twelve again" in sources.text()


@pytest.mark.parametrize("tool", ["am", "apply"])
def test_patch_of_another_version_names_itself_the_file_and_the_cause(
    sources: Sources, tool: Tool
) -> None:
    patch = sources.make(tool, "0001-connector", **{"loader.py": AFTER})
    (sources.repository / "loader.py").write_text(BEFORE.replace("line 12\n", "line 12b\n"))
    sources.commit("another version")
    before = sources.state()
    done = sources.run(patch)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("0001-connector.patch: ")
    assert f"{sources.repository}/loader.py: does not fit at line 9" in done.stderr
    assert "Fix: " in done.stderr
    assert sources.state() == before


def test_file_that_the_sources_lack_is_named(sources: Sources) -> None:
    patch = sources.make("apply", "0001-connector", **{"loader.py": AFTER})
    sources.git("mv", "loader.py", "moved.py")
    sources.commit("moved")
    done = sources.run(patch)
    assert done.returncode == 1
    assert "loader.py: No such file or directory" in done.stderr


def test_patch_that_is_there_in_part_is_said_to_be_so(sources: Sources) -> None:
    patch = sources.make("am", "0001-connector", **{"loader.py": AFTER, "connector.py": "new\n"})
    (sources.repository / "connector.py").write_text("new\n")
    sources.commit("half of it")
    before = sources.state()
    done = sources.run(patch)
    assert done.returncode == 1
    assert "connector.py: is there already, though not all of the patch is" in done.stderr
    assert "clean image" in done.stderr
    assert sources.state() == before


def test_wrong_checksums_are_all_named_before_anything_is_applied(sources: Sources) -> None:
    good = sources.make("am", "0001-good", **{"loader.py": AFTER})
    bad = sources.make("am", "0002-bad", **{"other.py": "x\n"})
    (sources.patches / bad.file).write_text("cut off")
    gone = Patch("0003-gone.patch", "0" * 64, str(sources.repository), "am")
    before = sources.state()
    done = sources.run(good, bad, gone)
    assert done.returncode == 2
    assert f"0002-bad.patch: sha256 is {hashlib.sha256(b'cut off').hexdigest()}" in done.stderr
    assert "0003-gone.patch: not in " in done.stderr
    assert sources.state() == before
    assert sources.text() == BEFORE


def test_an_am_that_stopped_halfway_is_undone_and_done_again(sources: Sources) -> None:
    patch = sources.make("am", "0001-connector", **{"loader.py": AFTER})
    (sources.repository / "loader.py").write_text(BEFORE.replace("line 12\n", "in the way\n"))
    sources.commit("in the way")
    stopped = subprocess.run(
        ["git", *WHO, "am", str(sources.patches / patch.file)],
        cwd=sources.repository,
        env=ENV,
        capture_output=True,
    )
    assert stopped.returncode != 0
    assert sources.state()[2], "git am is to leave its state"
    assert sources.run(patch).returncode == 1
    assert not sources.state()[2]
    sources.git("reset", "-q", "--hard", "HEAD~1")
    assert sources.run(patch).returncode == 0
    assert sources.text() == AFTER


def test_am_that_git_refuses_after_the_check_leaves_the_repository_as_it_was(
    sources: Sources,
) -> None:
    patch = sources.make("am", "0001-connector", **{"loader.py": AFTER})
    (sources.repository / "notes.txt").write_text("staged, not committed\n")
    sources.git("add", "notes.txt")
    before = sources.state()
    done = sources.run(patch)
    assert done.returncode == 1
    assert "0001-connector.patch" in done.stderr
    assert "notes.txt" in done.stderr
    assert sources.state() == before


def test_folder_without_sources_and_a_list_that_is_none_are_wrong_usage(
    sources: Sources, tmp_path: Path
) -> None:
    patch = sources.make("am", "0001-connector", **{"loader.py": AFTER})
    elsewhere = Patch(patch.file, patch.sha256, str(tmp_path / "nothing"), "am")
    done = sources.run(elsewhere)
    assert done.returncode == 2
    assert "is no git repository" in done.stderr
    (sources.patches / "patches.json").write_text(json.dumps([{"file": "x"}]))
    words = [sys.executable, str(SCRIPT), str(sources.patches / "patches.json"), str(tmp_path)]
    broken = subprocess.run(words, env=ENV, capture_output=True, text=True)
    assert broken.returncode == 2
    assert "Traceback" not in broken.stderr
