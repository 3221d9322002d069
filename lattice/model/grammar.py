"""The model file's grammar: every table and key, once.

The check of unknown keys, the suggestions and the JSON Schema are all read from here.
"""

from __future__ import annotations

from typing import Any

from .kinds import Either, Flag, Integer, ListOf, MapOf, Quantity, Record, Text
from .structure import ROLES

__all__ = ["ARRAYS", "GEOMETRY_KEYS", "SECTIONS", "SOLVER_SCHEMES", "SOURCES", "TOP"]

PLACES = ("marrow", "surface", "bone")
SEED_PLACES = (*PLACES, "everywhere")
SOLVER_SCHEMES = ("auto", "one_pole", "two_half_steps", "two_poles", "three_poles")

NAME = Text("Name, used in rules and in dotted names of numbers.", name=True)
REFERENCE = Text(name=True)
TIME = Quantity("A time.", "2 day")
RATE = Quantity("A rate.", "0.6 /day")
FRACTION = Quantity("A fraction from 0 to 1.", "0.2")
LENGTH = Quantity("A length.", "10 um")

RESPONSE = Record(
    {
        "signal": Text(
            "A cytokine, neighbours.<state>, neighbours.bone, density.<state>, age, matrix or time;"
            " states may be added, as in density.M1+M2."
        ),
        "effect": Text("Does the rate grow or fall with the signal?", ("increases", "decreases")),
        "shape": Text("hill if not said otherwise.", ("hill", "linear", "threshold", "inverse")),
        "half": Quantity("hill: the signal at half effect.", "0.01 ng/mL"),
        "scale": Quantity("linear, inverse: the signal at which the factor is 1.", "0.01 ng/mL"),
        "above": Quantity("threshold: where the factor changes.", "0.01 ng/mL"),
        "power": Quantity("hill: the exponent, 1 if not given.", "1"),
        "floor": Quantity("The smallest factor, 0 if not given.", "0"),
        "ceiling": Quantity("The largest factor.", "1"),
    },
    ("signal", "effect"),
    "A factor on a rate.",
)
RESPONSES = ListOf(RESPONSE, doc="Factors on the rate, multiplied.")


def _rate_with_responses(example: str, doc: str) -> Either:
    rate = Quantity(doc, example)
    return Either((rate, Record({"rate": rate, "when": RESPONSES}, ("rate",))), doc)


SEEDING = Record(
    {
        "where": Text("Which voxels.", SEED_PLACES),
        "fraction": Quantity(
            "The probability that such a voxel holds this state, or cells per volume.", "0.005"
        ),
        "age": Quantity("Ages at the start are uniform from 0 to this.", "0 h"),
    },
    ("where", "fraction"),
)
NAMES = Either((REFERENCE, ListOf(REFERENCE, 1)))

TOP: dict[str, Any] = {
    "schema": Integer("Version of this grammar.", 1, 1),
    "name": Text("Name of the model."),
    "include": Either(
        (Text(), ListOf(Text())),
        "Files to read first; their paths are relative to this file. What follows wins.",
    ),
}

GEOMETRY_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "empty": ((), ()),
    "trabecular": (("bone_fraction", "thickness"), ()),
    "plate": (("thickness",), ("axis", "count")),
    "rod": (("thickness",), ("axis", "count")),
    "sphere": (("radius",), ()),
    "image": (
        ("image",),
        ("image_voxel", "image_origin", "threshold", "smooth", "largest_component"),
    ),
}
"""For each kind of geometry: the keys it needs and the keys it may have."""

