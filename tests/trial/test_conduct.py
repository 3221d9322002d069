"""A tiny trial from its file to its tables: same bits, resumed, interrupted, failed."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace

import pytest

from lattice.io.checkpoint import digest
from lattice.io.lock import RunLock
from lattice.io.runfile import RunFile
from lattice.model import InputError
from lattice.model.errors import NumericalError
from lattice.run import simulate
from lattice.trial import worker
from lattice.trial.conduct import conduct, jobs_of
from lattice.trial.figures import figure_doses, figure_forest
from lattice.trial.folder import TrialFolder
from lattice.trial.report import write_report
from lattice.trial.tables import TRIAL_COLUMNS
from tests.trial.tiny import tiny_trial

CONTRACT = (
    "arm",
    "outcome",
    "replicates",
    "mean",
    "difference",
    "ci_low",
    "ci_high",
    "effect_size",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tiny trial, carried out in this process."""
    folder = tmp_path_factory.mktemp("trial")
    trial = tiny_trial(folder)
    return trial, folder / "out", conduct(trial, folder / "out", processes=1)


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def digests(folder) -> dict[tuple[str, str], str]:
    return {(r["arm"], r["replicate"]): r["digest"] for r in table(folder / "replicates.csv")}


def test_the_tables_hold_what_scripts_rely_on(whole):
    trial, folder, ending = whole
    assert (ending.done, ending.missing, ending.failed) == (12, 0, {})
    rows = table(folder / "trial.csv")
    assert tuple(rows[0])[:8] == CONTRACT == TRIAL_COLUMNS[:8]
    assert len(rows) == len(trial.arms) * len(trial.outcomes)
    by = {(r["arm"], r["outcome"]): r for r in rows}
    kill = by["kill 0.6", "osteoblasts"]
    assert kill["replicates"] == "3"
    assert float(kill["ci_low"]) <= float(kill["difference"]) <= float(kill["ci_high"]) < 0
    assert by["vehicle", "osteoblasts"]["difference"] == ""
    runs = table(folder / "replicates.csv")
    assert [r["seed"] for r in runs] == ["3", "4", "5"] * 3
    # The difference of the table is that of the rows of single runs.
    pairs = zip(runs[6:9], runs[0:3], strict=True)
    gains = [float(a["osteoblasts"]) - float(b["osteoblasts"]) for a, b in pairs]
    assert float(kill["difference"]) == pytest.approx(sum(gains) / 3)


def test_verdicts_are_written_for_people_and_programs(whole):
    _, folder, _ = whole
    found = json.loads((folder / "findings.json").read_text())["findings"]
    assert {f["finding"]: f["verdict"] for f in found} == {"F1": "reproduced", "F2": "reproduced"}
    assert found[0]["tests"][0]["ci_high"] < 0
    assert len(table(folder / "findings.csv")) == 3


def test_a_kill_of_nothing_is_vehicle_bit_for_bit(whole):
    trial, folder, _ = whole
    found = digests(folder)
    for replicate in map(str, range(trial.replicates)):
        assert found["kill 0", replicate] == found["vehicle", replicate]
        assert found["kill 0.6", replicate] != found["vehicle", replicate]
    assert len({found["vehicle", str(r)] for r in range(3)}) == 3


def test_a_shared_beginning_gives_the_bits_of_a_run_from_the_start(whole):
    trial, folder, _ = whole
    for arm in (trial.arms[0], trial.arms[2]):
        run = simulate(arm.model, seed=trial.seed_of(1))
        assert digest(run.state) == digests(folder)[arm.name, "1"]
        kept = RunFile.open(TrialFolder(folder, trial).run(arm, 1))
        assert kept.series_time.tolist() == run.series["osteoblast"].time.tolist()
        for name, series in run.series.items():
            assert kept.series[name][0].tolist() == series.values.tolist(), name


def test_a_trial_without_a_shared_beginning_gives_the_same(whole, tmp_path):
    _, folder, _ = whole
    alone = tiny_trial(tmp_path, ('treated_from = "6 h"\n', ""), replicates=1)
    assert alone.starts == ()
    conduct(alone, tmp_path / "out", processes=1, arms=["kill 0.6"])
    expected = digests(folder)["kill 0.6", "0"]
    assert digests(tmp_path / "out")["kill 0.6", "0"] == expected


