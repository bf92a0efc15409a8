"""Files that hosts write to a folder, and what other hosts see of them: in real folders."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from plugins.modules import pd_shared_path

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw shared:2 - xfs /dev/sdb1 rw
31 30 0:41 / /srv/kv rw,relatime shared:3 - nfs4 10.0.0.9:/kv rw,vers=4.2
32 22 0:42 / /srv/my\\040kv rw - ceph 10.0.0.9:/ rw
33 30 0:43 / /srv/kv rw - lustre 10.0.0.8@tcp:/kv rw
"""


def read(folder: Path, *hosts: str, seconds: float = 0) -> dict[str, str]:
    return pd_shared_path.read(str(folder), list(hosts), "t1", 0, seconds)


def test_what_one_wrote_the_other_reads_and_nothing_is_left(tmp_path: Path) -> None:
    for host in ("node1", "node2"):
        written = pd_shared_path.write(str(tmp_path), host, "t1", 0)
        assert (written["there"], written["error"]) == (True, "")
        assert 0 < written["free"] <= written["size"]
    assert read(tmp_path, "node1", "node2") == {"node1": "", "node2": ""}
    for host in ("node1", "node2"):
        pd_shared_path.remove(str(tmp_path), host, "t1", 0)
    assert list(tmp_path.iterdir()) == []


def test_other_folder_shows_nothing(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    pd_shared_path.write(str(mine), "node1", "t1", 0)
    assert read(other, "node1") == {"node1": "not there"}


def test_file_of_another_run_or_content_is_not_taken_for_it(tmp_path: Path) -> None:
    pd_shared_path.write(str(tmp_path), "node1", "t0", 0)
    (tmp_path / ".pdinfra-node2-t1").write_text("something else")
    assert read(tmp_path, "node1", "node2") == {
        "node1": "not there",
        "node2": "not what was written",
    }


def test_file_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    late = threading.Timer(0.3, pd_shared_path.write, (str(tmp_path), "node1", "t1", 0))
    late.start()
    assert read(tmp_path, "node1", seconds=30) == {"node1": ""}
    late.join()


def test_folder_that_is_not_there_is_said_and_removing_is_no_fault(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    written = pd_shared_path.write(gone, "node1", "t1", 0)
    assert written == {"there": False, "error": "No such file or directory"}
    pd_shared_path.remove(gone, "node1", "t1", 0)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/home/kv", ("/", "ext4")),
        ("/srv/other", ("/srv", "xfs")),
        ("/srv/kv/pd", ("/srv/kv", "lustre")),
        ("/srv/kvs", ("/srv", "xfs")),
        ("/srv/my kv", ("/srv/my kv", "ceph")),
    ],
)
def test_mount_above_a_folder(path: str, found: tuple[str, str]) -> None:
    assert pd_shared_path.mounted(path, TABLE) == found
