from __future__ import annotations

import numpy as np
import pytest

from lattice.analysis.labels import dynamic_measures, see_labels, wall_thickness
from lattice.analysis.morphometry import Measure

VOXEL, RATE, WINDOW = 10.0, 1.5, 1.0  # um, um/day, days
TIMES = (3.0, 4.0, 10.0, 11.0, 14.0)  # both labels' begins and ends, and the end, in days


def seen(shape_at):
    """The labels of a shape whose surface has advanced by `shape_at`'s argument (voxels)."""
    *labels, last = (shape_at(RATE * t / VOXEL).astype(np.float32) for t in TIMES)
    return see_labels(labels, [last], last, VOXEL, WINDOW)


def apposition(labels):
    return labels.apart_um / (TIMES[2] - TIMES[0])


def plate(front, axis=0, across=16, below=0.0):
    """Fractions of a plate normal to an axis, from `below` to `front`."""
    z = np.arange(30)
    column = np.clip(np.minimum(front - z, z + 1 - below), 0, 1)
    return np.moveaxis(np.tile(column[:, None, None], (1, across, across)), 0, axis)


def halfspace(front, normal=(0.0, 0.0, 1.0), n=40, fine=4):
    """Fractions of the space below an oblique plane."""
    normal = np.array(normal) / np.linalg.norm(normal)
    at = (np.arange(n * fine) + 0.5) / fine - n / 2
    z, y, x = np.meshgrid(at, at, at, indexing="ij", sparse=True)
    inside = z * normal[0] + y * normal[1] + x * normal[2] <= front
    return inside.reshape(n, fine, n, fine, n, fine).mean((1, 3, 5), dtype=np.float32)


def ball(radius, n=56, fine=4):
    at = ((np.arange(n * fine) + 0.5) / fine - n / 2) ** 2
    inside = at[:, None, None] + at[:, None] + at <= radius**2
    return inside.reshape(n, fine, n, fine, n, fine).mean((1, 3, 5), dtype=np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flat_front_has_its_own_rate_finer_than_a_voxel(axis):
    labels = seen(lambda grown: plate(12.3 + grown, axis))
    assert (labels.single, labels.double) == (0, 1)
    assert apposition(labels) == pytest.approx(RATE, rel=1e-5)


def test_a_front_that_starts_anywhere_in_a_voxel():
    for start in (9.0, 9.37, 9.81):
        labels = seen(lambda grown, start=start: plate(start + grown))
        assert apposition(labels) == pytest.approx(RATE, rel=1e-5)


def test_an_oblique_front_has_the_same_rate():
    labels = seen(lambda grown: halfspace(grown, (1, 0.6, 0.3)))
    assert labels.double == pytest.approx(1, abs=0.01)
    assert apposition(labels) == pytest.approx(RATE, rel=0.02)


@pytest.mark.parametrize("shape", [lambda g: ball(15 + g), lambda g: 1 - ball(20 - g)])
def test_a_growing_sphere_and_a_closing_hole(shape):
    labels = seen(shape)
    assert labels.double == pytest.approx(1, abs=0.01)
    assert apposition(labels) == pytest.approx(RATE, rel=0.03)


def test_half_of_a_surface_forms():
    def half(grown):
        bone = plate(12.0, across=40)
        bone[:, :20] = plate(12.0 + grown, across=40)[:, :20]
        return bone

    labels = seen(half)
    assert labels.double + labels.single / 2 == pytest.approx(0.5, abs=0.04)
    assert apposition(labels) == pytest.approx(RATE, rel=0.04)


def test_one_side_of_a_thin_plate_does_not_show_on_the_other():
    labels = seen(lambda grown: plate(15 + grown, below=12))
    assert (labels.single, labels.double) == (0, pytest.approx(0.5, abs=1e-6))
    assert apposition(labels) == pytest.approx(RATE, rel=1e-5)


def test_formation_that_stops_between_the_labels_leaves_a_single_label():
    labels = seen(lambda grown: plate(12 + min(grown, RATE * 6 / VOXEL)))
    assert (labels.single, labels.double) == (1, 0)
    assert np.isnan(labels.apart_um)


def test_a_label_that_was_resorbed_is_gone():
    fronts = [12 + RATE * t / VOXEL for t in TIMES]
    *labels, _ = (plate(front) for front in fronts)
    eroded = plate(fronts[2])  # down to the begin of the second label
    found = see_labels(labels, [eroded], eroded, VOXEL, WINDOW)
    assert (found.single, found.double) == (1, 0)
    rebuilt = see_labels(labels, [eroded, plate(fronts[4])], plate(fronts[4]), VOXEL, WINDOW)
    assert (rebuilt.single, rebuilt.double) == (1, 0)


def test_apposition_too_slow_to_be_seen_is_no_label():
    slow = [plate(12 + 0.05 * t / VOXEL) for t in TIMES]
    labels = see_labels(slow[:4], slow[4:], slow[4], VOXEL, WINDOW)
    assert (labels.single, labels.double) == (0, 0)


def test_rates_follow_from_the_labels():
    static = {
        "BS/BV": Measure(40.0, "1/mm"),
        "BS/TV": Measure(8.0, "1/mm"),
        "OS/BS": Measure(25.0, "%"),
        "O.Th": Measure(3.0, "um"),
    }
    labels = seen(lambda grown: plate(15 + grown, below=12))
    found = dynamic_measures(labels, TIMES[2] - TIMES[0], static)
    assert found["MS/BS"].value == pytest.approx(50)
    assert found["MAR"].value == pytest.approx(1.5, rel=1e-5)
    assert found["BFR/BS"].value == pytest.approx(0.75, rel=1e-5)
    assert found["BFR/BV"].value == pytest.approx(0.75e-3 * 40 * 365.25 * 100, rel=1e-5)
    assert found["BFR/TV"].value == pytest.approx(0.75e-3 * 8 * 365.25 * 100, rel=1e-5)
    assert found["Aj.AR"].value == pytest.approx(3.0, rel=1e-5)  # 0.75 / 25 %
    assert found["Mlt"].value == pytest.approx(1.0, rel=1e-5)  # 3 um / 3 um/d
    assert found["Omt"].value == pytest.approx(2.0, rel=1e-5)


def test_a_wall_is_what_was_laid_down_and_is_finished():
    matrix = plate(16.4)
    osteoid = np.zeros_like(matrix)
    assert wall_thickness(plate(12.0), matrix, osteoid, VOXEL) == pytest.approx(44, rel=1e-5)
    osteoid[16] = 0.3
    assert np.isnan(wall_thickness(plate(12.0), matrix, osteoid, VOXEL))
