"""Bringing a model: real HTTP against the SIMULATED hub and against a host that hands out."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from pdinfra.reading.model_dir import MANIFEST, model_fact
from plugins.modules import pd_facts, pd_model, pd_model_serve
from tests.sim.hub import Faults, Hub

REPO = "Org/Model-1B"
WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "config.json": b'{"num_attention_heads": 8, "num_key_value_heads": 2}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "sub dir/chat template.jinja": b"{{ messages }}",
    "empty.txt": b"",
    "pytorch_model.bin": b"the same weights again",
    "original/consolidated.pth": b"and again",
    ".gitattributes": b"*.bin lfs",
}
WANTED = {name for name in FILES if not name.startswith(("pytorch", "original", ".git"))}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A SIMULATED hub whose large files lie behind a redirect to another name."""
    for name, data in FILES.items():
        path = tmp_path / "hub" / REPO / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    server = Hub(tmp_path / "hub", ("127.0.0.1", 0), Faults())
    server.cdn = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts, and no proxy of this machine."""
    monkeypatch.setattr(pd_model, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(pd_model, "ROOM", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def wanted(tmp_path: Path, hub: Hub, source: str = "huggingface", **more: Any) -> dict[str, Any]:
    """Return the module's parameters."""
    return {
        "path": str(tmp_path / "models" / "m"),
        "source": source,
        "repo": REPO,
        "revision": hub.commit(REPO),
        "endpoint": hub.url,
        "token": "",
        "files": [],
        "sha256": {},
        "wait_seconds": 20,
        **more,
    }


def deliver(params: dict[str, Any]) -> list[str]:
    """Do the worker's work in this process; return what it told."""
    told: list[str] = []
    work = Path(pd_model.work_folder(params["path"]))
    work.mkdir(parents=True, exist_ok=True)
    pd_model.deliver(params, str(work), told.append)
    return told


def refused(params: dict[str, Any]) -> str:
    """Return why a delivery ended badly; the model must not have appeared."""
    with pytest.raises(pd_model.DeliveryError) as caught:
        deliver(params)
    assert not Path(params["path"]).exists()
    return str(caught.value)


def delivered(params: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of a delivered model, without pdinfra's own."""
    root = Path(params["path"])
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if not name.startswith(".pdinfra")}


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_model_comes_whole_without_the_formats_that_vllm_skips(
    tmp_path: Path, hub: Hub, source: str
) -> None:
    params = wanted(tmp_path, hub, source)
    told = deliver(params)
    assert delivered(params) == {name: FILES[name] for name in WANTED}
    assert not Path(pd_model.work_folder(params["path"])).exists()
    assert told[-1].endswith(f"{len(WANTED)} of {len(WANTED)} files")


def test_manifest_has_every_files_size_and_sha256_and_is_what_facts_read(
    tmp_path: Path, hub: Hub
) -> None:
    params = wanted(tmp_path, hub)
    deliver(params)
    manifest = json.loads((Path(params["path"]) / MANIFEST).read_text())
    assert (manifest["repo"], manifest["revision"]) == (REPO, hub.commit(REPO))
    rows = {row["path"]: (row["size"], row["sha256"]) for row in manifest["files"]}
    assert rows == {n: (len(FILES[n]), hashlib.sha256(FILES[n]).hexdigest()) for n in WANTED}
    fact = model_fact(params["path"], pd_facts.model(params["path"]))
    assert fact.missing == ()
    assert fact.manifest is not None
    assert (fact.manifest.repo, fact.manifest.wrong) == (REPO, ())
    (Path(params["path"]) / "sub dir" / "chat template.jinja").unlink()
    fact = model_fact(params["path"], pd_facts.model(params["path"]))
    assert fact.manifest is not None
    assert fact.manifest.wrong == ("sub dir/chat template.jinja missing",)


def test_modelscope_takes_a_tag_as_revision(tmp_path: Path, hub: Hub) -> None:
    params = wanted(tmp_path, hub, "modelscope", revision="v1")
    deliver(params)
    assert set(delivered(params)) == WANTED


def test_cut_connection_goes_on_with_a_range(tmp_path: Path, hub: Hub) -> None:
    hub.faults.cut_after = 300_000
    params = wanted(tmp_path, hub)
    deliver(params)
    assert delivered(params)["model.safetensors"] == WEIGHTS
    ranges = [seen.range for seen in hub.downloads("model.safetensors") if "/cdn/" in seen.path]
    assert ranges == ["", "bytes=300000-"]


