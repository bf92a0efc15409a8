"""Which driver an image asks for."""

from __future__ import annotations

from pdinfra.versions.ascend_drivers import ascend_drivers, wanted_driver


def test_every_row_asks_for_something_and_has_a_source() -> None:
    for row in ascend_drivers():
        assert row.minimum or row.recommended
        assert row.source


def test_image_between_two_rows_is_like_the_older_one() -> None:
    row = wanted_driver("quay.io/ascend/vllm-ascend:v0.10.0rc1-openeuler")
    assert row is not None
    assert (row.image, row.minimum, row.recommended) == ("v0.7.3", "24.1.rc1", None)


def test_mirror_and_suffix_do_not_matter() -> None:
    row = wanted_driver("m.daocloud.io/quay.io/ascend/vllm-ascend:v0.23.0-a3-openeuler")
    assert row is not None
    assert row.recommended == "25.5"


def test_image_that_nobody_documents_asks_for_nothing() -> None:
    assert wanted_driver("quay.io/ascend/vllm-ascend:main") is None
    assert wanted_driver("registry.example/own:v0.13.0") is None
    assert wanted_driver("quay.io/ascend/vllm-ascend:v0.6.0") is None
