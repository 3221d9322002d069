"""Records: files that are read or refused, comparisons, the report, the README's table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import plots, readme
from benchmarks.compare import compare
from benchmarks.record import Record, read_records, write_records
from lattice.cli.main import main
from lattice.model.errors import InputError

RECORD = Record(
    "sweep",
    "Jacobi",
    (24, 24, 24),
    parameters={"species": 6},
    error_l2=1e-3,
    median_s=1.0,
    iqr_s=0.05,
    repeats=16,
    copy_bytes_per_s=1e9,
    copy_fraction=0.5,
    machine="one",
    versions={"jax": "1"},
)


CONTRACT = (
    *("case", "parameters", "method", "error_l2", "error_linf", "seconds_per_simulated_day"),
    *("median_s", "iqr_s", "mlups", "bytes_counted", "copy_fraction", "compile_s", "peak_bytes"),
    *("machine", "versions", "commit", "dirty"),
)
"""Keys of each record that scripts of users rely on; null where one does not apply."""


def test_a_file_is_a_list_of_records_with_the_agreed_keys(tmp_path):
    path = tmp_path / "records.json"
    write_records(path, [RECORD])
    (found,) = json.loads(path.read_text())
    assert set(CONTRACT) <= set(found)
    assert found["compile_s"] is None


def verdicts(before: Record, after: Record, **options) -> dict[str, str]:
    return {c.quantity: c.verdict for c in compare([before], [after], **options).changes}


def test_a_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "records.json"
    write_records(path, [RECORD, replace(RECORD, case="copy", more={"gb_per_s": 3.0})])
    assert read_records(path) == [RECORD, replace(RECORD, case="copy", more={"gb_per_s": 3.0})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds no list of benchmark records"),
        ('{"records": []}', "holds no list of benchmark records"),
        ('[{"case": "copy"}]', "its schema is null, not 2"),
        ('[{"schema": 9}]', "was written by a newer osteolattice"),
        ("[3]", "record 1 is 3, not a table"),
        ('[{"schema": 2, "case": "copy"}]', 'record 1: "method" is missing'),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path, capsys, text, said):
    path = tmp_path / "records.json"
    path.write_text(text)
    assert main(["bench", "report", str(path), "--out", str(tmp_path / "out")]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("median_s", "fast"),
        ("median_s", -1),
        ("median_s", True),
        ("error_l2", float("nan")),
        ("size", [24, 24]),
        ("size", [24, 24, 0]),
        ("repeats", 1.5),
        ("versions", {"jax": 1}),
        ("dirty", "yes"),
        ("colour", "red"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, name, value):
    path = tmp_path / "records.json"
    write_records(path, [RECORD])
    found = json.loads(path.read_text())
    found[0][name] = value
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match=f"record 1: .?{name}"):
        read_records(path)


def test_a_change_counts_beyond_spread_threshold_and_copy():
    slower = replace(RECORD, median_s=1.3)
    assert verdicts(RECORD, RECORD) == {"time (s)": "same", "error L2": "same"}
    assert verdicts(RECORD, slower)["time (s)"] == "worse"
    assert verdicts(slower, RECORD)["time (s)"] == "better"
    assert verdicts(RECORD, slower, threshold=0.5)["time (s)"] == "same"
    noisy = replace(RECORD, iqr_s=1.0)
    assert verdicts(noisy, replace(noisy, median_s=1.3))["time (s)"] == "same"
    assert verdicts(RECORD, replace(slower, copy_bytes_per_s=0.75e9))["time (s)"] == "same"
    once = replace(RECORD, repeats=1)
    assert verdicts(once, replace(once, median_s=9.0))["time (s)"] == "not judged"


def test_errors_and_memory_need_no_spread():
    assert verdicts(RECORD, replace(RECORD, error_l2=2e-3))["error L2"] == "worse"
    exact = replace(RECORD, error_l2=1e-7)
    assert verdicts(exact, replace(exact, error_l2=3e-7))["error L2"] == "same"
    large = replace(RECORD, bytes_per_voxel=200.0)
    assert verdicts(large, replace(large, bytes_per_voxel=150.0))["B/voxel"] == "better"


def test_a_regression_is_an_exit_code(tmp_path, capsys):
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    write_records(before, [RECORD, replace(RECORD, size=(32, 32, 32))])
    write_records(after, [replace(RECORD, median_s=2.0, versions={"jax": "2"})])
    assert main(["bench", "compare", str(before), str(after)]) == 1
    said = capsys.readouterr().out
    assert "worse" in said
    assert "note: jax was 1 and is 2" in said
    assert "only before: sweep Jacobi 32x32x32" in said
    assert main(["bench", "compare", str(after), str(before)]) == 0
    assert main(["bench", "compare", str(after), str(before), "--threshold", "0"]) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"machine": "two"}, "different machines"),
        ({"precision": "float64"}, "no measurement in common"),
        ({"size": (32, 32, 32)}, "no measurement in common"),
        ({"parameters": {"species": 5}}, "no measurement in common"),
    ],
)
def test_other_things_are_not_compared(changed, said):
    with pytest.raises(InputError, match=said):
        compare([RECORD], [replace(RECORD, **changed)])


def test_every_plot_is_drawn_from_records_and_from_no_others():
    told = {
        "field-accuracy": {"step_minutes": 15},
        "scaling": {"devices": 2},
        "cells": {"occupied": 0.03},
        "whole-step": {},
        "solve": {"contrast": 10.0},
    }
    records = [
        replace(
            RECORD, case=case, parameters=told[case], size=(n, n, n), seconds_per_simulated_day=1.0,
            method="strong" if case == "scaling" else "2 iterations",
        )
        for case in told for n in (24, 32)
    ]  # fmt: skip
    for name, (draw, caption) in plots.FIGURES.items():
        figure = draw(records)
        assert figure is not None, name
        assert all(ax.get_xlabel() for ax in figure.axes), name
        assert caption
        assert draw([replace(RECORD, case="copy")]) is None, name


def test_a_report_holds_every_record(tmp_path, capsys):
    path, out = tmp_path / "records.json", tmp_path / "new" / "report"
    write_records(
        path, [RECORD, replace(RECORD, case="copy", method="XLA", more={"gb_per_s": 3.5})]
    )
    assert main(["bench", "report", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    names = {p.name for p in out.iterdir()}
    assert names == {"index.html", "report.md", "copy_shares.png"}
    assert all(name in said for name in names)
    for text in ((out / "report.md").read_text(), (out / "index.html").read_text()):
        for word in ("Jacobi", "XLA", "24³", "3.5", "share of copy", "one; jax 1"):
            assert word in text, word


@pytest.mark.parametrize("which", range(len(readme.RECORDS)))
def test_the_readme_tells_the_committed_records(which):
    """`python -m benchmarks.readme` writes the tables anew."""
    text = (readme.ROOT / "README.md").read_text()
    records = [read_records(path) for path in readme.RECORDS]
    assert readme.renewed(text, records) == text
    records[which] = [
        replace(r, median_s=2 * r.median_s) if r.median_s else r for r in records[which]
    ]
    assert readme.renewed(text, records) != text
