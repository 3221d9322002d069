"""The recipes of ARCHITECTURE.md, followed to the letter."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import lattice
from tests.docs.blocks import ROOT, apply_change, blocks_of

ENOUGH = "6 h"


def followed(section: str, tmp_path) -> lattice.Run:
    """The model of a recipe, run on a small lattice."""
    ((language, text),) = blocks_of("ARCHITECTURE.md", section)
    assert language == "toml"
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    model = lattice.load(path)
    shape = [min(n, 16) for n in model.lattice.shape]
    small = lattice.load(path, overrides=[f"lattice.shape={shape}", f"time.until={ENOUGH}"])
    return lattice.simulate(small)


def test_a_cytokine(tmp_path):
    run = followed("A cytokine", tmp_path)
    assert run.series["scent.mean"].values[-1] > 0
    assert next(r for r in run.model.rules if r.name == "hunt").toward.signal.of == "scent"


def test_a_state(tmp_path):
    run = followed("A state", tmp_path)
    fired = run.series["events.vaccinate"].values[-1]
    assert run.series["vaccinated"].values[-1] == fired
    assert {s.name for s in run.model.states} >= {"vaccinated", "susceptible"}


@pytest.fixture
def changed(tmp_path):
    """A function: a copy of the package changed by a recipe, in which a script is then run."""

    def change_and_run(section: str, script: str) -> str:
        ignored = shutil.ignore_patterns("__pycache__")
        for folder in ("lattice", "kernels", "configs"):
            shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=ignored)
        blocks = blocks_of("ARCHITECTURE.md", section)
        assert blocks
        for language, text in blocks:
            assert language == "diff"
            apply_change(text, tmp_path)
        assert_which = f"import lattice; assert lattice.__file__.startswith({str(tmp_path)!r})\n"
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", assert_which + script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return change_and_run


RESPONSE = """
from lattice.engine.flux import response
from lattice.engine.numbers import numbers_of
text = '''
schema = 1
lattice = { shape = [4, 4, 4], voxel = "10 um" }
time = { step = "1 h", until = "2 h" }
[[state]]
name = "cell"
seeding = { where = "everywhere", fraction = 0.5 }
[[rule]]
name = "die"
from = "cell"
to = "empty"
rate = "0.5 /h"
when = [ { signal = "time", shape = "saturating", effect = "EFFECT", scale = "2 h", floor = 0.2 } ]
'''
for effect in ("increases", "decreases"):
    model = lattice.loads(text.replace("EFFECT", effect))
    assert lattice.loads(model.text) == model
    (spec,) = model.rules[0].responses
    print(float(response(spec, 2.0, numbers_of(model))))
    lattice.simulate(model)
"""


def test_a_shape_of_response(changed):
    rising, falling = map(float, changed("A shape of response", RESPONSE).split())
    assert rising == pytest.approx(0.2 + 0.8 * (1 - np.exp(-1)), rel=1e-6)
    assert falling == pytest.approx(0.2 + 0.8 * np.exp(-1), rel=1e-6)


SCHEME = """
import jax, jax.numpy as jnp, numpy as np
from lattice.kernels.diffusion_exact import build_basis, step_exact
from lattice.kernels.diffusion_implicit import step_implicit
from lattice.kernels.multigrid_levels import build_hierarchy
shape = (6, 6, 6)
source = np.zeros((*shape, 1), np.float32)
source[1, 4, 5] = source[3, 2, 0] = 1
u, k = jnp.zeros((*shape, 1)), (jnp.array([6000.0]), jnp.array([0.5]))
exact, _ = step_exact(u, source, build_basis(shape), *k, 0.5, voxel=10.0)
hierarchy = build_hierarchy(jnp.zeros(shape, jnp.uint8), jnp.ones(1))
def step(u, source):
    scheme = "three_third_steps"
    return step_implicit(u, source, None, hierarchy, *k, 0.5, voxel=10.0, scheme=scheme)[0]

found = jax.jit(step)(u, source)
print(float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact)))
model = lattice.load("configs/gray_scott.toml", overrides=["solver.scheme=three_third_steps"])
assert model.solver.scheme == "three_third_steps"
"""


def test_an_implementation_in_the_kernels(changed):
    assert 0 < float(changed("An implementation in the kernels", SCHEME)) < 0.05


EXPORT = """
from lattice.cli.main import main
import numpy as np
run = ["run", "configs/sir.toml", "--until", "2 h", "--out", "one", "--quiet"]
assert main([*run, "--set", "lattice.shape=[16, 16, 1]"]) == 0
assert main(["export", "one", "--to", "npz"]) == 0
with np.load("one/last_snapshot.npz") as found:
    print("cells", found["cells"].shape, found["cells"].max())
"""


def test_an_export(changed):
    assert "cells (1, 16, 16)" in changed("An export", EXPORT)
