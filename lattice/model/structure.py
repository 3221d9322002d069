"""What is simulated, as frozen data: the one form that every other room reads.

A `Model` is made from a model file by `lattice.model.load`. Its *structure* (who reacts with
whom, on which lattice) is hashable and static; its *numbers* live apart, in `Model.values`,
under dotted names such as ``rule.engulf.rate``. A field of type `Number` below holds such a
name, never a value, so that one compiled step serves every parameter set.

Canonical units, used everywhere behind the door of the model file:

=================  =========================================================================
length             um
time               hour
amount of a        zg (1e-21 g) for a cytokine whose numbers are masses, so that a
cytokine           concentration in zg/um^3 is one in ng/mL; ymol*1e3 (1e-21 mol) for one whose
                   numbers are moles, so that a concentration is in uM
matrix             voxels (a fraction of one voxel's volume)
rates of rules     1/hour; speeds um/hour; diffusion um^2/hour
=================  =========================================================================

Arrays over the lattice are indexed ``[z, y, x]`` with x fastest; triples in the model file and
in this module are ``(x, y, z)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from .setting import Geometry, Lattice, Output, Solver, Time

Number = str
"""A dotted name into `Model.values`."""

Place = Literal["marrow", "surface", "bone"]
"""Where a cell may be: any voxel that is not bone; such a voxel with bone on one of its six
faces; inside bone."""

ROLES = (
    "osteoblast",
    "osteoclast",
    "lining",
    "reversal",
    "osteocyte",
    "empty_lacuna",
    "apoptotic",
    "efferocyte",
    "debris",
)
"""What a state may be to a histologist: `reversal` cells lie on eroded bone; an `empty_lacuna` is
what a dead osteocyte leaves; `apoptotic` cells are the corpses of the osteoblast lineage;
an `efferocyte` holds one of them; `debris` is a corpse that nobody took in time."""

EMPTY = "empty"
"""The state of a voxel without a cell. Always code 0."""


@dataclass(frozen=True)
class Signal:
    """What a rule may sense. `kind` is "cytokine", "neighbours", "density", "age", "matrix" or
    "time"; `of` names the cytokine or the state ("bone" is allowed for neighbours).

    `of` may join states by "+": their neighbours or densities are added.

    Units: cytokine ng/mL or uM; neighbours a count 0..6; density cells per voxel of the whole
    lattice; age and time hours; matrix the fraction of the own voxel that is filled."""

    kind: str
    of: str | None = None

    @property
    def written(self) -> str:
        """As the model file writes it: "TNF", "neighbours.bone", "age"."""
        if self.kind == "cytokine":
            return str(self.of)
        return self.kind if self.of is None else f"{self.kind}.{self.of}"

    @property
    def members(self) -> tuple[str, ...]:
        """The states (or "bone", or the cytokine) that are sensed together."""
        return tuple((self.of or "").split("+"))


@dataclass(frozen=True)
class Response:
    """A factor on a rate: a shape of one signal x, between `floor` and `ceiling`.

    hill       increases: floor + (ceiling - floor) x^n / (at^n + x^n); decreases: the mirror
    linear     increases: clip(x / at, floor, ceiling); decreases: clip(1 - x / at, floor, ceiling)
    threshold  increases: ceiling where x >= at, else floor; decreases: the mirror
    inverse    decreases: clip(at / x, floor, ceiling); the ceiling where x = 0

    Without a ceiling in the file an inverse response, and a linear one that increases, have the
    ceiling infinity; a linear one that decreases has 1; the other shapes have floor 0 and
    ceiling 1.
    """

    signal: Signal
    shape: Literal["hill", "linear", "threshold", "inverse"]
    effect: Literal["increases", "decreases"]
    at: Number
    power: Number
    floor: Number
    ceiling: Number


@dataclass(frozen=True)
class Toward:
    """A bias of movement: a hop from i to j is taken at (1 + tanh(strength * d)) times its rate,
    d = (c_j - c_i) / ((c_j + c_i) / 2 + half), c a cytokine, a number of neighbours or matrix."""

    signal: Signal
    strength: Number
    half: Number


@dataclass(frozen=True)
class Rule:
    """Reactants become products at a rate.

    kind "site"    one reactant in its voxel; `rate` in 1/hour (of an arrival, in which the reactant
                   is "empty": for each empty voxel)
         "pair"    two reactants that touch on a face; `rate` in 1/hour for each contact
         "move"    (A, B) -> (B, A), B "empty" or a state that gives way; `rate` is the speed in
                   um/hour of a cell that is free on all six sides
         "divide"  (A, B) -> (A', A''); `rate` in 1/hour for a cell that is free on all six sides
    `after`: the rule fires as soon as the age of the first reactant reaches it (a clock, in hours).
    `carries[i]`: which reactant's age product i keeps (None: its age starts at 0).
    Matrix (fractions of a voxel) is that of the first reactant's voxel.
    """

    name: str
    kind: Literal["site", "pair", "move", "divide"]
    reactants: tuple[str, ...]
    products: tuple[str, ...]
    rate: Number | None
    responses: tuple[Response, ...] = ()
    after: Number | None = None
    toward: Toward | None = None
    carries: tuple[int | None, ...] = ()
    needs_matrix: Number | None = None  # own voxel holds at least this much
    forbids_matrix: Number | None = None  # own voxel holds less than this
    consumes_matrix: Number | None = None  # taken from the own voxel when the rule fires


@dataclass(frozen=True)
class Cytokine:
    """A field (or, if systemic, one well-mixed compartment of the whole lattice's volume)."""

    name: str
    amount: Literal["mass", "mole"]
    molar_mass: float | None  # g/mol
    systemic: bool
    diffusion: Number  # um^2/hour
    in_bone: Number  # factor on diffusion inside bone
    decay: Number  # 1/hour
    production: Number  # concentration/hour, everywhere outside bone (systemic: everywhere)
    initial: Number  # concentration
    production_when: tuple[Response, ...] = ()  # factors on the production


@dataclass(frozen=True)
class Reaction:
    """Mass action between cytokines, in molar terms: forward - backward times products.

    `left` and `right` are ((cytokine, stoichiometric number), ...). Rate constants in powers of
    uM and hour."""

    name: str
    left: tuple[tuple[str, int], ...]
    right: tuple[tuple[str, int], ...]
    forward: Number
    backward: Number | None


@dataclass(frozen=True)
class Exchange:
    """Secretion of a cytokine by a cell (amount/hour), or its uptake (um^3/hour of clearance)."""

    cytokine: str
    rate: Number
    responses: tuple[Response, ...] = ()


@dataclass(frozen=True)
class MatrixRate:
    """How fast a cell lays down or removes matrix: voxels/hour, times its responses."""

    rate: Number
    responses: tuple[Response, ...] = ()


@dataclass(frozen=True)
class Seeding:
    """Where cells of a state are at the start: each voxel of a place with a probability.

    `age`: ages are uniform on [0, age] hours."""

    where: Literal["marrow", "surface", "bone", "everywhere"]
    fraction: Number
    age: Number


@dataclass(frozen=True)
class State:
    """A state that a cell can be in."""

    name: str
    lives: frozenset[str]
    secretes: tuple[Exchange, ...] = ()
    takes_up: tuple[Exchange, ...] = ()
    lays: MatrixRate | None = None
    resorbs: MatrixRate | None = None
    when_filled: tuple[tuple[str, Number], ...] = ()
    """Fates and their weights when its voxel is full of matrix. A fate that may live in bone stays
    there; any other moves out into a free neighbouring voxel (its own name: it moves on)."""
    when_resorbed: str = EMPTY  # what a cell inside bone becomes when its voxel is emptied
    when_stranded: str | None = None  # what a surface cell becomes when its surface is gone
    seeding: tuple[Seeding, ...] = ()
    color: str | None = None
    role: str | None = None  # what a histologist would call it; read by measurements alone


@dataclass(frozen=True)
class Matrix:
    """Matrix physics. Osteoid passes through `stages` equal stages of mean total duration `lag`
    (hours) and is then mineral. `initial_surface`: surface voxels start with a uniform random
    fraction of mineral ("uniform"), with none ("none"), or so that a threshold at half shows the
    bone of the geometry ("thresholded": less than half in marrow, or more than half in bone)."""

    lag: Number = "matrix.lag"
    stages: int = 3
    initial_surface: Literal["uniform", "thresholded", "none"] = "none"


@dataclass(frozen=True)
class Schedule:
    """When an intervention acts. Names of numbers in hours: pulses at start, start + every, ...
    before stop; without `every`, one pulse at start (kill) or the window [start, stop)."""

    start: Number
    stop: Number
    every: Number | None = None
    at: tuple[Number, ...] = ()  # explicit times, instead of `every`


@dataclass(frozen=True)
class Intervention:
    """kind "kill": `fraction` of the cells in `states` become `into` at each pulse, cell by cell or
            in blocks of `cluster` um.
    kind "scale": every number in `scales` (dotted name, factor) is multiplied during the window.
    kind "source": `cytokine` gains `rate` (concentration/hour) in the window, in `where`."""

    name: str
    kind: Literal["kill", "scale", "source"]
    schedule: Schedule
    states: tuple[str, ...] = ()
    fraction: Number | None = None
    into: str = EMPTY
    cluster: float | None = None
    scales: tuple[tuple[Number, Number], ...] = ()
    cytokine: str | None = None
    rate: Number | None = None
    where: Literal["marrow", "surface", "bone", "everywhere"] = "everywhere"


@dataclass(frozen=True)
class Parameter:
    """One number of the model: canonical value and unit, and what the user wrote."""

    name: str
    value: float
    unit: str  # the canonical unit, e.g. "1/hour"
    written: str = field(compare=False)  # e.g. "0.167 /min", or "(default)"
    source: str = ""
    doi: str = ""
    label: str = ""  # read, recalled, assumed, fitted
    file: str = field(default="", compare=False)


@dataclass(frozen=True)
class Model:
    """A resolved model. States: "empty" first, then by name; every other table by name."""

    schema: int
    name: str
    lattice: Lattice
    geometry: Geometry
    time: Time
    output: Output
    solver: Solver
    cytokines: tuple[Cytokine, ...]
    states: tuple[State, ...]
    rules: tuple[Rule, ...]
    reactions: tuple[Reaction, ...]
    interventions: tuple[Intervention, ...]
    matrix: Matrix | None  # None: no state touches matrix
    parameters: tuple[Parameter, ...] = ()
    text: str = field(default="", compare=False)  # the resolved model file, as TOML

    @cached_property
    def values(self) -> dict[str, float]:
        """Dotted name -> value in canonical units."""
        return {p.name: p.value for p in self.parameters}

    @cached_property
    def structure(self) -> Model:
        """The model without its numbers and without what only its output and its start need: what
        a compiled step may depend on."""
        return replace(
            self,
            parameters=(),
            text="",
            name="",
            time=replace(self.time, until=0.0),
            states=tuple(replace(s, role=None) for s in self.states),
            output=Output(None, None, None),
            geometry=Geometry(kind=self.geometry.kind),
        )

    def state_codes(self) -> dict[str, int]:
        """State name -> the uint8 code in the array of cells."""
        return {s.name: i for i, s in enumerate(self.states)}

    def with_values(self, **changes: float) -> Model:
        """The same model with some numbers changed (canonical units).

        Use ``with_values(**{"rule.engulf.rate": 0.1})``. Raises KeyError for an unknown name.
        """
        unknown = sorted(set(changes) - set(self.values))
        if unknown:
            raise KeyError(unknown[0])
        parameters = tuple(
            replace(p, value=float(changes[p.name]), written="(set)") if p.name in changes else p
            for p in self.parameters
        )
        return replace(self, parameters=parameters)
