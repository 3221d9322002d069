"""What the README says works when it is typed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lattice.cli.main import COMMANDS
from lattice.io.runfile import RunFile
from lattice.model import load
from tests.docs.blocks import ROOT, blocks_of
from tests.docs.follow_readme import MADE_ELSEWHERE
from tests.docs.stand_in import folder_with_image

SMALL = "[40, 16, 16]"


@pytest.fixture
def workspace(tmp_path):
    """A folder with the model files, in which the quickstart is a smaller cube."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    quickstart = tmp_path / "configs" / "quickstart.toml"
    text, count = re.subn(r"shape = \[.*\]", f"shape = {SMALL}", quickstart.read_text())
    assert count == 1
    quickstart.write_text(text)
    return tmp_path


def test_every_command_and_example_works_in_order(workspace):
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.follow_readme"],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ran = set(done.stdout.splitlines()[-1].split())
    assert ran == set(COMMANDS) - {"schema", "screen", "calibrate", "design", "bench", "doctor"}
    for made in (
        "bone_volume.png",
        "runs/mine/series.csv",
        "runs/mine/morphometry.csv",
        "runs/mine/report/index.html",
        "runs/my_bone/run.h5",
    ):
        assert (workspace / made).is_file(), made
    assert_the_new_state_secretes(workspace / "runs" / "my_bone")


def assert_the_new_state_secretes(folder: Path) -> None:
    series = RunFile.open(folder).series
    assert np.max(series["osteomac"][0]) > 0
    assert series["OSM.produced"][0][-1] > 0


def test_the_long_commands_are_targets_of_make():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.M)
    for command in MADE_ELSEWHERE:
        assert command.split()[1] in targets
        assert any(command in text for language, text in blocks_of("README.md"))


def test_the_demonstration_ends_by_naming_the_report():
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.M)[1]
    last = recipe.strip().splitlines()[-1].strip()
    assert last == '$(BIN)/osteolattice report "$$out"'


def test_the_example_of_an_image_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("OSTEOLATTICE_DATA", str(folder_with_image(tmp_path)))
    (text,) = [t for language, t in blocks_of("README.md") if "my_image" in t]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_image.toml").write_text(text)
    assert load(tmp_path / "my_image.toml").geometry.kind == "image"


def test_the_table_of_commands_is_complete():
    listed = re.findall(r"^\| `(\w+)", (ROOT / "README.md").read_text(), flags=re.M)
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_what_the_documents_name_is_there(document):
    text = (ROOT / document).read_text()
    links = re.findall(r"\]\(([\w./-]+)\)", text)
    paths = re.findall(r"`((?:lattice|kernels|configs|tests)/[\w/]*(?:\.\w+)?)`", text)
    assert links or paths or document == "CHANGELOG.md"
    for path in (*links, *paths):
        assert (ROOT / path).exists(), path


def test_the_picture_is_small():
    assert (ROOT / "configs" / "quickstart.png").stat().st_size < 300_000
