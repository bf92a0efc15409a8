"""The picture: well-formed SVG, bars in proportion, names of services as text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pdinfra.bench.compare import Comparison, compare
from pdinfra.bench.picture import COLOURS, legend, panel, svg
from pdinfra.bench.result import Measurement
from tests.unit.bench.rows import measurement, row

NAMESPACE = "{http://www.w3.org/2000/svg}"


def drawn(found: Measurement | Comparison) -> ElementTree.Element:
    return ElementTree.fromstring(svg([panel(found)], legend(found)))


def texts(picture: ElementTree.Element) -> list[str]:
    return [str(each.text) for each in picture.iter(f"{NAMESPACE}text")]


def widths(picture: ElementTree.Element, colour: str) -> list[float]:
    """Return the widths of bars, without the colour's square in the legend."""
    rects = picture.iter(f"{NAMESPACE}rect")
    return [float(r.attrib["width"]) for r in rects if r.attrib["fill"] == colour][1:]


def test_one_service_has_a_bar_for_each_length() -> None:
    found = measurement(row(), row(length=1000, ttft_mean_ms=400.0))
    first, second = widths(drawn(found), COLOURS[0])
    assert second == pytest.approx(2 * first, abs=0.2)
    assert "200 ms, hits 33 %" in texts(drawn(found))


def test_two_services_have_a_bar_each_in_a_colour_of_their_own() -> None:
    found = compare(measurement(), measurement(row(ttft_mean_ms=400.0, prefill_tokens=None)))
    picture = drawn(found)
    (mine,), (other,) = (widths(picture, colour) for colour in COLOURS)
    assert other == pytest.approx(2 * mine, abs=0.2)
    assert "400 ms, hits –" in texts(picture)
    assert "with: inventories/a (yuanrong, C)" in texts(picture)


def test_a_name_with_markup_stays_text() -> None:
    picture = drawn(measurement(inventory='<a & "b">'))
    assert '<a & "b"> (yuanrong, C)' in texts(picture)


def test_everything_is_inside_the_picture() -> None:
    picture = drawn(measurement(row(), row(length=1000, ttft_mean_ms=90000.0)))
    width, height = (float(picture.attrib[name]) for name in ("width", "height"))
    for rect in picture.iter(f"{NAMESPACE}rect"):
        x, y, w, h = (float(rect.attrib.get(name, 0)) for name in ("x", "y", "width", "height"))
        assert x + w <= width
        assert y + h <= height
