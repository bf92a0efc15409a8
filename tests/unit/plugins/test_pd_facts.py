"""What the facts module brings home, with files and a FAKE Docker socket of this process."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest
from ansible.module_utils import basic

from pdinfra.assets import ROOT
from pdinfra.reading.docker import docker_fact, image_ids
from pdinfra.reading.host import host_facts
from pdinfra.reading.model_dir import model_fact
from pdinfra.reading.nvidia import nvidia_fact
from plugins.modules import pd_facts
from tests.commands import command
from tests.unit.builders import inspect, plan

ROOT_DIR = str(Path(__file__).parent)
"""A folder that is there, and not one where Docker usually keeps its data."""

SIMULATOR = ROOT / "tests" / "sim" / "nvidia"
"""Where the SIMULATED nvidia-smi is."""

GPU = {
    "name": "NVIDIA H100",
    "driver_version": "550.90.07",
    "memory.total": 81920,
    "uuid": "GPU-1",
}

LOG = b"".join(
    bytes([stream, 0, 0, 0]) + struct.pack(">I", len(line)) + line
    for stream, line in ((1, b"Loading weights\n"), (2, "Fehler: zu groß\n".encode()))
)


class FakeDocker(UnixStreamServer):
    """A FAKE Docker engine with one sick container and one image."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        request, _ = super().get_request()
        return request, ("docker", 0)


def sick() -> dict[str, object]:
    return inspect(plan().host("a").containers[0], Health={"Status": "unhealthy"})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers: dict[str, object] = {
            "/containers/json": [{"Id": "1"}, {"Id": "gone"}],
            "/containers/1/json": sick(),
            "/version": {"Version": "28.2.2"},
            "/info": {"DockerRootDir": ROOT_DIR, "Runtimes": {"runc": {}, "nvidia": {}}},
            "/images/json": [
                {"Id": "sha256:1", "RepoTags": ["v:1"], "RepoDigests": None},
                {"Id": "sha256:2", "RepoTags": [], "RepoDigests": None},
            ],
        }
        path = self.path.partition("?")[0]
        data = LOG if path == "/containers/1/logs" else json.dumps(answers.get(path)).encode()
        self.send_response(404 if path == "/containers/gone/json" else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A FAKE Docker behind the module's socket path."""
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(pd_facts, "SOCKET", str(path))
    server = FakeDocker(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("docker")
def test_engine_that_answers_brings_containers_images_and_its_version() -> None:
    raw = pd_facts.engine("pd", 20, containers_only=False)
    assert docker_fact(raw).state == "running"
    assert docker_fact(raw).version == "28.2.2"
    assert docker_fact(raw).runtimes == ("nvidia", "runc")
    assert image_ids(raw) == {"v:1": "sha256:1"}
    assert len(raw["images"]) == 1


@pytest.mark.usefixtures("docker")
def test_sick_container_brings_its_last_log_lines_and_one_that_went_away_is_none() -> None:
    (found,) = pd_facts.engine("pd", 20, containers_only=True)["containers"]
    assert found["pdinfra_log"] == ["Loading weights", "Fehler: zu groß"]


@pytest.mark.usefixtures("docker")
def test_only_as_many_log_lines_as_asked_for() -> None:
    assert pd_facts.log_tail("1", 1) == ["Fehler: zu groß"]


@pytest.mark.usefixtures("docker")
def test_line_of_log_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    long = b"x" * 1_000_000
    monkeypatch.setattr(
        f"{__name__}.LOG", bytes([1, 0, 0, 0]) + struct.pack(">I", len(long)) + long
    )
    assert pd_facts.log_tail("1", 1) == ["x" * pd_facts.LINE]


def test_host_without_docker_is_told_from_one_where_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pd_facts, "SOCKET", str(tmp_path / "none.sock"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert docker_fact(pd_facts.engine("pd", 0, containers_only=True)).state == "absent"
    dockerd = tmp_path / "dockerd"
    dockerd.write_text("")
    dockerd.chmod(0o755)
    assert docker_fact(pd_facts.engine("pd", 0, containers_only=True)).state == "stopped"


def test_socket_that_we_may_not_use_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Root, who runs these tests as well, may use every socket: so the kernel's answer is played.
    monkeypatch.setattr(pd_facts.DockerConnection, "connect", refuse)
    fact = docker_fact(pd_facts.engine("pd", 0, containers_only=True))
    assert fact.state == "denied"
    assert "Permission denied" in fact.detail


@pytest.mark.usefixtures("docker")
def test_one_call_brings_a_whole_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"service": "pd", "models": [str(tmp_path / "none")], "ports": [1]}
    monkeypatch.setattr(
        basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    )
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
    with pytest.raises(SystemExit):
        pd_facts.main()
    answer = json.loads(capsys.readouterr().out)
    assert answer["changed"] is False
    facts = host_facts("a", answer["raw"])
    assert facts.memory_total > 0
    assert facts.models[0].error == "No such file or directory"
    assert [c.id for c in facts.containers] == ["prefill-a-0"]
    # Docker's data may be on a disk of its own: that one has to have room.
    assert facts.docker.root in facts.disk_free


def test_whole_model_directory_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"num_attention_heads": 8, "num_key_value_heads": 2}')
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "tokenizer.json").write_text("{}")
    fact = model_fact(str(tmp_path), pd_facts.model(str(tmp_path)))
    assert (fact.error, fact.missing) == (None, ())
    assert (fact.heads, fact.kv_heads, fact.weight_bytes) == (8, 2, 100)