def test_run_that_was_killed_goes_on_where_it_was(tmp_path: Path, hub: Hub) -> None:
    params = wanted(tmp_path, hub)
    work = Path(pd_model.work_folder(params["path"]))
    work.mkdir(parents=True)
    (work / "model.safetensors.partial").write_bytes(WEIGHTS[:1000])
    (work / "config.json").write_bytes(FILES["config.json"])
    deliver(params)
    assert delivered(params)["model.safetensors"] == WEIGHTS
    assert hub.downloads("config.json") == []
    assert {seen.range for seen in hub.downloads("model.safetensors")} == {"bytes=1000-"}


def test_network_that_never_brings_anything_is_given_up_and_says_so(
    tmp_path: Path, hub: Hub
) -> None:
    hub.faults = Faults(cut_after=1, cut_always=True)
    told = refused(wanted(tmp_path, hub, files=["model.safetensors"]))
    assert told.startswith("model.safetensors: cut off after 0 of 1048576 bytes, 4 times in a row")
    assert "it goes on where it stopped" in told


def test_busy_hub_is_asked_again(tmp_path: Path, hub: Hub) -> None:
    hub.faults.busy = [429, 503, 502]
    params = wanted(tmp_path, hub)
    deliver(params)
    assert set(delivered(params)) == WANTED


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_are_refused_and_removed(tmp_path: Path, hub: Hub, name: str) -> None:
    hub.faults.wrong = {name}
    params = wanted(tmp_path, hub)
    told = refused(params)
    assert told.startswith(f"{name}: wrong checksum: expected ")
    if name == "model.safetensors":
        assert f"sha256 {hashlib.sha256(WEIGHTS).hexdigest()}" in told
    work = Path(pd_model.work_folder(params["path"]))
    assert not (work / f"{name}.partial").exists()
    assert not (work / name).exists()
    hub.faults.wrong = set()
    deliver(params)
    assert delivered(params)[name] == FILES[name]


def test_all_wrong_files_are_told_at_once(tmp_path: Path, hub: Hub) -> None:
    hub.faults.missing = {"config.json"}
    told = refused(wanted(tmp_path, hub, files=["config.json"]))
    assert "HTTP 404" in told
    assert "pd_model_revision" in told


def test_file_on_disk_that_rotted_is_brought_again(tmp_path: Path, hub: Hub) -> None:
    params = wanted(tmp_path, hub)
    work = Path(pd_model.work_folder(params["path"]))
    work.mkdir(parents=True)
    (work / "model.safetensors").write_bytes(b"\0" * len(WEIGHTS))
    deliver(params)
    assert delivered(params)["model.safetensors"] == WEIGHTS


def test_revision_that_the_hub_does_not_have_is_told(tmp_path: Path, hub: Hub) -> None:
    assert "HTTP 404" in refused(wanted(tmp_path, hub, revision="0" * 40))


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_hub_that_wants_a_token_gets_it_and_its_storage_does_not(
    tmp_path: Path, hub: Hub, source: str
) -> None:
    hub.faults.token = "hf_secret"
    told = refused(wanted(tmp_path, hub, source))
    assert "HTTP 401" in told
    assert "pd_hub_token" in told
    params = wanted(tmp_path, hub, source, token="hf_secret")
    deliver(params)
    assert set(delivered(params)) == WANTED
    cdn = [seen.authorization for seen in hub.seen if "/cdn/" in seen.path]
    assert set(cdn) <= {""}
    assert bool(cdn) == (source == "huggingface")


def test_disk_that_is_too_small_is_told_before_anything_is_brought(
    tmp_path: Path, hub: Hub
) -> None:
    hub.faults.sizes = {"model.safetensors": 1 << 60}
    told = refused(wanted(tmp_path, hub))
    assert "1073741824.0 GiB needed" in told
    assert hub.downloads("config.json") == []


def test_own_checksums_and_patterns(tmp_path: Path, hub: Hub) -> None:
    good = {"config.json": hashlib.sha256(FILES["config.json"]).hexdigest()}
    params = wanted(tmp_path, hub, sha256=good, files=["*.json"])
    deliver(params)
    assert set(delivered(params)) == {"config.json", "tokenizer.json"}


def test_own_checksum_that_the_file_has_not_is_refused(tmp_path: Path, hub: Hub) -> None:
    told = refused(wanted(tmp_path, hub, sha256={"config.json": "0" * 64}))
    assert f"config.json: wrong checksum: expected sha256 {'0' * 64}" in told


def test_own_checksums_are_compared_with_the_hubs_before_the_download(
    tmp_path: Path, hub: Hub
) -> None:
    pinned = {"model.safetensors": "0" * 64, "none.json": "1" * 64}
    told = refused(wanted(tmp_path, hub, sha256=pinned))
    assert "none.json: in pd_model_sha256, but not among the files" in told
    assert f"pd_model_sha256 asks for {'0' * 64}" in told
    assert hub.downloads("model.safetensors") == []


