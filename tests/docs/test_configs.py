"""Every model file that is shipped loads and runs."""

import subprocess
import sys

import pytest

from lattice.analysis.screen_file import read_screen
from lattice.model import load
from lattice.run import bone_of
from tests.docs.blocks import ROOT
from tests.docs.stand_in import NAME, data_folder, folder_with_image

RUNNABLE = ("", "oracles")
"""Folders of configs/ whose files are models; the others hold pieces of models, and screenings."""
CONFIGS = sorted(
    str(p.relative_to(ROOT / "configs"))
    for folder in RUNNABLE
    for p in (ROOT / "configs" / folder).glob("*.toml")
)
IMAGE = "human_trabecula.toml"
LARGEST = (40, 40, 24)
"""Wide enough for trabeculae of the quickstart and for bone in the image's corner."""


@pytest.fixture
def image(monkeypatch, tmp_path):
    """The overrides under which the image, or one in its place, is found."""
    monkeypatch.setenv("OSTEOLATTICE_DATA", str(folder_with_image(tmp_path)))
    return [f"geometry.image=${{OSTEOLATTICE_DATA}}/{NAME}"]


STEPS = """
import sys
import numpy as np
import lattice
run = lattice.simulate(lattice.load(sys.argv[1], overrides=sys.argv[2:]), seed=1)
assert run.state["step"] == 2
assert run.state["cells"].any()
assert all(np.isfinite(series.values).all() for series in run.series.values())
assert any(series.values[0] != series.values[-1] for series in run.series.values())
"""


SAME_STEP = ("adult_small.toml", "growing.toml")
"""Their step is that of the adult model, with other numbers."""
# The quickstart is run as the README says, by test_readme.
RUN = [
    pytest.param(name, marks=pytest.mark.full if name in SAME_STEP else ())
    for name in CONFIGS
    if name != "quickstart.toml"
]


@pytest.mark.parametrize("name", RUN)
def test_two_steps_on_a_small_lattice(name, request):
    overrides = request.getfixturevalue("image") if name == IMAGE else []
    path = ROOT / "configs" / name
    full = load(path, overrides=overrides)
    shape = [min(sizes) for sizes in zip(full.lattice.shape, LARGEST, strict=True)]
    until = 2 * full.time.step
    small = [f"lattice.shape={shape}", f"time.until={until} h", f"output.series={until} h"]
    # A process of its own: the type checks of the test suite double the time of compilation.
    command = [sys.executable, "-c", STEPS, str(path), *overrides, *small]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(data_folder() is None, reason="the real image: set OSTEOLATTICE_DATA")
def test_the_image_has_its_bone_fraction_on_the_lattice(image):
    # Measured on the image itself: 0.1864 above Otsu's threshold.
    model = load(ROOT / "configs" / IMAGE, overrides=[*image, "lattice.shape=[390, 390, 390]"])
    assert bone_of(model, 0).mean() == pytest.approx(0.1864, abs=0.003)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_number_has_a_source(name, request):
    overrides = request.getfixturevalue("image") if name == IMAGE else []
    model = load(ROOT / "configs" / name, overrides=overrides)
    missing = [p.name for p in model.parameters if p.written != "(default)" and not p.label]
    assert not missing


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "screens").glob("*.toml")), ids=str)
def test_every_screening_fits_its_model(path):
    screen = read_screen(path)
    assert screen.reference.structure == screen.treated.structure
    assert all(r.low <= screen.reference.values[r.name] <= r.high for r in screen.ranges)
