"""Which model each host needs, how it gets there, and what an inventory must not ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.model.facts import HostFacts, ManifestFact
from pdinfra.model.plan import HostPlan, Model
from pdinfra.planning.changes import host_changes
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import Finished
from tests.unit.builders import (
    TWO_HOSTS,
    converged,
    facts,
    good_model,
    lines,
    only,
    plan,
    problems,
    specs,
)

COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"
HUGGINGFACE: dict[str, Any] = {
    "pd_model_source": "huggingface",
    "pd_model_repo": "Qwen/Qwen2.5-7B-Instruct",
    "pd_model_revision": COMMIT,
}
MODELSCOPE: dict[str, Any] = {
    "pd_model_source": "modelscope",
    "pd_model_repo": "Qwen/Qwen2.5-7B-Instruct",
    "pd_model_revision": "v1.0.0",
}
FROM_A: dict[str, Any] = {**HUGGINGFACE, "pd_model_from": "a"}
SHARED: dict[str, Any] = {"pd_model_path": "/srv/m", "pd_model_from": "a"}
HOME = "/var/lib/pdinfra/models"


def with_manifest(of: HostPlan, **more: Any) -> HostFacts:
    """Return a converged host whose model was delivered as planned, or nearly."""
    model = of.models[0]
    manifest = {"repo": model.repo, "revision": model.revision, "digest": "0" * 16, **more}
    fact = good_model(model.path, manifest=ManifestFact.model_validate(manifest))
    return converged(of, models=(fact,))


def model_changes(of: HostPlan, seen: HostFacts) -> list[tuple[str, str]]:
    """Return action and reason of the model's changes."""
    return [(c.action, c.reason) for c in host_changes(of, seen) if c.kind == "model"]


def test_each_revision_from_a_hub_has_a_directory_of_its_own() -> None:
    made = plan(every=HUGGINGFACE)
    model = made.host("a").models[0]
    assert model.path == f"{HOME}/Qwen/Qwen2.5-7B-Instruct/{COMMIT[:12]}"
    assert (model.source, model.revision) == ("huggingface", COMMIT)
    assert model.endpoint == "https://huggingface.co"
    assert made.model_name == "Qwen2.5-7B-Instruct"
    assert specs(made)["decode-a-0"].mounts[0].source == model.path
    own = plan(every={**HUGGINGFACE, "pd_model_path": "/srv/qwen/"})
    assert own.host("a").models[0].path == f"/srv/qwen/{COMMIT[:12]}"
    assert own.model_name == "qwen"


def test_another_revision_replaces_the_engines_and_says_why() -> None:
    of = plan(every={**HUGGINGFACE, "pd_model_revision": "b" * 40}).host("a")
    found = host_changes(of, converged(plan(every=HUGGINGFACE).host("a")))
    actions = {change.id: change.action for change in found}
    assert actions["prefill-a-0"] == actions["decode-a-0"] == "replace"
    assert actions["router"] == "keep"
    assert any(COMMIT[:12] in change.reason for change in found)


def test_modelscope_takes_a_tag_and_a_mirror_is_an_endpoint() -> None:
    model = plan(every=MODELSCOPE).host("a").models[0]
    assert (model.endpoint, model.revision) == ("https://www.modelscope.cn", "v1.0.0")
    mirror = {**HUGGINGFACE, "pd_model_endpoint": "https://hf-mirror.example.com/"}
    assert plan(every=mirror).host("a").models[0].endpoint == "https://hf-mirror.example.com"


def test_host_without_the_model_downloads_it_and_says_what_from_where() -> None:
    of = plan(every=HUGGINGFACE).host("a")
    reason = (
        "not on the host: download Qwen/Qwen2.5-7B-Instruct at a09a35458c70 "
        "from https://huggingface.co"
    )
    seen = facts(of, models=(good_model(of.models[0].path, error="No such file or directory"),))
    assert model_changes(of, seen) == [("create", reason)]


def test_delivered_model_is_no_change() -> None:
    of = plan(every=HUGGINGFACE).host("a")
    assert model_changes(of, with_manifest(of)) == []


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"revision": "b" * 40}, "another model is there (Qwen/Qwen2.5-7B-Instruct at bbbbbbb"),
        ({"repo": "Org/Other"}, "another model is there (Org/Other at a09a35458c70)"),
        ({"wrong": ("config.json missing",)}, "damaged (config.json missing)"),
    ],
)
def test_model_that_is_not_the_planned_one_or_damaged_is_brought_again(
    manifest: dict[str, Any], reason: str
) -> None:
    of = plan(every=HUGGINGFACE).host("a")
    ((action, said),) = model_changes(of, with_manifest(of, **manifest))
    assert action == "create"
    assert said.startswith(reason)


def test_files_without_a_manifest_do_not_count_as_delivered() -> None:
    of = plan(every=HUGGINGFACE).host("a")
    ((_, said),) = model_changes(of, facts(of))
    assert said.startswith("not known to be whole")


def test_directory_that_nobody_copies_needs_no_manifest() -> None:
    of = plan(every={"pd_model_path": "/srv/m"}).host("a")
    assert model_changes(of, converged(of)) == []
    assert of.share is None


def test_one_host_downloads_and_the_others_copy_from_it() -> None:
    made = plan(TWO_HOSTS, FROM_A, a={"ansible_host": "10.0.0.1"}, b={"ansible_host": "10.0.0.2"})
    first, second = made.host("a").models[0], made.host("b").models[0]
    assert (first.source, first.origin) == ("huggingface", "")
    assert (second.source, second.origin) == ("host", "a")
    assert second.endpoint == "http://10.0.0.1:8990"
    assert (second.repo, second.revision) == (first.repo, first.revision)
    share = made.host("a").share
    assert share is not None
    assert (share.address, share.port, share.path) == ("10.0.0.1", 8990, first.path)
    assert [p.purpose for p in made.host("a").ports if p.port == 8990] == ["model copies"]
    assert made.host("b").share is None


