"""Relaxations: observables as differentiable functions of the numbers of a model.

A relaxation replaces what is drawn by its mean, so that its gradient is exact *for itself*; it is
an approximation of the sampled simulator, and its gradient is never the simulator's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from lattice.engine import mean_field
from lattice.engine.declare import has_bone
from lattice.engine.devices import region_of
from lattice.engine.interventions import due_steps
from lattice.engine.numbers import Numbers, numbers_of
from lattice.engine.plan import plan_of
from lattice.inference import closure
from lattice.inference.closure_view import count_places
from lattice.inference.course import MEMORY, bytes_of, course, lengths_of
from lattice.inference.observables import (
    VoxelClasses,
    check_observables,
    check_parameters,
    read_state,
)
from lattice.kernels.random_bits import seed_words
from lattice.model.errors import InputError
from lattice.model.geometry import synthetic_bone
from lattice.model.kinds import did_you_mean
from lattice.model.stages import stage_codes, staged
from lattice.model.structure import Model

READINGS = ("mean_field", "pair_closure")

FIXED_TURNS = (
    "voxels turn to bone and marrow at the times that they do, which are not differentiated"
)

STAGES = 4
"""Stages in the place of a clock: its time then has a standard deviation of half its mean."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """``S(numbers) -> [T, O]``: the observables (columns) at the times (rows).

    `numbers` maps dotted names to scalars in canonical units (um, hour); the model's own values
    stand for those that are left out. Pure and traceable: wrap it in `jax.jit`, `jax.jacfwd`,
    `jax.jacrev`, `jax.vmap` as you like. `units` are those of the columns.
    """

    model: Model
    staged: Model
    observables: tuple[str, ...]
    times: tuple[float, ...]
    reading: str
    bone: np.ndarray | None
    seed: int
    iterations: int
    dtype: str
    memory: float | int
    classes: VoxelClasses | None = None

    def __call__(
        self, numbers: Mapping[str, ArrayLike], due: Bool[Array, "N I"] | None = None
    ) -> Float[Array, "T O"]:
        """The observables, with interventions in the steps of `due` (default: `due` of the model).
        Raises InputError for a name that is no number of the model."""
        read = self._mean_field if self.reading == "mean_field" else self._pair_closure
        due = jnp.asarray(self.due(self.model)) if due is None else due
        return read(self._numbers(numbers), due)

    def due(self, model: Model) -> Bool[np.ndarray, "N I"]:
        """The steps in which the interventions of a model of this structure act: its schedule is
        turned into steps here, so that no derivative knows of it."""
        return due_steps(model, 0, int(steps_of(model, self.times).max()))

    def _numbers(self, changes: Mapping[str, ArrayLike]) -> Numbers:
        names = check_parameters(self.model, tuple(changes))
        base = numbers_of(self.model, np.dtype(self.dtype).type)
        return base.replaced({n: jnp.asarray(changes[n], base.values.dtype) for n in names})

    def _without_stages(self, counts: Float[Array, "K"]) -> Float[Array, "C"]:
        """Cells of each state of the model, whatever stage they are in."""
        codes = self.staged.state_codes()
        stages = [stage_codes(self.staged, codes[s.name]) for s in self.model.states]
        return jnp.stack([jnp.sum(counts[np.array(found)]) for found in stages])

    @property
    def note(self) -> str:
        """What the derivative leaves out or replaces; empty where it does nothing of the kind."""
        notes = []
        if self.reading == "mean_field" and self.model.matrix is not None:
            notes.append(FIXED_TURNS)
        if self.staged is not self.model:
            count = 1 + sum("#" in s.name for s in self.staged.states) // len(self._clocks)
            notes.append(f"clocks ({', '.join(self._clocks)}) are chains of {count} stages")
        return "; ".join(notes)

    @property
    def _clocks(self) -> list[str]:
        return [r.after for r in self.model.rules if r.after is not None]

    def _mean_field(self, numbers: Numbers, due: Bool[Array, "N I"]) -> Float[Array, "T O"]:
        model, region = self.staged, region_of(self.model)
        plan = plan_of(model, region, region.size, iterations=self.iterations)
        rows = steps_of(model, self.times)
        words = jnp.asarray(seed_words(self.seed))
        bone = None if self.bone is None else jnp.asarray(self.bone)
        state = mean_field.initial_mean(model, region, numbers, words, bone)

        def measure(state: mean_field.State) -> Float[Array, "O"]:
            counts = self._without_stages(mean_field.counts(state))
            return read_state(self.model, self.observables, state, counts, self.classes)

        # To make contacts anew costs time where all that they keep would stay in a cache.
        all_kept = due.shape[0] * mean_field.kept_in_step(plan, state)
        frugal = all_kept > 1e9 * self.memory
        kept = bytes_of(state), mean_field.kept_in_step(plan, state, frugal=frugal)
        step = mean_field.stepping(plan, numbers, state, frugal=frugal)
        return self._course(step, state, due, measure, kept)[jnp.asarray(rows)]

    def _pair_closure(self, numbers: Numbers, due: Bool[Array, "N I"]) -> Float[Array, "T O"]:
        model, region = self.staged, region_of(self.staged)
        plan = plan_of(model, region, region.size)
        rows = steps_of(model, self.times)
        places = count_places(model, self.bone)

        def measure(state: closure.State) -> Float[Array, "O"]:
            counts = self._without_stages(state["size"] @ state["x"])
            return read_state(self.model, self.observables, closure.whole(places, state), counts)

        @jax.checkpoint
        def step(state, due):
            return closure.one_step(plan, places, numbers, state, due)

        state = closure.initial(model, places, numbers)
        kept = bytes_of(state), bytes_of(state)
        return self._course(step, state, due, measure, kept)[jnp.asarray(rows)]

    def _course(self, step, state, due, measure, kept: tuple[int, int]) -> Float[Array, "N O"]:
        lengths = lengths_of(max(1, due.shape[0]), *kept, float(self.memory))
        return course(step, state, due, measure, lengths)


def relaxation(
    model: Model,
    observables: Sequence[str],
    times: Sequence[float],
    *,
    reading: str = "mean_field",
    bone: np.ndarray | None = None,
    seed: int = 0,
    iterations: int = 12,
    stages: int = STAGES,
    dtype: str = "float32",
    memory: float | int = MEMORY,
    classes: VoxelClasses | None = None,
) -> Relaxation:
    """The observables of a model at some times (hours) as a function of its numbers.

    `observables`: names of the series of a run (states, "BV/TV", "osteoid", "mineral",
    "<cytokine>.mean", "<cytokine>.present"). `bone`: uint8 [z, y, x]; without it the synthetic bone
    that a run with this `seed` starts with. `iterations` of conjugate gradients for every field
    solve, forward and backward (`diffusion_implicit.step_implicit`). `stages` stand for each clock
    (`after`; see `lattice.model.stages`). `dtype` "float64" needs
    `jax.enable_x64`. `memory`: GB that a derivative in reverse may keep of the steps (`course`);
    what one step takes while it is worked on comes on top. `classes` of voxels are observables
    too, of the mean field alone. Raises InputError for an unknown reading or observable, a time
    before 0 and an image of bone that is not given, a response to age, and two clocks of one state.
    """
    if reading not in READINGS:
        hint = did_you_mean(reading, READINGS)
        raise InputError(f'reading "{reading}": there is no such relaxation; {hint}')
    names = check_observables(model, observables, classes)
    steps_of(model, times)
    if reading == "pair_closure":
        closure.require_closure(model)
        if classes is not None:
            raise InputError("the pair closure knows no single voxels; write reading mean_field")
    hours = tuple(float(t) for t in times)
    bone = starting_bone(model, seed, bone)
    return Relaxation(
        model, staged(model, stages), names, hours, reading, bone, seed, iterations, dtype, memory,
        classes,
    )  # fmt: skip


def starting_bone(model: Model, seed: int, bone: np.ndarray | None) -> np.ndarray | None:
    """The bone that a reading starts with, uint8 [z, y, x]; None for a model that knows none.

    Raises InputError if it would be an image (give it as an array), or has another shape."""
    if not has_bone(model):
        return None
    if bone is None and model.geometry.kind == "image":
        raise InputError(
            "geometry.image: a reading reads no files; "
            "write bone=lattice.run.bone_of(model, seed) to give it the segmented image"
        )
    if bone is None:
        return synthetic_bone(model.geometry, model.lattice, seed)
    found, wanted = np.shape(bone), model.lattice.shape[::-1]
    if found != wanted:
        raise InputError(f"bone: the array has the shape {found}; write one of shape {wanted}")
    return (np.asarray(bone) != 0).astype(np.uint8)


def steps_of(model: Model, times: Sequence[float]) -> np.ndarray:
    """The steps nearest to some times in hours. Raises InputError for a time before 0 or none."""
    if not len(times):
        raise InputError("no time is given; write at least one, in hours")
    for hours in times:
        if not (np.isfinite(hours) and hours >= 0):
            raise InputError(f"time {hours} h: not a time of a run; write a number of hours from 0")
    return np.rint(np.asarray(times, float) / model.time.step).astype(int)


def jit_jacobian(function: Relaxation):
    """``numbers -> (S, dS/dnumbers)``, compiled: one tangent for each number that is given."""

    def both(numbers):
        value = function(numbers)
        return value, value

    return jax.jit(lambda numbers: jax.jacfwd(both, has_aux=True)(numbers)[::-1])