SECTIONS: dict[str, Record] = {
    "lattice": Record(
        {
            "shape": ListOf(Integer(low=1, high=2**20), 3, 3, "Voxels along x, y and z."),
            "voxel": Quantity("Edge of a voxel.", "10 um"),
            "boundary": Either(
                (
                    Text(choices=("no-flux", "periodic")),
                    ListOf(Text(choices=("no-flux", "periodic")), 3, 3),
                ),
                "For all axes, or a list for x, y and z.",
            ),
        },
        ("shape", "voxel"),
    ),
    "geometry": Record(
        {
            "kind": Text("The bone at the start.", tuple(GEOMETRY_KEYS)),
            "bone_fraction": Quantity("Bone volume / total volume.", "0.2"),
            "thickness": Quantity("Of trabeculae, plates or rods.", "50 um"),
            "radius": Quantity("Of the sphere.", "100 um"),
            "axis": Text("Normal of plates, direction of rods.", ("x", "y", "z")),
            "count": Integer("Plates or rods, evenly spaced.", 1, 10000),
            "image": Text("Path of an image; ${OSTEOLATTICE_DATA} is expanded."),
            "image_voxel": Quantity("Edge of a voxel of the image.", "19.5 um"),
            "image_origin": ListOf(LENGTH, 3, 3, "Corner of the part of the image that is taken."),
            "threshold": Either((Text(choices=("otsu",)), Quantity())),
            "smooth": Quantity("Standard deviation of a Gaussian filter.", "10 um"),
            "largest_component": Flag("Keep only the largest connected piece of bone."),
        }
    ),
    "time": Record(
        {
            "step": Quantity("Step of the cells.", "15 min"),
            "until": Quantity("End of the run.", "35 day"),
            "field_step": Quantity("Step of the cytokines; the step if not given.", "15 min"),
            "contact_step": Quantity("Step of contacts and movement.", "5 min"),
        },
        ("step", "until"),
    ),
    "output": Record(
        {
            "series": Quantity("How often a row of the time series is written.", "1 h"),
            "snapshots": Quantity('How often whole fields are written, or "never".', "1 day"),
            "checkpoints": Quantity(
                'How often a checkpoint is written, "never", or "auto": each day, unless they then '
                "took more than a hundredth of the time of the run.",
                "1 day",
            ),
            "keep": Integer("Checkpoints that are kept.", 1, 1000000),
            "precision": Text("Of cytokines in snapshots.", ("float32", "float16")),
            "compression": Text("Of snapshots.", ("gzip", "lzf", "none")),
            "fields": ListOf(
                Text(choices=("cells", "osteoid", "mineral", "cytokines")),
                doc="What a snapshot holds.",
            ),
            "labels": ListOf(TIME, 2, 2, "When two fluorochrome labels begin to be given."),
            "label_window": Quantity(
                "How long each label is taken up; a day if not given.", "1 day"
            ),
        }
    ),
    "solver": Record(
        {
            "scheme": Text("How the fields are solved.", SOLVER_SCHEMES),
            "iterations": Integer("Iterations per solve.", 1, 1000),
        }
    ),
    "matrix": Record(
        {
            "lag": Quantity("Mean time from osteoid to mineral.", "2 day"),
            "stages": Integer("Stages that osteoid passes through.", 1, 8),
            "initial_surface": Text(
                "Mineral in surface voxels at the start.", ("uniform", "thresholded", "none")
            ),
        }
    ),
}

