"""What a host's script printed → typed data. The text has the form of a real host's answer."""

from __future__ import annotations

import json

import pytest

from pdinfra.hosttests.look import SCRIPT, command
from pdinfra.hosttests.seen import Entry, Process, Seen, plain, read
from tests.unit.builders import inspect, plan

ID = "f" * 64
CONTAINER = inspect(plan().host("a").containers[0])
MODEL = "/srv/models/qwen"
TEXT = f"""
@@ engine
{{"Version":"28.2.2","ApiVersion":"1.50"}}

@@ logging
json-file

@@ daemon
{{
    "log-opts": {{"max-size": "50m"}}
}}

@@ containers
{json.dumps([CONTAINER], indent=4)}

@@ origins
[{{"Id": "sha256:1", "Config": {{"Env": ["LANG=C"]}}}}]

@@ image vllm:1
[{{"Id": "sha256:1", "RepoDigests": []}}]

@@ image router:1
[]

@@ process {ID}
Uid:\t1000\t1001\t1000\t1000
Gid:\t1000\t1002\t1000\t1000
Groups:\t44 109 
CapEff:\t0000000000000000

@@ paths
644\t0\t0\tregular file\t/etc/docker/daemon.json
660\t0\t44\tcharacter special file\t/dev/davinci0

@@ tree {MODEL}
755\t0\t0\td\t{MODEL}
644\t0\t0\tf\t{MODEL}/a name with spaces.json

@@ name node1
10.0.0.1        STREAM node1
10.0.0.1        DGRAM  

@@ tcp
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100000A:1FA4 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 74514 1
   1: 0100000A:1F40 0100007F:82E7 01 00000000:00000000 00:00000000 00000000  1000  0 66603 1
   2: 0100000A:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0  0 5 1

@@ sockets
/proc/77/fd/12 socket:[74514]
/proc/1/fd/3 socket:[5]
/proc/9/fd/1 socket:[99]

@@ groups
/proc/77/cgroup:0::/docker/{"e" * 64}/system.slice/docker-{ID}.scope
/proc/77/comm:vllm
/proc/1/cgroup:0::/init.scope
/proc/1/comm:sshd

@@ end
"""  # noqa: W291


@pytest.fixture
def seen() -> Seen:
    found = read(TEXT)
    assert found is not None
    return found


def test_docker_is_read(seen: Seen) -> None:
    assert (seen.engine_error, seen.version, seen.logging_driver) == ("", "28.2.2", "json-file")
    assert json.loads(seen.daemon) == {"log-opts": {"max-size": "50m"}}
    assert list(seen.containers) == ["prefill-a-0"]
    assert list(seen.images) == ["vllm:1"]
    assert seen.origins["sha256:1"]["Config"]["Env"] == ["LANG=C"]


def test_engine_that_does_not_answer_says_why() -> None:
    said = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    before, _, after = TEXT.partition('{"Version":"28.2.2","ApiVersion":"1.50"}')
    found = read(before + said + after)
    assert found is not None
    assert found.engine_error == said


def test_answer_that_was_cut_off_is_none() -> None:
    assert read(TEXT.removesuffix("@@ end\n")) is None


def test_files_and_names_are_read(seen: Seen) -> None:
    assert seen.paths["/dev/davinci0"].kind == "character special file"
    assert seen.paths["/etc/docker/daemon.json"].mode == 0o644
    folder, file = seen.trees[MODEL]
    assert folder.is_directory
    assert file.path == f"{MODEL}/a name with spaces.json"
    assert seen.names == {"node1": frozenset({"10.0.0.1"})}


def test_listening_socket_belongs_to_the_innermost_container(seen: Seen) -> None:
    engine, ssh = seen.sockets
    assert (engine.address, engine.port, engine.container) == ("10.0.0.1", 8100, ID)
    assert engine.process == "vllm (pid 77)"
    assert (ssh.port, ssh.container, ssh.process) == (22, "", "sshd (pid 1)")


def test_process_is_known_by_its_effective_ids(seen: Seen) -> None:
    process = seen.processes[ID]
    assert (process.uid, process.gid, process.groups) == (1001, 1002, frozenset({44, 109}))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "kind", "may"),
    [
        (0o644, 0, 0, "f", True),
        (0o640, 0, 0, "f", False),
        (0o640, 0, 44, "f", True),
        (0o600, 1001, 0, "f", True),
        (0o044, 1001, 0, "f", False),
        (0o744, 0, 0, "d", False),
        (0o755, 0, 0, "d", True),
    ],
)
def test_who_may_read_what(seen: Seen, mode: int, uid: int, gid: int, kind: str, may: bool) -> None:
    entry = Entry(path="/x", mode=mode, uid=uid, gid=gid, kind=kind)
    assert seen.processes[ID].may_read(entry) is may


def test_root_without_its_capabilities_reads_no_more_than_the_modes_allow() -> None:
    entry = Entry(path="/x", mode=0o600, uid=1000, gid=1000, kind="f")
    root = Process(uid=0, gid=0, groups=frozenset(), capabilities=0)
    assert not root.may_read(entry)
    assert Process(uid=0, gid=0, groups=frozenset(), capabilities=0b10).may_read(entry)


def test_addresses_are_compared_in_one_form() -> None:
    assert plain("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain("fe80::1") == "fe80::1"
    assert plain("node1") == "node1"


def test_script_is_told_what_the_plan_wants_to_know() -> None:
    node = plan(every={"pd_image": "it's:1"}).host("a")
    text = command(node)
    assert text.endswith(SCRIPT)
    assert "SERVICE=pd\n" in text
    assert f"TREES={node.models[0].path}\n" in text
    assert "NAMES=a\n" in text
    assert "it'\"'\"'s:1" in text