def test_file_names_that_lead_out_of_the_directory_are_refused() -> None:
    for path in ("../../etc/passwd", "/etc/passwd", "a/../../b", "sub/.pdinfra-model.json"):
        with pytest.raises(pd_model.DeliveryError, match="not a name"):
            pd_model.pin([pd_model.Entry(path, 1, "sha256", "0" * 64)], {})


def test_file_without_any_checksum_is_refused_unless_the_inventory_has_one() -> None:
    entry = pd_model.Entry("a", 1, "sha256", "")
    with pytest.raises(pd_model.DeliveryError, match="add it to pd_model_sha256"):
        pd_model.pin([entry], {})
    assert pd_model.pin([entry], {"a": "1" * 64})[0].digest == "1" * 64


def test_model_without_safetensors_keeps_its_other_format() -> None:
    entries = [pd_model.Entry(name, 1, "git", "0") for name in ("config.json", "model.bin")]
    assert pd_model.select(entries, []) == entries


def test_call_works_in_the_background_and_hands_the_outcome_over_once(
    tmp_path: Path, hub: Hub
) -> None:
    hub.faults.slow = len(WEIGHTS)
    params = wanted(tmp_path, hub, wait_seconds=0)
    first = pd_model.call(params, check=False)
    assert (first["done"], first["changed"]) == (False, True)
    assert not Path(params["path"]).exists()
    limit = time.monotonic() + 20
    far = []
    while not (last := pd_model.call({**params, "wait_seconds": 1}, check=False))["done"]:
        far.append(last["progress"])
        assert time.monotonic() < limit
    assert any("MiB/s" in line for line in far), far
    assert last == {"changed": True, "done": True, "progress": "whole"}
    assert set(delivered(params)) == WANTED
    assert pd_model.call(params, check=False)["changed"] is False


def test_call_tells_how_the_background_failed_and_the_next_one_tries_again(
    tmp_path: Path, hub: Hub
) -> None:
    hub.faults.missing = {"config.json"}
    params = wanted(tmp_path, hub)
    with pytest.raises(pd_model.DeliveryError, match="HTTP 404"):
        pd_model.call(params, check=False)
    hub.faults.missing = set()
    assert pd_model.call(params, check=False)["changed"] is True


def test_damaged_model_is_mended_and_what_is_whole_in_it_is_kept(tmp_path: Path, hub: Hub) -> None:
    params = wanted(tmp_path, hub)
    pd_model.call(params, check=False)
    (Path(params["path"]) / "config.json").write_text("cut")
    hub.seen.clear()
    assert pd_model.call(params, check=False)["changed"] is True
    assert delivered(params)["config.json"] == FILES["config.json"]
    assert hub.downloads("model.safetensors") == []


def test_check_mode_says_what_would_change_and_touches_nothing(tmp_path: Path, hub: Hub) -> None:
    params = wanted(tmp_path, hub)
    assert pd_model.call(params, check=True) == {
        "changed": True,
        "done": True,
        "progress": "to be brought",
    }
    assert hub.seen == []
    assert not (tmp_path / "models").exists()


def serving(path: str, port: int = 0, idle: float = 60) -> pd_model_serve.Server:
    """Return a server of this process that hands out a model."""
    return pd_model_serve.Server("127.0.0.1", port, path, "run-token", idle)


@pytest.fixture
def origin(tmp_path: Path, hub: Hub) -> Iterator[dict[str, Any]]:
    """Parameters to copy a model from a host that has it and hands it out."""
    have = wanted(tmp_path, hub, path=str(tmp_path / "origin" / "m"))
    deliver(have)
    server = serving(have["path"])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    yield wanted(tmp_path, hub, "host", endpoint=endpoint, token="run-token")
    server.shutdown()
    thread.join()
    server.server_close()


def test_model_is_copied_from_a_host_with_nothing_from_the_hub(
    tmp_path: Path, hub: Hub, origin: dict[str, Any]
) -> None:
    hub.seen.clear()
    deliver(origin)
    assert delivered(origin) == {name: FILES[name] for name in WANTED}
    assert hub.seen == []


def test_copy_goes_on_where_it_was(origin: dict[str, Any]) -> None:
    work = Path(pd_model.work_folder(origin["path"]))
    work.mkdir(parents=True)
    # Right up to byte 1000, then the copy must begin there: other bytes fail the checksum.
    (work / "model.safetensors.partial").write_bytes(WEIGHTS[:1000])
    source = pd_model.Peer(origin)
    with source.open(source.url("model.safetensors"), 1000) as response:
        assert (response.status, response.read()) == (206, WEIGHTS[1000:])
    deliver(origin)
    assert delivered(origin)["model.safetensors"] == WEIGHTS


