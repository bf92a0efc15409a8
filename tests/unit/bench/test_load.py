"""`bench load` against a host that answers as Docker and an engine's log do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from pdinfra.bench.load import Bench, Loaded, LoadResult, loaded, published
from pdinfra.driver.look import DriverError
from pdinfra.model.plan import Container, ContainerSpec, Healthcheck

NAME = "pdinfra-weights-0123abcd"
PREFIX = "(Worker pid=71) INFO 11-21 20:00:00 [x.py:1] "
DISK = (
    f"{PREFIX}pdinfra: weights loaded from disk: 1.20 GB in 6.00 s (200 MB/s) "
    "because nothing is published (known after 12 ms)\n"
)
PUBLISHED = (
    f"{PREFIX}pdinfra: weights published: 1.20 GB, which held the engine up for 0.60 s, "
    f"at 10.0.0.2:31501 as {NAME}\n"
)
FETCHED = (
    f"{PREFIX}pdinfra: weights loaded from the data system: 1.20 GB in 0.50 s (2400 MB/s), "
    f"at 10.0.0.2:31501 as {NAME}\n"
)


@dataclass
class FakeHost:
    """A container whose log is another one after each restart."""

    logs: list[str]
    may_drop: bool = True
    ran: list[str] = field(default_factory=list)
    unready: int = 2
    """So often it is asked before it is healthy."""

    def run(self, *words: str) -> tuple[int, str]:
        self.ran.append(" ".join(words))
        match words:
            case ["docker", "inspect", "--format", "{{.State.StartedAt}}", "pd-x"]:
                return 0, "2026-11-21T20:00:00Z\n"
            case ["docker", "inspect", "--format", "{{.State.Health.Status}}", "pd-x"]:
                self.unready -= 1
                return 0, "starting\n" if self.unready >= 0 else "healthy\n"
            case ["docker", "logs", "--since", "2026-11-21T20:00:00Z", "pd-x"]:
                return 0, self.logs[0]
            case ["docker", "restart", "pd-x"]:
                del self.logs[0]
                return 0, "pd-x\n"
            case ["docker", "exec", "pd-x", *_]:
                return 0, "deleted: 3 keys\n"
            case ["sh", "-c", _]:
                return (0, "") if self.may_drop else (2, "sh: 1: cannot create: Read-only\n")
        raise AssertionError(words)


def _bench(host: FakeHost, said: list[str] | None = None) -> Bench:
    check = Healthcheck(test=("CMD", "true"), interval=1, timeout=1, retries=1, start_period=1)
    spec = ContainerSpec(image="i", command=(), env={}, shm_size=1, healthcheck=check)
    container = Container(
        id="decode-0", name="pd-x", kind="instance", role="decode", host="h1", spec=spec, labels={}
    )
    say = ([] if said is None else said).append
    return Bench(container, host, 5, say, lambda _: None, itertools.count().__next__)


def test_both_loads_and_their_ratio() -> None:
    host = FakeHost([DISK + PUBLISHED, DISK + PUBLISHED, FETCHED])
    found = _bench(host).measure()
    assert found == LoadResult(
        "decode-0",
        "h1",
        Loaded("disk", 1.2, 6.0, "nothing is published"),
        Loaded("the data system", 1.2, 0.5),
        page_cache_dropped=True,
    )
    document = found.document()
    assert document["ratio"] == 12
    assert document["fetched"]["mb_per_second"] == 2400


def test_published_weights_are_deleted_before_the_first_restart() -> None:
    host = FakeHost([FETCHED, DISK + PUBLISHED, FETCHED])
    _bench(host).measure()
    forget = f"docker exec pd-x python -m pdinfra_vllm.yuanrong_load forget 10.0.0.2:31501 {NAME}"
    assert host.ran.index(forget) < host.ran.index("docker restart pd-x")


def test_a_page_cache_that_stays_is_told() -> None:
    said: list[str] = []
    host = FakeHost([FETCHED, DISK + PUBLISHED, FETCHED], may_drop=False)
    assert not _bench(host, said).measure().page_cache_dropped
    assert any("page cache not dropped: sh: 1: cannot create" in line for line in said)


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        (["no word\n"], "--load-format yuanrong"),
        (
            ["pdinfra: weights loaded from disk in 1.00 s because x is y\n"],
            "cannot be fetched: x is",
        ),
        ([DISK, DISK], "not published after 5 s"),
        (
            [DISK, DISK + "pdinfra: weights not published because data system: Out of memory\n"],
            "not published: data system: Out of memory",
        ),
        ([DISK, DISK + PUBLISHED, DISK], "from disk, too: nothing is published"),
        ([DISK, "no word\n"], "no word of weights"),
    ],
)
def test_what_cannot_be_measured_is_said(logs: list[str], message: str) -> None:
    with pytest.raises(DriverError) as raised:
        _bench(FakeHost(logs)).measure()
    assert message in raised.value.lines[0]
    assert "Fix:" in raised.value.lines[0]


def test_an_engine_that_does_not_get_ready() -> None:
    with pytest.raises(DriverError, match="it is not ready after 5 s"):
        _bench(FakeHost([DISK, DISK], unready=99)).measure()


def test_ranks_load_at_the_same_time() -> None:
    other = FETCHED.replace("0.50 s", "0.70 s").replace(NAME, NAME + "ef")
    assert loaded(FETCHED + other) == Loaded("the data system", 2.4, 0.7)
    assert len(published(FETCHED + other)) == 2


def test_one_rank_from_disk_is_a_load_from_disk() -> None:
    assert loaded(FETCHED + DISK) == Loaded("disk", 2.4, 6.0, "nothing is published")
