from __future__ import annotations

import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_rgb

from lattice.analysis import slices, timecourses
from lattice.analysis.bone_view import figure_bone_view
from lattice.analysis.page import number
from lattice.analysis.render import Canvas
from lattice.analysis.report import write_report
from lattice.analysis.series import Series, series_of
from lattice.analysis.style import PALETTE, TimeScale, round_length, state_colours
from lattice.io.runfile import RunFile, RunWriter
from lattice.model import loads
from tests.analysis.invented import STATES, model_text


class Reader(HTMLParser):
    """Collects texts, and checks that tags are balanced."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def report(invented_run):
    path = write_report(invented_run)
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return path, reader


def test_the_page_stands_alone(report):
    path, reader = report
    assert reader.open == []
    assert len(reader.sources) >= 8
    assert all(s.startswith("data:image/png;base64,") for s in reader.sources)
    assert "<script" not in path.read_text(encoding="utf-8")


def test_the_page_says_what_was_simulated(report):
    text = " ".join(report[1].texts)
    assert "240 × 220 × 200 µm" in text
    assert "10 days" in text
    assert re.search(r"Bone volume / tissue volume went from [\d.]+ % to [\d.]+ %", text)
    for word in ("cytokine.TNF.decay", "invented for a test", "assumed", "Tb.Th", "BFR/BS (exact)"):
        assert word in text
    assert "abc" in text  # the commit, from the provenance


def test_pictures_are_there_and_not_blank(report):
    path, reader = report
    names = {p.stem for p in path.parent.glob("*.png")}
    expected = {"bone", "bone_end", "bone_start", "counts", "cytokine_maps", "cytokines", "events"}
    assert names == expected | {"slices_end", "slices_start"}
    assert len(reader.sources) == len(names)
    for name in names:
        image = matplotlib.image.imread(path.parent / f"{name}.png")
        assert image[..., :3].std() > 0.02, name


def test_a_run_that_has_just_begun_is_reported(tmp_path):
    model = loads(model_text((6, 6, 6)))
    with RunWriter.create(tmp_path / "new", model, seed=0, provenance={}) as run:
        run.flush()
    page = write_report(tmp_path / "new").read_text(encoding="utf-8")
    assert "Parameters" in page
    assert "<img" not in page


def test_interventions_are_marked():
    model = loads(model_text((4, 4, 4)))
    marks = {m.name: m for m in timecourses.intervention_marks(model, 240.0)}
    assert marks["AP20187"].moments == (24.0, 108.0, 192.0)
    assert marks["anti-TNF"].window == (96.0, 168.0)
    assert [m.name for m in timecourses.intervention_marks(model, 30.0)] == ["AP20187"]
    assert timecourses.marks_text(list(marks.values())) == (
        "Dashed lines: AP20187 acts. Shaded band: anti-TNF is on."
    )


def test_interventions_that_do_nothing_are_not_marked():
    model = loads(model_text((4, 4, 4)))
    (factor,) = [f for i in model.interventions for _, f in i.scales]
    (fraction,) = [i.fraction for i in model.interventions if i.fraction]
    waiting = model.with_values(**{factor: 1.0, fraction: 0.0})
    assert timecourses.intervention_marks(waiting, 240.0) == []


def test_states_that_turn_into_one_another_stand_side_by_side():
    model = loads(model_text((4, 4, 4)))
    order = timecourses.by_lineage(model)
    assert sorted(order) == sorted(STATES)
    assert order.index("M1") == order.index("M0") + 1


def test_slices_show_the_colour_of_each_state(invented_run):
    run = RunFile.open(invented_run)
    snapshot, colours = run.snapshot(0), state_colours(run.states)
    for plane in slices.PLANES:
        image = slices.composite(snapshot, plane, run.states, colours)
        cells = slices.cut(snapshot["cells"], plane)
        for code in np.unique(cells[cells > 0]):
            expected = to_rgb(colours[run.states[code]])
            np.testing.assert_allclose(
                image[cells == code], np.tile(expected, ((cells == code).sum(), 1))
            )
        bare = (cells == 0) & (slices.cut(snapshot["bone"], plane) == 0)
        assert (image[bare] > 0.9).all()


def test_the_view_counts_the_cells_that_touch_bone():
    bone = np.zeros((8, 8, 8), np.uint8)
    bone[:3] = 1
    cells = np.zeros_like(bone)
    cells[3, 2, 2:5], cells[6, 2, 2:5] = 1, 1
    figure = figure_bone_view(
        {"bone": bone, "cells": cells}, ("empty", "a"), {"a": "#ff0000"}, 10.0, "now"
    )
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["a (3)"]


def test_nearer_things_hide_farther_ones():
    canvas = Canvas(np.eye(3), 10.0, (40, 40), np.zeros(3))
    red, blue = np.array([[1.0, 0, 0]]), np.array([[0, 0, 1.0]])
    canvas.spheres(np.array([[0.0, 0, 1]]), 1.0, red)
    canvas.spheres(np.array([[0.0, 0, -1]]), 1.5, blue)
    image = canvas.image(haze=0.0)
    assert image[20, 20, 0] > image[20, 20, 2]  # the near sphere in the middle
    assert image[20, 33, 2] > image[20, 33, 0]  # the rim of the far one around it
    assert image[0, 0, 3] == 0


def test_a_triangle_covers_its_pixels():
    canvas = Canvas(np.eye(3), 1.0, (20, 20), np.zeros(3))
    corners = np.array([[-6.0, -6, 0], [6, -6, 0], [-6, 6, 0]])
    canvas.triangles(corners, np.array([[0, 1, 2]]), np.tile([0.0, 0, 1], (3, 1)), np.ones((3, 3)))
    covered = canvas.image()[..., 3]
    x, y = np.arange(20) - 10, 10 - np.arange(20)
    inside = (x[None] >= -6) & (y[:, None] >= -6) & (x[None] + y[:, None] <= 0)
    np.testing.assert_array_equal(covered > 0, inside)


def test_a_series_plots_itself(invented_run):
    one = series_of(RunFile.open(invented_run))["BV/TV"]
    figure = one.plot()
    (ax,) = figure.axes
    assert ax.get_ylabel() == "BV/TV (%)"
    assert ax.get_xlabel() == "time (days)"
    np.testing.assert_allclose(ax.lines[0].get_xdata(), one.time / 24)
    assert one.plot(ax) is figure


@pytest.mark.parametrize(
    ("hours", "label"),
    [(0.5, "minutes"), (30.0, "hours"), (240.0, "days"), (3000.0, "weeks")],
)
def test_time_is_shown_in_fitting_units(hours, label):
    assert TimeScale.of([0.0, hours]).label == f"time ({label})"


def test_a_wide_field_gets_a_logarithmic_scale():
    wide, narrow = np.geomspace(1e-4, 1, 200), np.linspace(1, 2, 200)
    assert isinstance(slices.shared_norm([wide]), LogNorm)
    assert not isinstance(slices.shared_norm([narrow]), LogNorm)
    assert slices.shared_norm([np.zeros(3)]).vmax > 0


def test_colours_of_the_model_win_and_are_not_given_twice():
    colours = state_colours(["empty", "a", "b"], {"a": PALETTE[0].lower(), "b": None})
    assert colours["a"] == PALETTE[0].lower()
    assert colours["b"] != PALETTE[0]
    assert len({*PALETTE}) == len(PALETTE) >= 15


def test_numbers_are_readable():
    assert [number(v) for v in (12345.0, 0.25, 1.5e-7, float("nan"), None)] == [
        "12,345",
        "0.25",
        "1.5×10^-7",
        "–",
        "–",
    ]
    assert [round_length(v) for v in (9.9, 10.0, 240.0, 5100.0)] == [5, 10, 200, 5000]


def test_series_of_a_run_without_rows_are_empty():
    one = Series("x", np.empty(0), np.empty(0), "1")
    assert len(one) == 0
    assert one.plot().axes[0].get_xlabel() == "time (minutes)"