def test_host_gives_nothing_without_the_runs_token_and_nothing_but_the_model(
    origin: dict[str, Any],
) -> None:
    assert "HTTP 401" in refused({**origin, "token": "guess"})
    source = pd_model.Peer(origin)
    for path in ("../../etc/passwd", ".pdinfra-model.json", "none"):
        with pytest.raises(pd_model.DeliveryError, match="404"):
            source.open(source.url(path))


def test_host_that_has_another_revision_is_refused(origin: dict[str, Any]) -> None:
    assert f"it has {REPO} at" in refused({**origin, "revision": "0" * 40})


def test_directory_is_counted_once_and_then_handed_out(tmp_path: Path, hub: Hub) -> None:
    root = tmp_path / "hub" / REPO
    params = wanted(tmp_path, hub, "directory", path=str(root), repo="a:/srv", revision="")
    assert pd_model.call(params, check=False)["changed"] is True
    assert pd_model.call(params, check=False)["changed"] is False
    assert not Path(pd_model.work_folder(params["path"])).exists()
    fact = model_fact(str(root), pd_facts.model(str(root)))
    assert fact.manifest is not None
    assert (fact.manifest.repo, fact.manifest.wrong) == ("a:/srv", ())
    (root / "config.json").write_text("{}")
    assert pd_model.call(params, check=False)["changed"] is True


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Tell whether somebody answers on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ends(port: int, seconds: float = 10) -> bool:
    """Wait until nobody answers on a port any more."""
    limit = time.monotonic() + seconds
    while listens(port) and time.monotonic() < limit:
        time.sleep(0.05)
    return not listens(port)


@pytest.fixture
def share(tmp_path: Path, hub: Hub) -> dict[str, Any]:
    """Parameters to hand out a model that was delivered."""
    have = wanted(tmp_path, hub)
    deliver(have)
    where = {"address": "127.0.0.1", "port": free_port(), "idle_seconds": 60}
    return {"path": have["path"], "token": "one", **where}


def test_server_runs_by_itself_until_it_is_told_to_end(share: dict[str, Any]) -> None:
    pd_model_serve.start(share)
    assert listens(share["port"])
    assert not pd_model_serve.stop("127.0.0.1", share["port"], "guess")
    assert listens(share["port"])
    assert pd_model_serve.stop("127.0.0.1", share["port"], "one")
    assert ends(share["port"])
    assert not (Path(share["path"]) / pd_model_serve.NOTE).exists()


def test_server_that_an_interrupted_run_left_behind_makes_room(share: dict[str, Any]) -> None:
    pd_model_serve.start(share)
    pd_model_serve.start({**share, "token": "two"})
    assert not pd_model_serve.stop("127.0.0.1", share["port"], "one")
    assert pd_model_serve.stop("127.0.0.1", share["port"], "two")
    assert ends(share["port"])


def test_server_that_nobody_asks_for_anything_ends_by_itself(share: dict[str, Any]) -> None:
    pd_model_serve.start({**share, "idle_seconds": 0.2})
    assert ends(share["port"])


def test_port_of_somebody_else_is_told(share: dict[str, Any]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", share["port"]))
        other.listen()
        with pytest.raises(pd_model_serve.ServeError, match="set pd_model_port"):
            pd_model_serve.start({**share, "token": "x"})


def test_directory_without_a_manifest_is_not_handed_out(share: dict[str, Any]) -> None:
    (Path(share["path"]) / MANIFEST).unlink()
    with pytest.raises(pd_model_serve.ServeError, match="no manifest"):
        pd_model_serve.start(share)


def run_module(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Run the module as Ansible does; return its answer."""
    text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
    with pytest.raises(SystemExit):
        pd_model.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_module_never_shows_the_token(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.token = "hf_other"
    params = wanted(tmp_path, hub, token="hf_secret")
    answer = run_module(params, monkeypatch, capsys)
    assert answer["failed"] is True
    assert answer["done"] is True
    assert "HTTP 401" in answer["msg"]
    assert "hf_secret" not in json.dumps(answer)
    left = (tmp_path / "models").rglob("*")
    assert all(b"hf_secret" not in path.read_bytes() for path in left if path.is_file())


def test_modules_use_nothing_but_the_standard_library_and_ansible() -> None:
    for module in (pd_model, pd_model_serve):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        for foreign in (
            "import requests",
            "import httpx",
            "huggingface_hub import",
            "from pdinfra",
        ):
            assert foreign not in source