def test_index_of_a_large_model_is_brought_by_its_files_alone(tmp_path: Path) -> None:
    files = [f"model-{n}-of-3.safetensors" for n in (1, 2, 3)]
    tensors = {f"model.layers.{n}.mlp.experts.weight": files[n % 3] for n in range(100_000)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": tensors}))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    for name in files[:2]:
        (tmp_path / name).write_bytes(b"x")
    raw = pd_facts.model(str(tmp_path))
    assert len(json.dumps(raw)) < 10_000
    assert model_fact(str(tmp_path), raw).missing == (files[2],)


def test_index_that_is_none_is_told(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "model.safetensors.index.json").write_text("{broken")
    fact = model_fact(str(tmp_path), pd_facts.model(str(tmp_path)))
    assert fact.missing == ("model.safetensors.index.json that is valid JSON",)


def test_link_to_a_weight_file_that_is_gone_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    fact = model_fact(str(tmp_path), pd_facts.model(str(tmp_path)))
    assert fact.missing == ("weights (*.safetensors)",)


def test_directory_that_is_not_there_and_a_file_in_its_place_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert pd_facts.model(str(tmp_path / "none"))["error"] == "No such file or directory"
    assert pd_facts.model(str(tmp_path / "file"))["error"] == "Not a directory"


def test_process_that_listens_on_a_port_is_found() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert pd_facts.listeners({port})[str(port)]["pid"] == os.getpid()
    assert pd_facts.listeners({port}) == {}


def test_busy_host_brings_what_listens_and_none_of_its_connections(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue\n"
    row = (
        "%5d: 0100007F:1F40 0100007F:%04X %s 00000000:00000000 00:00000000 00000000  1000  0 66 1\n"
    )
    busy = "".join(row % (n, n, "01") for n in range(1, 50_001))
    table = tmp_path / "tcp"
    table.write_text(head + row % (0, 0, "0A") + busy)
    brought = pd_facts.kernel_table(str(table), *pd_facts.KERNEL_TABLES["/proc/net/tcp"])
    assert brought == head + row % (0, 0, "0A")
    assert pd_facts.kernel_table(str(tmp_path / "none"), 3, "0A") is None


def test_files_of_the_kernel_are_read_that_refuse_a_large_read() -> None:
    assert pd_facts.read_file("/proc/sys/net/ipv4/ip_local_reserved_ports") is not None


def test_large_file_is_read_whole_up_to_the_limit(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_text("x" * (3 * pd_facts.CHUNK + 1))
    assert pd_facts.read_file(str(large)) == large.read_text()
    assert pd_facts.read_file(str(large), limit=pd_facts.CHUNK) == "x" * pd_facts.CHUNK


def test_free_space_of_a_folder_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert pd_facts.free(str(tmp_path))
    assert pd_facts.free(str(tmp_path / "none")) is None


def test_module_uses_nothing_but_the_standard_library_and_ansible() -> None:
    source = Path(str(pd_facts.__file__)).read_text(encoding="utf-8")
    for foreign in ("import docker", "import requests", "from pdinfra", "import pydantic"):
        assert foreign not in source


def test_nvidia_host_brings_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [{**GPU, "index": n, "memory.used": 4} for n in (0, 1)]
    (tmp_path / "gpus.json").write_text(json.dumps(gpus))
    monkeypatch.setenv("PATH", f"{SIMULATOR}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SIM_NVIDIA_GPUS", str(tmp_path / "gpus.json"))
    fact = nvidia_fact(pd_facts.nvidia())
    assert fact.error is None
    assert [gpu.index for gpu in fact.gpus] == [0, 1]
    assert fact.gpus[0].memory_total == 80 * 1024**3
    assert not fact.toolkit


def test_nvidia_host_without_its_driver_brings_the_tool_s_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{SIMULATOR}{os.pathsep}{os.environ['PATH']}")
    assert "couldn't communicate with the NVIDIA driver" in str(
        nvidia_fact(pd_facts.nvidia()).error
    )


def test_simulator_says_that_it_is_one() -> None:
    said = command(str(SIMULATOR / "nvidia-smi"), "--help")
    assert said.code == 0
    assert "SIMULATOR" in said.out


def test_rank_tables_come_whole_with_what_tells_who_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "rank[tables]"
    table = folder / "0123456789ab" / "global_ranktable_192.0.2.11.json"
    table.parent.mkdir(parents=True)
    table.write_text('{"version": "1.0"}')
    table.chmod(0o640)
    (table.parent / "notes.txt").write_text("no table")
    (folder / "loose.json").write_text("in no folder of its own")
    (table.parent / "gone.json").symlink_to(tmp_path / "nowhere")
    stat = table.stat()
    assert pd_facts.rank_tables(str(folder)) == {
        str(table): {
            "text": '{"version": "1.0"}',
            "mode": 0o640,
            "uid": stat.st_uid,
            "gid": stat.st_gid,
            "changed": stat.st_mtime,
        }
    }


def test_host_without_rank_tables_brings_none(tmp_path: Path) -> None:
    assert pd_facts.rank_tables(str(tmp_path / "none")) == {}
