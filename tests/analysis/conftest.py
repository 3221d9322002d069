"""Fixtures of this room's tests."""

from __future__ import annotations

import pytest

from tests.analysis.invented import write_invented_run


@pytest.fixture(scope="session")
def invented_run(tmp_path_factory):
    """The folder of an invented run of 24 x 22 x 20 voxels (x, y, z)."""
    folder = tmp_path_factory.mktemp("runs") / "invented"
    write_invented_run(folder)
    return folder