def test_what_has_finished_is_not_run_again(whole, tmp_path, monkeypatch):
    trial, folder, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(folder, copy)
    (copy / "runs" / "kill-0" / "r002" / "result.json").unlink()
    place = TrialFolder(copy, trial)
    names = [arm.name for arm in trial.arms]
    assert [job.key for job in jobs_of(trial, place, names)] == ["kill 0, replicate 2"]
    assert conduct(trial, copy, processes=1).done == 1
    assert digests(copy) == digests(folder)

    def refuse(*arguments):
        raise AssertionError("a finished run was done again")

    monkeypatch.setattr(worker.Workshop, "do", refuse)
    assert conduct(trial, copy, processes=1).done == 0


def test_outcomes_and_findings_may_change_afterwards(whole, tmp_path):
    _, folder, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(folder, copy)
    trial = tiny_trial(
        tmp_path,
        ('series = "osteoblast"\nreduce = "mean"', 'histomorphometry = "BV/TV"'),
        ('expect = "down"', 'expect = "up"\nleast = "30 %"'),
    )
    ending = conduct(trial, copy, processes=1)
    assert ending.done == 9  # only measured
    assert digests(copy) == digests(folder)
    assert ending.results.units["osteoblasts"] == "%"
    values = ending.results.values["osteoblasts"]["vehicle"]
    run = RunFile.open(TrialFolder(copy, trial).run("vehicle", 0))
    assert values[0] == pytest.approx(run.series["BV/TV"][0][-1], rel=1e-3)
    assert ending.results.judged[0].verdict == "not reproduced"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("fraction = 0.6", "fraction = 0.5"), ["kill 0.6", "fraction was 0.6 and is 0.5 now"]),
        (("seed = 3", "seed = 4"), ["another trial", "seed was 3 and is 4 now"]),
        (('until = "14 h"', 'until = "15 h"'), ["another trial", "until was 14.0"]),
    ],
)
def test_a_folder_of_another_trial_is_refused(whole, tmp_path, change, words):
    _, folder, _ = whole
    changed = tiny_trial(tmp_path, change)
    with pytest.raises(InputError) as caught:
        conduct(changed, folder, processes=1)
    for word in [*words, "--out"]:
        assert word in str(caught.value)


def test_a_folder_of_something_else_is_refused(whole, tmp_path):
    trial, _, _ = whole
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        conduct(trial, tmp_path, processes=1)
    with pytest.raises(InputError, match="did you mean"):
        conduct(trial, tmp_path / "out", processes=1, arms=["kil 0"])


def test_a_trial_that_is_stopped_goes_on(whole, tmp_path):
    trial, folder, _ = whole
    asked = []

    def stop():
        asked.append(1)
        return "enough" if len(asked) > 12 else None

    ending = conduct(trial, tmp_path / "out", processes=1, stop=stop)
    assert ending.stopped == "enough"
    assert 0 < ending.done < 12
    assert {r.status for r in ending.results.records} >= {"missing"}
    again = conduct(trial, tmp_path / "out", processes=1)
    assert again.done == 12 - ending.done
    assert digests(tmp_path / "out") == digests(folder)


def test_the_figure_shows_the_arms_that_have_been_run(whole, tmp_path):
    trial, folder, ending = whole

    def shown(results):
        axes = figure_forest(results, ["bone formed"]).axes[0]
        return [label.get_text().partition("  ")[0] for label in axes.get_yticklabels()]

    assert shown(ending.results) == ["kill 0", "kill 0.6"]
    some = tmp_path / "out"
    shutil.copytree(folder, some)
    shutil.rmtree(some / "runs" / "kill-0")
    part = conduct(trial, some, arms=["vehicle", "kill 0.6"], processes=1)
    assert shown(part.results) == ["kill 0.6"]


