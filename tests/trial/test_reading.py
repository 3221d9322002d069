"""A trial file is understood as it is written, or refused in one sentence: file, key, fix."""

from pathlib import Path

import pytest

from lattice.model import InputError
from lattice.trial.reading import load_trial
from tests.trial.tiny import tiny_trial, write_trial

FINDING = '[[finding]]\nname = "F1"'
REFUSED = {
    "no trial": ("[trial]", "[tril]", ["tril", 'did you mean "trial"?']),
    "misspelt key": ("replicates = 3", "replicate = 3", ["trial.replicate", '"replicates"?']),
    "no model": ('model = "model.toml"\n', "", ["trial.model", "missing"]),
    "absent model": ('"model.toml"', '"mode.toml"', ["mode.toml", "does not exist"]),
    "no time": ('"6 h"\nreference', '"6"\nreference', ["trial.treated_from", "14 day"]),
    "not whole steps": ('"6 h"\nref', '"6.5 h"\nref', ["trial.treated_from", "whole number"]),
    "late treatment": ('"6 h"\nref', '"15 h"\nref', ["trial.treated_from", "after the end"]),
    "reference": ('= "vehicle"\n\n[[out', '= "vehicel"\n\n[[out', ["trial.reference", "vehicle"]),
    "series": ('"matrix.formed"', '"matrix.form"', ["outcome.bone formed.series", "formed"]),
    "units": (
        'series = "osteoblast"',
        'series = ["osteoblast", "BV/TV"]',
        ["outcome.osteoblasts.series", "cannot be summed"],
    ),
    "reduction": ('"change"', '"chance"', ["reduce", 'did you mean "change"?']),
    "window": ('"change"', '"change"\nwindow = ["8 h", "7 h"]', ["window", "[first, last]"]),
    "late window": (
        '"change"',
        '"change"\nwindow = ["8 h", "70 h"]',
        ["window.1", "after the end"],
    ),
    "measure": (
        'series = "osteoblast"\nreduce = "mean"',
        'histomorphometry = "Tb.Tg"',
        ["outcome.osteoblasts.histomorphometry", '"Tb.Th"?'],
    ),
    "measure reduced": (
        'series = "osteoblast"',
        'histomorphometry = "Tb.Th"',
        ["outcome.osteoblasts.reduce", "remove"],
    ),
    "arm twice": ('name = "kill 0.6"', 'name = "kill 0"', ["arm.kill 0", "twice"]),
    "arms as one folder": (
        '"vehicle"\n\n[[arm',
        '"vehicle"\n\n[[arm]]\nname = "kill-0"\n\n[[arm',
        ["kill 0", "folder"],
    ),
    "curve without dose": ("dose = 0.6", "", ["arm.kill 0.6.dose", "dose = 0.2"]),
    "setting": (
        "dose = 0.6",
        'dose = 0.6\nset = { "rule.lnd.rate" = "1 /day" }',
        ['arm "kill 0.6"', "rule.lnd.rate", '"rule.land.rate"?'],
    ),
    "intervention": (
        'states = ["osteoblast"]',
        'states = ["osteoblasts"]',
        ["kill.states", "kill 0"],
    ),
    "differs before": (
        "dose = 0.6",
        'dose = 0.6\nset = { "rule.land.rate" = "1 /day" }',
        ["arm.kill 0.6", "before treated_from", "rule.land.rate", "own_start"],
    ),
    "acts before": (
        'fraction = 0.6, into = "apoptotic" }\nfrom = "6 h"',
        'fraction = 0.6, into = "apoptotic" }\nfrom = "5 h"',
        ["arm.kill 0.6", "before treated_from"],
    ),
    "unknown arm": ('arm = "kill 0.6"', 'arm = "kill 0.7"', ["finding.F1.arm", "kill 0.6"]),
    "unknown outcome": ('outcome = "osteoblasts"', 'outcome = "blasts"', ["finding.F1.outcome"]),
    "expectation": ('expect = "down"', 'expect = "lower"', ["finding.F1.expect", "write one of"]),
    "no margin": ('margin = "1 %"', "", ["finding.F2.margin", 'write margin = "5 %"']),
    "no size": ('margin = "1 %"', 'margin = "1 mm"', ["finding.F2.margin", '"5 %"']),
    "margin for up": (
        'expect = "down"',
        'expect = "up"\nmargin = "5 %"',
        ["finding.F1.margin", "no meaning"],
    ),
    "no expectation": ('expect = "down"', "", ["finding.F1.expect", "missing"]),
    "itself": ('arm = "kill 0.6"', 'arm = "vehicle"', ["finding.F1.reference", "no reference"]),
    "few doses": (
        'arm = "kill 0.6"\nexpect = "down"',
        'curve = "kill"\nexpect = "lower optimum"',
        ["finding.F1.than", "needs it"],
    ),
    "parts and a test": (
        'expect = "down"',
        'expect = "down"\nparts = [ { outcome = "osteoblasts", arm = "kill 0", expect = "up" } ]',
        ["finding.F1.outcome", "either parts"],
    ),
    "no arm at all": ("[[arm]]", "[[finding]]", ["finding.vehicle"]),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_is_refused(tmp_path, fault):
    from lattice.trial.folder import TrialFolder

    old, new, words = REFUSED[fault]
    with pytest.raises(InputError) as caught:
        TrialFolder(tmp_path / "out", tiny_trial(tmp_path, (old, new)))
    sentence = str(caught.value)
    assert "trial.toml" in sentence or "mode.toml" in sentence
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


@pytest.mark.parametrize("text", ["", "schema = 1", "[trial", "\x00", "schema = 2\n[trial]\n"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"t\.toml"):
        load_trial(path)
    with pytest.raises(InputError, match="does not exist"):
        load_trial(tmp_path / "absent.toml")


def test_a_model_file_is_no_trial(tmp_path):
    write_trial(tmp_path)
    with pytest.raises(InputError, match="osteolattice run"):
        load_trial(tmp_path / "model.toml")


def test_arms_differ_in_what_is_written_alone(tmp_path):
    trial = tiny_trial(tmp_path)
    vehicle, nothing, kill = (arm.model for arm in trial.arms)
    assert [i.name for i in vehicle.interventions] == []
    assert kill.values["intervention.kill.kill.fraction"] == 0.6
    assert nothing.structure == kill.structure
    assert {arm.start for arm in trial.arms} == {0}
    assert trial.starts[0].interventions == ()
    assert kill.time.until == 14


def test_settings_of_trial_arm_and_command_line_follow_on_one_another(tmp_path):
    trial = tiny_trial(
        tmp_path,
        (
            "[[outcome]]",
            'set = { lattice.shape = [8, 8, 6], rule.land.rate = "1 /h" }\n[[outcome]]',
        ),
        ("dose = 0.6", 'dose = 0.6\nown_start = true\nset = { "rule.land.rate" = "2 /h" }'),
        overrides=["matrix.lag=3 h"],
        until="1 day",
        replicates=2,
    )
    assert [arm.model.values["rule.land.rate"] for arm in trial.arms] == [1, 1, 2]
    assert {arm.model.lattice.shape for arm in trial.arms} == {(8, 8, 6)}
    assert {arm.model.values["matrix.lag"] for arm in trial.arms} == {3}
    assert (trial.until, trial.replicates) == (24, 2)
    assert [arm.start for arm in trial.arms] == [0, 0, 1]


def test_arms_may_include_pieces_and_name_another_model(tmp_path):
    faster = 'schema = 1\n[[rule]]\nname = "land"\nrate = "9 /day"\n'
    faster = 'schema = 1\n[[rule]]\nname = "land"\nrate = "9 /day"\n'
    (tmp_path / "fast.toml").write_text(faster)
    (tmp_path / "other.toml").write_text('schema = 1\ninclude = "model.toml"\nname = "other"\n')
    trial = tiny_trial(
        tmp_path,
        ("dose = 0.6", 'dose = 0.6\nmodel = "other.toml"\ninclude = "fast.toml"'),
    )
    assert [arm.model.name for arm in trial.arms] == ["tiny", "tiny", "other"]
    assert trial.arms[2].model.values["rule.land.rate"] == pytest.approx(9 / 24)
    assert [arm.start for arm in trial.arms] == [0, 0, 1]


def test_paths_in_messages_are_those_of_the_trial(tmp_path, monkeypatch):
    write_trial(tmp_path, ("dose = 0.6", "dose = 0.6\nset = { lattice.shape = 3 }"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load_trial(Path("trial.toml"))
    assert str(caught.value).startswith('trial.toml, arm "kill 0.6": ')
