"""Memory of the whole step, by the compiler's own account; nothing is run."""

from pathlib import Path

from lattice.engine.simulation import program_of
from lattice.model import load

ROOT = Path(__file__).parents[2]


def test_the_whole_step_takes_less_than_180_bytes_per_voxel():
    """Six cytokines, bone, matrix and 3 % active cells at 128^3: state and work space together."""
    model = load(ROOT / "benchmarks" / "whole_step.toml")
    voxels = 128**3
    assert model.lattice.shape == (128, 128, 128)
    memory = program_of(model, int(0.045 * voxels)).lower().compile().memory_analysis()
    assert memory is not None
    state, work = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    assert state < 47 * voxels
    assert state + work < 180 * voxels