def test_directory_of_one_host_is_copied_to_the_others_paths() -> None:
    made = plan(TWO_HOSTS, SHARED, b={"pd_model_path": "/data/m"})
    first, second = made.host("a").models[0], made.host("b").models[0]
    assert (first.source, second.source) == ("directory", "host")
    assert (first.repo, second.repo) == ("a:/srv/m", "a:/srv/m")
    assert second.path == "/data/m"


def test_host_without_engines_that_others_copy_from_needs_the_model() -> None:
    groups = {"prefill": ["b"], "decode": ["b"], "router": ["a"]}
    made = plan(groups, FROM_A, a={"ansible_host": "10.0.0.1"}, b={"ansible_host": "10.0.0.2"})
    assert [model.source for model in made.host("a").models] == ["huggingface"]
    alone = plan(groups, HUGGINGFACE)
    assert alone.host("a").models == ()


def test_origin_has_work_only_while_somebody_copies() -> None:
    made = plan(TWO_HOSTS, FROM_A)
    a, b = made.host("a"), made.host("b")
    seen = {"a": with_manifest(a), "b": converged(b, models=())}
    work = compare(Finished(made), seen, "converge", check=False).work
    assert "model" in work["a"].stages
    assert work["a"].shares == (a.share,)
    assert work["a"].models == ()
    assert [model.source for model in work["b"].models] == ["host"]
    work = compare(Finished(made), seen | {"b": with_manifest(b)}, "converge", check=False).work
    assert "model" not in work["a"].stages
    assert work["a"].shares == ()


def test_origin_that_was_not_looked_at_has_no_work() -> None:
    made = plan(TWO_HOSTS, FROM_A)
    seen = {"b": converged(made.host("b"), models=())}
    assert compare(Finished(made), seen, "converge", check=False).work.keys() == {"b"}


@pytest.mark.parametrize("revision", ["main", "master", "HEAD", "v1.0", COMMIT[:12]])
def test_revision_that_can_move_is_refused_with_the_command_that_pins_it(revision: str) -> None:
    found = problems(every={**HUGGINGFACE, "pd_model_revision": revision})
    assert only(found).thing == "pd_model_revision"
    command = f"git ls-remote https://huggingface.co/Qwen/Qwen2.5-7B-Instruct {revision}"
    assert command in only(found).fix


@pytest.mark.parametrize("revision", ["main", "master"])
def test_branch_of_modelscope_is_refused(revision: str) -> None:
    found = problems(every={**MODELSCOPE, "pd_model_revision": revision})
    assert "is a branch" in only(found).cause


@pytest.mark.parametrize(
    ("variables", "thing"),
    [
        ({"pd_model_source": "huggingface", "pd_model_revision": COMMIT}, "pd_model_repo"),
        ({"pd_model_source": "modelscope", "pd_model_repo": "a/b"}, "pd_model_revision"),
        ({"pd_model_source": "directory"}, "pd_model_path"),
        ({"pd_model_repo": "a/b"}, "pd_model_repo"),
        ({"pd_model_path": "/m", "pd_model_sha256": {"a": "0" * 64}}, "pd_model_sha256"),
        ({"pd_model_path": "/m", "pd_model_from": "npu-7"}, "pd_model_from"),
        ({"pd_model_from": "a"}, "pd_model_from"),
        ({**HUGGINGFACE, "pd_model_repo": "no-organisation"}, "pd_model_repo"),
        ({**HUGGINGFACE, "pd_model_revision": "../.."}, "pd_model_revision"),
        ({**HUGGINGFACE, "pd_model_endpoint": "https://me:pw@hub"}, "pd_model_endpoint"),
        ({**HUGGINGFACE, "pd_model_sha256": {"a": "short"}}, "pd_model_sha256.a"),
    ],
)
def test_what_cannot_be_got_is_refused(variables: dict[str, Any], thing: str) -> None:
    assert only(problems(every=variables)).thing == thing


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = problems(every={"pd_model_source": "huggingface", "pd_model_from": "z"})
    assert {problem.thing for problem in found} == {
        "pd_model_repo",
        "pd_model_revision",
        "pd_model_from",
    }, lines(found)


def test_copies_of_copies_and_copies_of_another_model_are_refused() -> None:
    chain = problems(TWO_HOSTS, HUGGINGFACE, a={"pd_model_from": "b"}, b={"pd_model_from": "a"})
    assert "itself copies from" in lines(chain)
    other = {**FROM_A, "pd_model_revision": "b" * 40}
    found = only(problems(TWO_HOSTS, HUGGINGFACE, b=other))
    assert found.cause == "pd_model_revision differ from a's"


def test_port_of_the_copies_clashes_like_any_other_and_names_its_variable() -> None:
    found = only(problems(TWO_HOSTS, {**FROM_A, "pd_model_port": 8000}))
    assert found.thing == "port 8000"
    assert "pd_model_port" in found.fix


def test_token_is_never_in_the_plan_nor_in_an_error() -> None:
    made = plan(every={**HUGGINGFACE, "pd_hub_token": "hf_secret"})
    assert "hf_secret" not in json.dumps(made.dump())
    found = problems(every={**HUGGINGFACE, "pd_hub_token": ["hf_secret"]})
    assert only(found).thing == "pd_hub_token"
    assert "hf_secret" not in lines(found)


def test_delivery_is_told_as_a_command() -> None:
    assert Model(path="/m", source="tiny").delivery == "copy the tiny model"
    assert Model(path="/m", source="host", origin="a").delivery == "copy it from a"
