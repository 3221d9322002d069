"""What is done from outside: when, to which cells, and how much."""

from __future__ import annotations

import numpy as np
import pytest

from lattice.engine.interventions import due_steps, pulse_steps
from lattice.engine.simulation import Simulation
from tests.conftest import slab_of_bone, small_model
from tests.engine.placing import every, within

TIMES = """
[[state]]
name = "a"
[[state]]
name = "b"
[[rule]]
name = "turn"
from = "a"
to = "b"
rate = "0.1 /h"
[[cytokine]]
name = "drug"
systemic = true
decay = "0 /h"
"""

KILL = '[[intervention]]\nname = "i"\nkill = { states = ["a"], fraction = 0.5 }\n'
WINDOW = '[[intervention]]\nname = "i"\nfactor = { turn = 2.0 }\n'
SOURCE = '[[intervention]]\nname = "i"\nsource = { cytokine = "drug", rate = "1 ng/mL/h" }\n'

# (intervention, its times, the steps of half an hour in which it acts, out of the first 24)
SCHEDULES = [
    (KILL, 'from = "2 h"', [4]),
    (KILL, "", [0]),
    (KILL, 'every = "3 h"\nfrom = "1 h"\nuntil = "10 h"', [2, 8, 14]),
    (KILL, 'every = "3 h"\nuntil = "9 h"', [0, 6, 12]),
    (KILL, 'every = "45 min"\nuntil = "3 h"', [0, 1, 3, 4]),
    (KILL, 'every = "10 min"\nfrom = "1 h"\nuntil = "2 h"', [2, 3]),
    (KILL, 'every = "5 h"', [0, 10, 20]),
    (KILL, 'at = ["1 h", "7 h", "1.2 h", "100 h"]', [2, 14]),
    (WINDOW, 'from = "1 h"\nuntil = "2.5 h"', [2, 3, 4]),
    (WINDOW, 'from = "11 h"', [22, 23]),
    (SOURCE, 'until = "1 h"', [0, 1]),
    (SOURCE, 'from = "3 h"\nuntil = "3 h"', []),
]


@pytest.mark.parametrize(("table", "times", "expected"), SCHEDULES)
def test_steps_in_which_an_intervention_acts(table, times, expected):
    model = small_model(TIMES + table + times)
    due = due_steps(model, 0, 24)
    assert due.shape == (24, 1)
    assert np.flatnonzero(due[:, 0]).tolist() == expected
    # However a run is cut into chunks, the same steps are due.
    parts = [due_steps(model, first, 5) for first in range(0, 20, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), due[:20])


def test_pulses_of_a_long_schedule_are_not_lost_to_rounding():
    model = small_model(TIMES + KILL + 'every = "0.1 h"', step="6 min")
    intervention = model.interventions[0]
    assert pulse_steps(model, intervention, 2000) == list(range(2000))


ACTS = """
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[[cytokine]]
name = "TNF"
diffusion = "30 um^2/s"
in_bone = 1.0
decay = "0 /h"
[[cytokine]]
name = "drug"
systemic = true
decay = "0 /h"
[[state]]
name = "single"
seeding = { where = "marrow", fraction = 0.5 }
[[state]]
name = "clustered"
seeding = { where = "marrow", fraction = 0.3 }
[[state]]
name = "early"
seeding = { where = "marrow", fraction = 0.05 }
[[state]]
name = "late"
[[state]]
name = "killed"
[[rule]]
name = "at_once"
from = "early"
to = "late"
rate = "1e4 /h"
[[rule]]
name = "slow"
from = "killed"
to = "late"
rate = "0 /h"
[[rule]]
name = "fade"
from = "single"
to = "late"
rate = "0.2 /h"
[[intervention]]
name = "singles"
kill = { states = ["single"], fraction = 0.3, into = "killed" }
from = "1 h"
[[intervention]]
name = "blocks"
kill = { states = ["clustered"], fraction = 0.4, into = "killed", cluster = "40 um" }
from = "1 h"
[[intervention]]
name = "first"
kill = { states = ["early"], fraction = 1.0, into = "killed" }
[[intervention]]
name = "pause"
factor = { fade = 0.0 }
until = "1.5 h"
[[intervention]]
name = "brake"
factor = { "rule.fade.rate" = 0.5 }
until = "2 h"
[[intervention]]
name = "infusion"
source = { cytokine = "TNF", rate = "0.8 ng/mL/h", where = "bone" }
from = "30 min"
until = "1.5 h"
[[intervention]]
name = "drip"
source = { cytokine = "drug", rate = "0.6 ng/mL/h" }
from = "1 h"
until = "3 h"
"""
SHAPE = (32, 32, 22)  # x, y, z


@pytest.fixture(scope="module")
def frames():
    """(cells by name, row) after 0..6 steps of half an hour."""
    model = small_model(ACTS, shape=SHAPE)
    simulation = Simulation(model, 3, slab_of_bone(model, 2))
    names = np.array([s.name for s in model.states])
    rows = []
    for step in range(7):
        rows.append((names[simulation.host_state()["cells"]], simulation.row()))
        if step < 6:
            simulation.advance(1)
    return rows


def count(frame, name) -> int:
    return int(np.sum(frame[0] == name))


def test_a_pulse_comes_before_everything_else_of_its_step(frames):
    assert count(frames[0], "early") > 700
    assert count(frames[1], "early") == 0
    assert count(frames[1], "late") == 0
    assert count(frames[1], "killed") == count(frames[0], "early")


def test_a_pulse_kills_its_fraction_cell_by_cell(frames):
    before, after = frames[2][0] == "single", frames[3][0] == "killed"
    assert within((before & after).sum(), before.sum(), 0.3)
    # Neighbouring cells draw on their own: a share of pairs 0.3 squared die together.
    pairs = before[:, :, :-1] & before[:, :, 1:]
    both = pairs & after[:, :, :-1] & after[:, :, 1:]
    assert within(both.sum(), pairs.sum(), 0.09)
    assert count(frames[4], "killed") == count(frames[3], "killed")


def test_a_cluster_dies_or_lives_as_a_whole(frames):
    before, after = frames[2][0] == "clustered", frames[3][0] == "killed"
    died = []
    for z, y, x in every(4, (SHAPE[2], SHAPE[1], SHAPE[0])):
        block = np.s_[z : z + 4, y : y + 4, x : x + 4]
        hit = after[block][before[block]]
        assert hit.size == 0 or hit.all() or not hit.any()
        if hit.size:
            died.append(hit.all())
    assert within(sum(died), len(died), 0.4)


def test_a_factor_holds_in_its_window_only(frames):
    fired = [row["events.fade"][0] for _, row in frames]
    # A factor of 0 until 1.5 h, of 0.5 until 2 h, none afterwards.
    assert fired[3] == 0
    for step, factor in ((3, 0.5), (4, 1.0), (5, 1.0)):
        cells = count(frames[step], "single")
        assert within(fired[step + 1] - fired[step], cells, -np.expm1(-0.2 * factor * 0.5))


def test_sources_add_their_amount_in_their_window(frames):
    given = [row["TNF.mean"][0] for _, row in frames]
    share = 2 / SHAPE[2]  # planes of bone
    expected = [0.8 * share * h for h in (0, 0, 0.5, 1, 1, 1, 1)]
    np.testing.assert_allclose(given, expected, rtol=1e-5)
    given = [row["drug.mean"][0] for _, row in frames]
    np.testing.assert_allclose(given, [0.6 * h for h in (0, 0, 0, 0.5, 1, 1.5, 2)], rtol=1e-6)