def test_a_failed_run_is_told_and_left_out(whole, tmp_path, monkeypatch):
    trial, folder, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "runs" / "kill-0.6" / "r001")
    with monkeypatch.context() as patched:

        def fail(*arguments):
            raise NumericalError("TNF.mean is nan")

        patched.setattr(worker, "check_state", fail)
        ending = conduct(trial, copy, processes=1)
    assert ending.failed == {"kill 0.6, replicate 1": "TNF.mean is nan"}
    compared = ending.results.compared("kill 0.6", "osteoblasts")
    assert compared.difference is not None
    assert compared.difference.n == 2
    page = write_report(ending.results).read_text()
    assert "TNF.mean is nan" in page
    assert conduct(trial, copy, processes=1).done == 1


def test_a_failed_beginning_fails_what_needs_it(tmp_path, monkeypatch):
    def fail(*arguments):
        raise NumericalError("no field")

    monkeypatch.setattr(worker, "check_state", fail)
    trial = tiny_trial(tmp_path, replicates=1)
    ending = conduct(trial, tmp_path / "out", processes=1)
    assert len(ending.failed) == 4
    assert "its beginning failed: no field" in ending.failed["vehicle, replicate 0"]
    assert (ending.done, ending.missing) == (0, 0)


def test_one_replicate_has_no_interval(whole, tmp_path):
    trial, folder, _ = whole
    one = replace(trial, replicates=1)
    ending = conduct(one, folder, processes=1)
    compared = ending.results.compared("kill 0.6", "osteoblasts")
    assert compared.difference is not None
    assert math.isnan(compared.difference.low)
    assert {j.verdict for j in ending.results.judged} == {"undecided"}
    assert "–" in write_report(ending.results).read_text()
    conduct(trial, folder, processes=1)


def test_the_report_says_verdicts_first_and_stands_alone(whole):
    _, _, ending = whole
    page = write_report(ending.results).read_text()
    assert page.index("Verdicts") < page.index("Outcomes") < page.index("Time courses")
    assert "a kill lowers the number of osteoblasts" in page
    assert page.count("data:image/png") == 5
    assert "http://" not in page
    assert "<link" not in page
    assert "rule.land.rate" in page


def test_the_axis_of_doses_says_what_a_dose_is(whole):
    _, _, ending = whole
    panels = figure_doses(ending.results, "kill", ["bone formed", "osteoblasts"]).axes
    assert [p.get_xlabel() for p in panels] == ["fraction killed"] * 2


def test_labels_of_the_model_are_kept_as_snapshots(whole, tmp_path):
    labels = 'set = { output.labels = ["8 h", "11 h"], output.label_window = "1 h" }\n'
    trial = tiny_trial(tmp_path, ("[[outcome]]", labels + "[[outcome]]"), replicates=1)
    conduct(trial, tmp_path / "out", processes=1, arms=["vehicle"])
    run = RunFile.open(TrialFolder(tmp_path / "out", trial).run("vehicle", 0))
    assert run.times == (8, 9, 11, 12, 14)
    # Labels are no part of the simulation.
    assert digests(tmp_path / "out")["vehicle", "0"] == digests(whole[1])["vehicle", "0"]


def test_parts_side_by_side_give_the_same_tables(whole, tmp_path):
    trial, folder, _ = whole
    parts = tmp_path / "parts"
    first = conduct(trial, parts, part=(1, 2), processes=1)
    assert (first.done, first.missing, first.results) == (8, 0, None)  # replicates 0 and 2
    assert not (parts / "trial.csv").exists()
    with RunLock(parts, shared=True), RunLock(parts, part="replicate 0"):
        # As if the first part were still at it: only what it holds is refused.
        second = conduct(trial, parts, part=(2, 2), processes=1)
        with pytest.raises(InputError, match=r"replicate 0 in .* is being written"):
            conduct(trial, parts, part=(1, 3), processes=1)
        with pytest.raises(InputError, match="is being written by another process"):
            conduct(trial, parts, processes=1)
    assert (second.done, second.missing) == (4, 0)  # replicate 1
    ending = conduct(trial, parts, processes=1)
    assert (ending.done, ending.missing) == (0, 0)
    assert digests(parts) == digests(folder)
    assert (parts / "trial.csv").read_bytes() == (folder / "trial.csv").read_bytes()
