"""From the rule table to fluxes: hazards, and how competing hazards share a step.

For rule r with reactants (a, b) the flux is f_r = q_r x[a] y[b], with
q_r = (h_r / H) (1 - exp(-H)), H the sum of the hazards (rate times step, dimensionless) of the
rules that compete for the same reactants. Every reading of the model uses these q; only the map
from flux to what happens differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.numbers import Numbers
from lattice.engine.signals import CERTAIN
from lattice.engine.table import Entry, Group, Table
from lattice.kernels.backend import on_cpu
from lattice.model.structure import Response, Rule, Signal, Toward

UNLIMITED = 1.0e30
"""What stands for infinity in a factor, so that its product with 0 is 0."""


@runtime_checkable
class View(Protocol):
    """Signals at a set of places."""

    def read(self, signal: Signal) -> Float[Array, "..."]:
        """The value of a signal."""
        ...

    def is_global(self, signal: Signal) -> bool:
        """Whether a signal is the same everywhere."""
        ...

    def may_live(self, places: frozenset[str]) -> Array | bool:
        """Whether a cell that lives in `places` may be there."""
        ...

    def clocked(
        self, hazard: Float[Array, "..."], source: int, after: Float[Array, ""], dt: float
    ) -> Float[Array, "..."]:
        """The hazard of a rule with a clock that rings at the age `after` of state `source`."""
        ...

    @property
    def matrix(self) -> Array:
        """Matrix in the own voxel, fixed point."""
        ...


def response(spec: Response, x: Float[Array, "..."], numbers: Numbers) -> Float[Array, "..."]:
    """The factor that a signal puts on a rate (`Response` gives the formulas)."""
    at, floor, ceiling = numbers[spec.at], numbers[spec.floor], numbers[spec.ceiling]
    rising = spec.effect == "increases"
    if spec.shape == "linear":
        return jnp.clip(x / at if rising else 1 - x / at, floor, ceiling)
    if spec.shape == "inverse":
        present = x > 0
        ratio = jnp.where(present, at / jnp.where(present, x, 1), UNLIMITED)
        return jnp.clip(ratio, floor, ceiling)
    if spec.shape == "threshold":
        return jnp.where((x >= at) == rising, ceiling, floor)
    share = _hill(x, at, numbers[spec.power])
    return floor + (ceiling - floor) * (share if rising else 1 - share)


def _hill(x, at, power):
    """x^n / (at^n + x^n) with finite derivatives, also where x is 0 or next to it."""
    present = x > 1e-12 * at
    ratio = at / jnp.where(present, x, at)
    raised = _raised(ratio, power)
    faint = jnp.where(power == 1, x * (1 / at), 0)
    return jnp.where(present, 1 / (1 + raised), faint)


@jax.custom_jvp
def _raised(ratio, power):
    """ratio^power of numbers above 0."""
    # A power of one is by far the most frequent, and a float power is the costliest operation on a
    # CPU; a GPU takes longer to ask.
    if not on_cpu():
        return jnp.where(power == 1, ratio, jnp.power(ratio, power))
    return jax.lax.cond(power == 1, lambda r: r, lambda r: jnp.power(r, power), ratio)


@_raised.defjvp
def _raised_slope(primals, tangents):
    # The shortcut above knows nothing of the power: its slope there would be lost.
    (ratio, power), (along_ratio, along_power) = primals, tangents
    raised = _raised(ratio, power)
    slope = raised * (power / ratio * along_ratio + jnp.log(ratio) * along_power)
    return raised, slope


def responses(
    specs: Sequence[Response], view: View, numbers: Numbers
) -> Float[Array, "..."] | float:
    """The product of the factors of all responses."""
    factor = 1.0
    for spec in specs:
        factor = factor * response(spec, view.read(spec.signal), numbers)
    return factor


def hop_hazard(expected: Float[Array, "..."]) -> Float[Array, "..."]:
    """Hazard of one hop over a bond such that the mean-square displacement is exact.

    A step visits both bonds of a cell on an axis in random order, which gives the displacement
    2 p + 2 p^2 (in voxels squared) for hop probability p. It equals that of a walk in continuous
    time, 2 k dt, if p + p^2 = k dt =: `expected`.
    """
    p = 2 * expected / (1 + jnp.sqrt(1 + 4 * expected))
    return -jnp.log1p(-jnp.minimum(p, 1 - 1e-6))


def rule_of(entry: Entry) -> Rule:
    """The rule of an entry that is neither a fate nor the loss of a surface."""
    assert entry.rule is not None
    return entry.rule


def site_hazard(
    entry: Entry, source: int, view: View, table: Table, numbers: Numbers, dt: float
) -> Float[Array, "..."]:
    """Hazard of a site rule during one step at the places of a view."""
    rule = rule_of(entry)
    hazard = _rated(rule, view, numbers, dt)
    if rule.after is not None:
        hazard = view.clocked(hazard, source, numbers[rule.after], dt)
    return hazard * _allowed(rule, (source,), entry.products, (view,), view, table, numbers)


def pair_hazard(
    entry: Entry,
    reactants: tuple[int, int],
    views: tuple[View, View],
    table: Table,
    numbers: Numbers,
    dt: float,
    voxel: float,
) -> Float[Array, "..."]:
    """Hazard of a pair rule during one contact sub-step; `views` are at its group's reactants."""
    rule = rule_of(entry)
    actor, other = views[entry.actor], views[1 - entry.actor]
    if rule.kind == "move":
        assert rule.rate is not None
        expected = (
            numbers[rule.rate] * (dt / (6 * voxel)) * responses(rule.responses, actor, numbers)
        )
        if rule.toward is not None:
            expected = expected * _bias(rule.toward, actor, other, numbers)
        hazard = hop_hazard(expected)
    elif rule.kind == "divide":
        hazard = _rated(rule, actor, numbers, dt / 6)
    else:
        hazard = _rated(rule, actor, numbers, dt)
    allowed = _allowed(rule, reactants, entry.products, views, actor, table, numbers)
    return entry.share * hazard * allowed


