"""Laws 1 and 3 hold for random models too, not only for those written for the tests."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lattice.model import loads
from tests.cli.tiny import ROOT, environment
from tests.laws.random_models import RandomModel


# With the compiler's default options: without its optimisations a further cytokine changes the last
# bit of the others.
@pytest.mark.parametrize("examples", [2, pytest.param(200, marks=pytest.mark.full)])
def test_laws_hold_for_random_models(examples):
    command = [sys.executable, "-m", "tests.laws.random_laws", str(examples)]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        command, cwd=ROOT, env={**environment(), **flags}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    happened = json.loads(done.stdout)
    assert happened["models"] == examples
    assert happened["events"] >= examples
    assert happened["[[cytokine]]"]
    if examples > 100:
        assert all(
            happened[word] for word in ("[matrix]", "matrix", "move =", "divide =", "kill =")
        )


def test_both_spellings_and_orders_are_the_same_model():
    model = RandomModel(
        'schema = 1\n[lattice]\nshape = [4, 4, 4]\nvoxel = "10 um"\n[time]\n'
        'step = "<30 min|0.5 h>"\nuntil = "1 h"\n',
        (
            '[[state]]\nname = "a"\n',
            '[[rule]]\nname = "r"\nfrom = "a"\nto = "empty"\nrate = "<1 /h|24 /day>"\n',
        ),
    )
    one = loads(model.text())
    assert '"24 /day"' in model.text(1)
    assert model.text(backwards=True).index("[[rule]]") < model.text().index("[[rule]]")
    assert loads(model.text(1)).values == loads(model.text(backwards=True)).values == one.values
