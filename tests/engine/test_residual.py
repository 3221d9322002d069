"""A field solve whose iterations did not reach their error is found after a chunk, and named."""

from __future__ import annotations

import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine.residual import Left, errors
from lattice.engine.simulation import Simulation
from lattice.io.checkpoint import list_checkpoints
from lattice.kernels import conjugate_gradient
from lattice.kernels.fusion import always
from lattice.kernels.stencil import Grid
from lattice.model import loads
from lattice.run import bone_of
from tests.cli.tiny import run_command
from tests.conftest import HEAD

# One iteration for a contrast of 1e5; two are enough.
HARD = """
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[solver]
scheme = "two_poles"
iterations = ITERATIONS
[output]
series = "1 h"
checkpoints = "30 min"
[[cytokine]]
name = "TNF"
diffusion = "30 um^2/s"
in_bone = 1e-5
half_life = "78 min"
[[state]]
name = "M1"
secretes = { TNF = "8 fg/day" }
seeding = { where = "marrow", fraction = 0.02 }
"""


def hard(iterations: int) -> str:
    head = HEAD.format(
        shape=[12, 11, 10], boundary='"no-flux"', step="30 min", until="6 h", time=""
    )
    return head + HARD.replace("ITERATIONS", str(iterations))


def run_with(iterations: int, folder) -> subprocess.CompletedProcess[str]:
    config = folder / f"hard{iterations}.toml"
    config.write_text(hard(iterations))
    target = folder / f"run{iterations}"
    return run_command("run", config, "--out", target, "--seed", "1", "--quiet")


def test_too_few_iterations_stop_a_run(tmp_path):
    stopped = run_with(1, tmp_path)
    assert stopped.returncode == 3
    said = stopped.stderr
    last = list_checkpoints(tmp_path / "run1")[0]
    for word in (
        "the error that the field solve left of TNF is 0.",
        "(0.15 is allowed)",
        "in voxel (x, y, z) = (",
        "at step ",
        "solver.iterations",
        f"the last good checkpoint is {last}",
    ):
        assert word in said, said
    assert said.count("\n") == 1
    mended = run_command("resume", tmp_path / "run1", "--set", "solver.iterations=2", "--quiet")
    assert mended.returncode == 0, mended.stderr
    assert "iterations = 2" in (tmp_path / "run1" / "config.toml").read_text()
    done = run_with(2, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_run_goes_on_with_its_own_model(tmp_path):
    run_with(1, tmp_path)
    refused = run_command("resume", tmp_path / "run1", "--set", "time.step=1 h", "--quiet")
    assert refused.returncode == 2
    for word in ("time.step", "its own model", "solver.iterations"):
        assert word in refused.stderr


@pytest.mark.parametrize("solver", ["solve", "solve_in_loop"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_what_is_left_is_the_true_residual(solver, iterations):
    """Of a diagonal matrix, against its product with the result; looking changes no bit."""
    rng = np.random.default_rng(2)
    diagonal = jnp.asarray(rng.uniform(1, 9, (9, 3, 10)), jnp.float32)
    r = jnp.asarray(rng.normal(size=(9, 3, 10)), jnp.float32)
    grid = Grid((False, False, False), 2)

    @jax.jit
    def run(r, look):
        given = (lambda u: diagonal * u, lambda r: r, r, iterations, always(r), grid)
        return getattr(conjugate_gradient, solver)(*given, look)

    u, found = run(r, True)
    whole = np.asarray(r - diagonal * u).reshape(9, -1, 2)
    left = np.zeros_like(whole)
    left[::4] = whole[::4]
    left = left.reshape(-1, 2)
    np.testing.assert_allclose(found.left, 3 * np.sum(left**2, axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.start, np.sum(r.reshape(-1, 2) ** 2, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.worst, np.abs(left).max(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(found.place, np.abs(left).argmax(axis=0))
    solution = np.sum(np.square(u).reshape(-1, 2), axis=0)
    np.testing.assert_allclose(found.solution, solution, rtol=1e-5)
    unseen, nothing = run(r, False)
    np.testing.assert_array_equal(unseen, u)
    assert not any(np.any(a) for a in nothing)
    blind, none = run(r, None)
    np.testing.assert_array_equal(blind, u)
    assert none is None


@pytest.mark.parametrize("iterations", [1, 2])
def test_the_estimate_is_of_the_order_of_the_true_error(iterations):
    found = {}
    for count in (iterations, 30):
        model = loads(hard(count))
        simulation = Simulation(model, 1, bone_of(model, 1))
        simulation.advance(1)
        found[count] = np.asarray(simulation.host_state()["cytokines"], np.float64)
        if count == iterations:
            estimate = errors(Left(*jax.device_get(simulation._left)))[0]
    truth = found[30]
    true = np.linalg.norm(found[iterations] - truth) / np.linalg.norm(truth)
    assert true / 5 < estimate < 20 * true


def test_the_estimate_is_the_residual_left_times_the_change_of_the_field():
    place = np.zeros(5, np.uint32)
    start = np.array([4, 4, 4, 4, 1e-37], np.float32)
    left = np.array([1, 1, 0, 1, 1e-37], np.float32)
    solution = np.array([9, 9, 9, 0, 1e-37], np.float32)
    # The second field has vanished; of the others one stands still, and one was never there.
    field = np.array([36, 0, 1, 1, 0], np.float32)
    found = errors(Left(start, left, solution, field, place))
    np.testing.assert_allclose(found, [0.25, 0.5, 0, 0, 0])
