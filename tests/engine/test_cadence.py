"""Checkpoints of the default cadence: each day, unless they cost too much of the time of a run."""

from __future__ import annotations

import pytest

from lattice import recording, run
from lattice.io.checkpoint import list_checkpoints
from lattice.model import loads
from tests.conftest import HEAD

MODEL = (
    HEAD.format(shape=[6, 5, 4], boundary='"no-flux"', step="6 h", until="4 day", time="")
    + '[output]\nseries = "1 day"\nsnapshots = "never"\nkeep = 9\n'
)
DAILY = [16, 12, 8, 4, 0]


def kept(text: str, folder) -> list[int]:
    run.start(loads(text), folder)
    return [int(path.stem.removeprefix("step-")) for path in list_checkpoints(folder)]


@pytest.mark.parametrize(
    ("share", "longest", "steps"),
    [(1e9, 1e9, DAILY), (0.0, 1e9, [16, 0]), (0.0, 0.0, DAILY)],
    ids=["cheap", "dear", "dear but long ago"],
)
def test_default_checkpoints_are_left_out_where_they_are_dear(
    tmp_path, monkeypatch, share, longest, steps
):
    monkeypatch.setattr(recording, "CHECKPOINT_SHARE", share)
    monkeypatch.setattr(recording, "LONGEST_WITHOUT", longest)
    # The thread has written the first checkpoint before anybody asks what it has cost.
    add = recording.Keeper.add
    monkeypatch.setattr(
        recording.Keeper, "add", lambda self, row: (self.writer.drain(), add(self, row))[1]
    )
    assert kept(MODEL, tmp_path / "auto") == steps
    assert kept(MODEL + 'checkpoints = "auto"\n', tmp_path / "told") == steps


def test_a_cadence_that_was_chosen_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "CHECKPOINT_SHARE", 0.0)
    assert kept(MODEL + 'checkpoints = "1 day"\n', tmp_path / "run") == DAILY