def site_bound(
    entry: Entry, anywhere: View, numbers: Numbers, dt: float
) -> Float[Array, ""] | float:
    """A hazard that `site_hazard` never exceeds, rounding apart; `anywhere` is one place, at which
    the signals that are the same everywhere are read."""
    if entry.stranded or rule_of(entry).rate is None:
        return CERTAIN
    return _most(rule_of(entry), numbers, anywhere) * dt


def pair_bound(entry: Entry, numbers: Numbers, dt: float, voxel: float) -> Float[Array, ""] | float:
    """A hazard that `pair_hazard` never exceeds."""
    rule = entry.rule
    if rule is None:
        return CERTAIN
    most = _most(rule, numbers) * dt
    if rule.kind == "move":
        biased = 1 if rule.toward is None else 2
        return hop_hazard(biased * most / (6 * voxel))
    return most / 6 if rule.kind == "divide" else most


def _most(rule: Rule, numbers: Numbers, anywhere: View | None = None):
    """The rate with the largest factors that the responses can give."""
    assert rule.rate is not None
    factor = numbers[rule.rate]
    for spec in rule.responses:
        if anywhere is not None and anywhere.is_global(spec.signal):
            factor = factor * response(spec, anywhere.read(spec.signal), numbers)[0]
        else:
            factor = factor * jnp.maximum(numbers[spec.ceiling], numbers[spec.floor])
    return factor


def _rated(rule: Rule, view: View, numbers: Numbers, dt: float):
    if rule.rate is None:
        return jnp.float32(0)
    return numbers[rule.rate] * dt * responses(rule.responses, view, numbers)


def _bias(toward: Toward, here: View, there: View, numbers: Numbers):
    """1 + tanh of the relative difference of a signal over the hop: Weber's law, bounded by 2."""
    near, far = here.read(toward.signal), there.read(toward.signal)
    scale = (near + far) / 2 + numbers[toward.half]
    difference = jnp.where(scale > 0, (far - near) / jnp.where(scale > 0, scale, 1), 0)
    return 1 + jnp.tanh(numbers[toward.strength] * difference)


def _allowed(rule, reactants, products, views, actor, table, numbers):
    """1 where the products may live and the matrix is as the rule wants it, else 0."""
    allowed = True
    for place, (before, after) in enumerate(zip(reactants, products, strict=True)):
        if before != after and after != 0:
            allowed = allowed & jnp.asarray(views[place].may_live(table.lives(after)))
        if before == 0 and after != 0 and table.fills and "bone" not in table.lives(after):
            # A voxel that is full and not yet bone has no room: its cell would be lost in it.
            allowed = allowed & (views[place].matrix < MATRIX_ONE)
    filled = actor.matrix
    for name, fits in (
        (rule.needs_matrix, jnp.greater_equal),
        (rule.consumes_matrix, jnp.greater_equal),
        (rule.forbids_matrix, jnp.less),
    ):
        if name is not None:
            allowed = allowed & fits(filled, jnp.round(numbers[name] * MATRIX_ONE))
    return jnp.asarray(allowed).astype(jnp.float32)


def shares(hazards: Sequence[Float[Array, "..."]]) -> list[Float[Array, "..."]]:
    """q_r of competing rules from their hazards."""
    total = sum(hazards[1:], hazards[0])
    # Below, (1 - exp(-H)) / H is 1 - H / 2, whose derivative divides by no square that vanishes.
    plain = total > 1e-12
    ratio = -jnp.expm1(-total) / jnp.where(plain, total, 1)
    per_hazard = jnp.where(plain, ratio, 1 - total / 2)
    return [h * per_hazard for h in hazards]


def choose(hazards: Sequence[Float[Array, "..."]], uniform: Float[Array, "N"]) -> Int32[Array, "N"]:
    """Which of the competing rules fires: its position, or their number if none does.

    A hazard is one number or one for each draw. The intervals of [0, 1) are laid side by side in
    the order given, so that a rule of hazard 0 has an empty interval and moves no other."""
    chosen = jnp.zeros(uniform.shape, jnp.int32)
    edge = jnp.zeros(uniform.shape, uniform.dtype)
    for share in shares(hazards):
        edge = edge + share
        chosen = chosen + (uniform >= edge).astype(jnp.int32)
    return chosen


def group_offsets(groups: Sequence[Group]) -> tuple[int, ...]:
    """Position of each group's first entry when all entries stand in one list."""
    offsets, total = [], 0
    for group in groups:
        offsets.append(total)
        total += len(group.entries)
    return tuple(offsets)