ARRAYS: dict[str, Record] = {
    "cytokine": Record(
        {
            "name": NAME,
            "systemic": Flag("One well-mixed compartment, not a field."),
            "molar_mass": Quantity("So that ng/mL and pM may both be written.", "17.4 kDa"),
            "diffusion": Quantity("Diffusion coefficient outside bone.", "30 um^2/s"),
            "in_bone": Quantity("Factor on the diffusion inside bone.", "0.02"),
            "half_life": Quantity("Instead of decay.", "78 min"),
            "decay": Quantity("Rate of decay.", "0.5 /h"),
            "production": _rate_with_responses("0.1 ng/mL/h", "Basal production outside bone."),
            "initial": Quantity("Concentration at the start.", "0.01 ng/mL"),
        },
        ("name",),
    ),
    "state": Record(
        {
            "name": NAME,
            "lives": Either(
                (Text(choices=PLACES), ListOf(Text(choices=PLACES), 1, 3)),
                "marrow if not said otherwise.",
            ),
            "secretes": MapOf(_rate_with_responses("8.3 fg/day", "Amount per cell and time.")),
            "takes_up": MapOf(_rate_with_responses("10 um^3/h", "Volume cleared per time.")),
            "lays": _rate_with_responses("0.2 /day", "Voxels of osteoid per time."),
            "resorbs": _rate_with_responses("0.2 /day", "Voxels of matrix per time."),
            "when_filled": MapOf(
                Quantity("A weight.", "0.2"), "Fates, with weights, when the voxel is full."
            ),
            "when_resorbed": Text("What a cell in bone becomes when its voxel is emptied."),
            "when_stranded": Text("What a surface cell becomes when its surface is gone."),
            "seeding": Either((SEEDING, ListOf(SEEDING))),
            "color": Text("For pictures, such as #c03020."),
            "role": Text(
                "What it counts as in histomorphometry; if not given, what it does and its name "
                "decide.",
                (*ROLES, "none"),
            ),
        },
        ("name",),
    ),
    "rule": Record(
        {
            "name": NAME,
            "from": Either((REFERENCE, ListOf(REFERENCE, 2, 2)), "One state, or two that touch."),
            "to": Either((REFERENCE, ListOf(REFERENCE, 2, 2)), "One product for each reactant."),
            "move": Text("The state that moves.", name=True),
            "through": ListOf(REFERENCE, doc="States that give way to it, besides empty."),
            "divide": Text("The state that divides.", name=True),
            "into": ListOf(REFERENCE, 2, 2, "Mother and daughter after division."),
            "space": Text("What the daughter replaces; empty if not given.", name=True),
            "rate": Quantity(
                "A rate; from empty, it may be cells per volume and time, as 60 /mL/day.",
                "0.6 /day",
            ),
            "speed": Quantity("Of a cell that is free on all sides.", "0.5 um/min"),
            "after": Quantity("The age at which the rule fires.", "5 day"),
            "when": RESPONSES,
            "toward": Record(
                {
                    "signal": Text("A cytokine, neighbours.<state>, neighbours.bone or matrix."),
                    "strength": Quantity("Negative: away from it.", "2.0"),
                    "half": Quantity("The value that is sensed well.", "0.01 ng/mL"),
                },
                ("signal", "strength"),
            ),
            "keep_age": Flag("Products keep the ages of the reactants."),
            "reset_age": Flag("Ages start at 0."),
            "needs_matrix": Quantity("Least matrix in the own voxel.", "0.5"),
            "forbids_matrix": Quantity("The own voxel must hold less matrix.", "0.5"),
            "consumes_matrix": Quantity("Matrix taken when the rule fires.", "0.1"),
        },
        ("name",),
    ),
    "reaction": Record(
        {
            "name": NAME,
            "equation": Text('Such as "RANKL + OPG <-> complex" or "U + 2 V -> 3 V".'),
            "forward": Quantity("Rate constant in powers of M and time.", "0.5 /uM/h"),
            "backward": Quantity("Rate constant of the way back.", "0.5 /h"),
        },
        ("name", "equation", "forward"),
    ),
    "intervention": Record(
        {
            "name": NAME,
            "from": TIME,
            "until": TIME,
            "every": TIME,
            "at": ListOf(TIME, 1, doc="Explicit times, instead of every."),
            "kill": Record(
                {
                    "states": ListOf(REFERENCE, 1),
                    "fraction": FRACTION,
                    "into": Text("empty if not given."),
                    "cluster": Quantity("Kill in blocks of this size.", "50 um"),
                },
                ("states", "fraction"),
            ),
            "factor": MapOf(Quantity("A factor.", "0.1"), "Rules or dotted numbers."),
            "source": Record(
                {
                    "cytokine": REFERENCE,
                    "rate": Quantity("Concentration per time.", "0.1 ng/mL/h"),
                    "where": Text("everywhere if not given.", SEED_PLACES),
                },
                ("cytokine", "rate"),
            ),
        },
        ("name",),
    ),
}

SOURCES = MapOf(
    Record(
        {
            "source": Text("Where the value was found."),
            "doi": Text("Digital object identifier."),
            "label": Text("How far to trust it.", ("read", "recalled", "assumed", "fitted")),
        }
    ),
    "For dotted names of numbers; * stands for anything.",
)
