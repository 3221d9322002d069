"""The cases under pytest-benchmark: `pytest benchmarks/test_cases.py`.

Not part of `make test`; the extra `peers` has the plugin.

What it prints is the wall time of a whole case, compilation included; `osteolattice bench` gives
the records.
"""

import pytest

from benchmarks.cases import CASES
from benchmarks.measure import Setting


@pytest.mark.parametrize("case", ["copy", "random", "stencil", "sweep", "checkpoint", "cells"])
def test_case(benchmark, case):
    records = benchmark.pedantic(lambda: list(CASES[case](Setting(grid=32))), rounds=1)
    assert records
    assert all(record.median_s for record in records)
