"""The trial file's grammar, from the same kinds as that of model files."""

from __future__ import annotations

import math
from decimal import Decimal

from lattice.model.grammar import ARRAYS
from lattice.model.kinds import Either, Flag, Integer, ListOf, Quantity, Record, Text

__all__ = ["ARM", "FINDING", "OUTCOME", "REDUCTIONS", "TABLES", "TEST_KEYS", "TRIAL", "Settings"]

REDUCTIONS = ("last", "mean", "change", "percent", "max", "min", "area")
EXPECTATIONS = (
    *("up", "down", "none", "within", "rises", "falls"),
    *("interior optimum", "lower optimum"),
)

LABEL = Text("A name.")
LABELS = Either((LABEL, ListOf(LABEL, 1)))
TIME = Quantity("A time.", "14 day")
PATHS = Either((Text(), ListOf(Text())), "Model files to read on top of the model.")


class Settings:
    """A table of dotted names and values, as after ``--set``; checked by the model itself."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)

    def check(self, value, key: str, refuse) -> None:
        if not isinstance(value, dict):
            raise refuse(key, f"expected a table; write {self.example()}")

    def example(self) -> str:
        return '{ "rule.engulf.rate" = "0.1 /min" }'


class Number:
    """A number in the unit of the outcome that it is compared with."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, int | float | Decimal) and not isinstance(value, bool)

    def check(self, value, key: str, refuse) -> None:
        if not self.accepts(value) or not math.isfinite(value):
            raise refuse(
                key, f"expected a number but found {value!r}; write {self.example()}, without unit"
            )

    def example(self) -> str:
        return "10"


TABLES = {name: ListOf(Record(kind.keys, ("name",)), 1) for name, kind in ARRAYS.items()}
"""Tables of a model that may stand in an arm, or in the trial for all arms."""

TRIAL = Record(
    {
        "name": LABEL,
        "model": Text("A model file."),
        "include": PATHS,
        "set": Settings(),
        "seed": Integer("Seed of the first replicate; the next ones follow.", 0, 2**63),
        "replicates": Integer("Runs of each arm.", 1, 10000),
        "until": TIME,
        "treated_from": TIME,
        "reference": Text("The arm that others are compared with."),
        "dose_is": Text("What the doses of arms are, for the axis of figures."),
        "courses": ListOf(LABELS, doc="Series to draw over time; a list is summed."),
    },
    ("model",),
)

ARM = Record(
    {
        "name": LABEL,
        "model": Text("Another model file than the trial's."),
        "include": PATHS,
        "set": Settings(),
        "dose": Quantity("Position on the axis of a dose-response figure.", "0.2"),
        "curve": Text("Arms of one curve make a dose-response figure."),
        "reference": Text("The arm that this one is compared with."),
        "own_start": Flag("Do not share the time before treatment with arms of the same model."),
        **TABLES,
    },
    ("name",),
)

OUTCOME = Record(
    {
        "name": LABEL,
        "series": LABELS,
        "per": LABELS,
        "reduce": Text("How a series becomes one number.", REDUCTIONS),
        "window": ListOf(TIME, 2, 2, "First and last moment."),
        "histomorphometry": Text("A measure of the last snapshot, instead of a series."),
    },
    ("name",),
)

AGAINST = Record({"arm": Text("An arm."), "reference": Text("Its reference.")}, ("arm",))

_TEST = {
    "outcome": LABELS,
    "arm": LABELS,
    "curve": Text("All arms of a dose-response curve."),
    "reference": Text("Another reference than that of the arms."),
    "less": Either((LABEL, AGAINST), "A difference that is taken off: an interaction."),
    "than": Text("The other curve, for a lower optimum."),
    "expect": Text("What the claim says.", EXPECTATIONS),
    "margin": Quantity('How near to nothing "none" is, as "5 %" of the reference.', "5 %"),
    "least": Quantity('How large the effect has to be, as "30 %" of the reference.', "30 %"),
    "range": ListOf(Number(), 2, 2, "Between which numbers the outcome of the arm lies."),
    "combine": Text("Over several arms.", ("all", "any")),
}
TEST_KEYS = tuple(_TEST)

FINDING = Record(
    {
        "name": LABEL,
        "claim": Text("The claim in words."),
        "source": Text("Who found it."),
        "doi": Text("Digital object identifier."),
        "parts": ListOf(
            Record(_TEST, ("outcome", "expect")), 1, 50, "Tests that all have to hold."
        ),
        **_TEST,
    },
    ("name", "claim"),
)
