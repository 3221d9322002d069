"""A state that cannot be right is found after a chunk, and named."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from lattice.cli.main import main
from lattice.engine.declare import MATRIX_ONE
from lattice.engine.simulation import Simulation
from lattice.io.checkpoint import list_checkpoints, newest_checkpoint
from lattice.model.errors import NumericalError
from lattice.recording import check_state
from lattice.run import simulate
from tests.cli.tiny import write_model
from tests.conftest import TISSUE, slab_of_bone, small_model

VOXEL = (4, 3, 5)  # z, y, x


@pytest.fixture(scope="module")
def sound():
    """A simulation of everything, in its first state: fields, a compartment and matrix."""
    model = small_model(TISSUE)
    return Simulation(model, 3, slab_of_bone(model))


def wrong(simulation: Simulation, name: str, place: tuple, value) -> str:
    """The sentence about a state in which one value is replaced."""
    kept = dict(simulation.state)
    try:
        simulation.state[name] = kept[name].at[place].set(value)
        with pytest.raises(NumericalError) as caught:
            check_state(simulation, 0)
    finally:
        simulation.state = kept
    return str(caught.value)


def test_a_sound_state_passes(sound):
    assert sound.fault() is None
    check_state(sound, 0)


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("cytokines", (*VOXEL, 0), jnp.nan, ["TNF is nan ng/mL", "time.field_step"]),
        ("cytokines", (*VOXEL, 1), -0.5, ["find_me is -0.5 ng/mL", "memory"]),
        ("cytokines", (*VOXEL, 1), jnp.inf, ["find_me is inf ng/mL", "rates of secretion"]),
        ("mineral", VOXEL, -1, ["mineral is -2.38419e-07 of a full voxel", "memory"]),
        ("mineral", VOXEL, 2 * MATRIX_ONE, ["matrix (osteoid and mineral) is 2 of a full voxel"]),
        ("osteoid", (4, 1, 3, 5), -MATRIX_ONE, ["osteoid of stage 2 is -1 of a full voxel"]),
        ("cells", VOXEL, 99, ["the code of the cell is 99", "9 states"]),
        ("bone", VOXEL, 2, ["bone is 2 in voxel"]),
    ],
)
def test_a_wrong_value_is_named_with_its_voxel_and_cause(sound, name, place, value, words):
    sentence = wrong(sound, name, place, value)
    for word in [*words, "voxel (x, y, z) = (5, 3, 4)", "at step 0 (0 h"]:
        assert word in sentence, sentence
    assert "\n" not in sentence


def test_a_compartment_has_no_voxel(sound):
    sentence = wrong(sound, "systemic", (0,), jnp.nan)
    assert "PTH is nan ng/mL, at step 0" in sentence


def test_the_first_of_several_voxels_is_told(sound):
    sentence = wrong(sound, "cytokines", (VOXEL[0], VOXEL[1], slice(5, 9), 0), jnp.nan)
    assert "(5, 3, 4), the first of 4 such voxels" in sentence


def test_growth_without_bound_is_found_by_the_engine_itself():
    """A reaction that doubles its reactant: no injected state."""
    model = small_model(
        '[[cytokine]]\nname = "seed"\ninitial = "1 uM"\nhalf_life = "9 day"\n'
        'diffusion = "1 um^2/s"\n'
        '[[reaction]]\nname = "double"\nequation = "seed -> 2 seed"\nforward = "3 /h"\n',
        shape=(4, 4, 4),
        until="3 day",
    )
    with pytest.raises(
        NumericalError, match=r"^seed is (inf|nan) uM in voxel .* at step"
    ) as caught:
        simulate(model)
    assert "reactions" in str(caught.value)


def test_a_run_stops_at_its_last_good_checkpoint(tmp_path, capsys, monkeypatch):
    """NaN arises in a step of a run: exit code 3, nothing wrong is kept, and the run goes on."""
    config = write_model(tmp_path, ('until = "10 h"', 'until = "5 h"'))
    folder = tmp_path / "run"
    advance = Simulation.advance

    def spoilt(self, steps, every=None):
        rows = advance(self, steps, every)
        if self.step >= 7:
            self.state["cytokines"] = self.state["cytokines"].at[1, 2, 3, 0].set(jnp.nan)
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(Simulation, "advance", spoilt)
        assert main(["run", str(config), "--out", str(folder), "--quiet"]) == 3
    said = capsys.readouterr().err
    last = list_checkpoints(folder)[0]
    assert newest_checkpoint(folder).step == 4
    assert f"the last good checkpoint is {last}" in said
    assert "TNF is nan ng/mL in voxel (x, y, z) = (3, 2, 1), at step" in said
    assert said.count("\n") == 1
    assert main(["resume", str(folder), "--quiet"]) == 0
    state = newest_checkpoint(folder).state
    assert (state["step"], bool(np.isfinite(state["cytokines"]).all())) == (10, True)
