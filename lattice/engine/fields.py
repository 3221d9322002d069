"""The field part of a step: what cells secrete and take up, diffusion, decay, reactions."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, Integer, UInt8

from lattice.engine.declare import has_bone, local_cytokines, systemic_cytokines
from lattice.engine.flux import responses
from lattice.engine.lists import in_batches, in_states, places, written
from lattice.engine.numbers import Numbers
from lattice.engine.region import Region, over_devices
from lattice.engine.signals import SiteView, Surroundings, is_global
from lattice.kernels import (
    diffusion_exact,
    diffusion_implicit,
    mass_action,
    multigrid_levels,
    time_scheme,
)
from lattice.kernels.ordered_sum import sum_lattice
from lattice.model.structure import Model

EXCHANGE_ONE = 1 << 12
"""Fixed point of the exchange of single cells with a systemic compartment, so that its sum over
the lattice does not depend on the order."""


@dataclass(frozen=True)
class Exchanges:
    """Secretion into and uptake from the local fields, and totals for the systemic ones.

    `source` in concentration/hour, `sink` in 1/hour (None if no state takes up); `systemic_source`
    and `systemic_sink` are the same for the compartments of the whole lattice's volume."""

    source: Float[Array, "Z Y X S"] | None
    sink: Float[Array, "Z Y X S"] | None
    systemic_source: Float[Array, "T"]
    systemic_sink: Float[Array, "T"]


def has_constant_coefficients(model: Model) -> bool:
    """Whether diffusion and decay are the same everywhere, so that the exact path serves."""
    takes_up = any(_is_local(model, e.cytokine) for s in model.states for e in s.takes_up)
    uniform = all(model.values[c.in_bone] == 1.0 for c in local_cytokines(model))
    return not takes_up and (uniform or not has_bone(model))


def _is_local(model: Model, name: str) -> bool:
    return any(c.name == name for c in local_cytokines(model))


def exchanges(around: Surroundings, numbers: Numbers, capacity: int) -> Exchanges:
    """What the cells exchange with the cytokines at this moment."""
    model, region = around.model, around.region
    local = [c.name for c in local_cytokines(model)]
    states = model.states
    secretors = tuple(i for i, s in enumerate(states) if s.secretes)
    takers = tuple(i for i, s in enumerate(states) if s.takes_up)
    volume = model.lattice.voxel**3
    source = _production(around, numbers) if local else None
    sink = None
    if local and any(_is_local(model, e.cytokine) for s in states for e in s.takes_up):
        sink = jnp.zeros((region.size, len(local)), jnp.float32)

    def work(index, carry):
        source, sink = carry
        listed = index < region.size
        view = around.at(index)
        own = around.cells[view.index]
        where = places(listed, view.index, region.size)
        if source is not None:
            rows = _rates(model, local, own, view, numbers, "secretes") / volume
            base = source[view.index]
            source = written(source, where, base + rows)
        if sink is not None:
            rows = _rates(model, local, own, view, numbers, "takes_up") / volume
            sink = written(sink, where, rows)
        return source, sink

    mask = in_states(around.cells, tuple(sorted({*secretors, *takers})))
    source, sink = in_batches(mask, capacity, work, (source, sink))
    shape = (*region.padded, len(local))
    totals = _systemic_exchange(around, numbers, capacity)
    return Exchanges(
        None if source is None else region.strip(source.reshape(shape)),
        None if sink is None else region.strip(sink.reshape(shape)),
        *totals,
    )


def _production(around: Surroundings, numbers: Numbers) -> Float[Array, "V S"]:
    """Basal production everywhere outside bone."""
    cytokines = local_cytokines(around.model)
    basal = jnp.stack([numbers[c.production] for c in cytokines])
    open_space = jnp.ones(around.cells.shape, jnp.float32)
    if around.bone is not None:
        open_space = 1.0 - around.bone.astype(jnp.float32)
    if not any(c.production_when for c in cytokines):
        return open_space[:, None] * basal
    view = around.at(jnp.arange(around.region.size, dtype=jnp.int32))
    factors = [
        jnp.broadcast_to(responses(c.production_when, view, numbers), open_space.shape)
        for c in cytokines
    ]
    return open_space[:, None] * basal * jnp.stack(factors, axis=-1)


def _rates(model, names, own, view: SiteView, numbers: Numbers, kind: str):
    """Amounts (or clearances) per hour of each listed cell for the named cytokines."""
    constant = jnp.zeros((len(model.states), len(names)), jnp.float32)
    varying = []
    for code, state in enumerate(model.states):
        for exchange in getattr(state, kind):
            if exchange.cytokine not in names:
                continue
            column = names.index(exchange.cytokine)
            if exchange.responses:
                varying.append((code, column, exchange))
            else:
                constant = constant.at[code, column].set(numbers[exchange.rate])
    rows = constant[own]
    for code, column, exchange in varying:
        rate = numbers[exchange.rate] * responses(exchange.responses, view, numbers)
        rows = rows.at[:, column].set(jnp.where(own == code, rate, rows[:, column]))
    return rows


def _systemic_exchange(around: Surroundings, numbers: Numbers, capacity: int):
    """Source (concentration/hour) and sink (1/hour) of each systemic compartment.

    Factors of single cells are rounded to 1/4096 and summed as integers; those that are the same
    for all cells are applied to the sum."""
    model = around.model
    names = [c.name for c in systemic_cytokines(model)]
    totals = []
    volume = model.lattice.voxel**3 * float(np.prod(model.lattice.shape, dtype=np.float64))
    for kind in ("secretes", "takes_up"):
        total = jnp.zeros(len(names), jnp.float32)
        for code, state in enumerate(model.states):
            for exchange in getattr(state, kind):
                if exchange.cytokine in names:
                    cells = _effective_cells(around, code, exchange, numbers, capacity)
                    column = names.index(exchange.cytokine)
                    total = total.at[column].add(numbers[exchange.rate] * cells / volume)
        if kind == "secretes" and names:
            basal = [
                numbers[c.production] * _global_factor(around, c.production_when, numbers)
                for c in systemic_cytokines(model)
            ]
            total = total + jnp.stack(basal)
        totals.append(total)
    return totals


def _global_factor(around: Surroundings, specs, numbers: Numbers) -> Float[Array, ""] | float:
    """The product of responses to signals that are the same everywhere."""
    if not specs:
        return 1.0
    return jnp.asarray(responses(specs, around.at(jnp.zeros(1, jnp.int32)), numbers))[0]


def _effective_cells(around, code, exchange, numbers, capacity) -> Float[Array, ""]:
    """Number of cells of a state, each weighted by its responses, in a fixed order."""
    region = around.region
    shared = [r for r in exchange.responses if is_global(around.model, r.signal)]
    single = [r for r in exchange.responses if r not in shared]

    def work(index, carry):
        low, high = carry
        view = around.at(index)
        factor = jnp.broadcast_to(
            jnp.asarray(responses(single, view, numbers), jnp.float32), index.shape
        )
        listed = region.owned(view.index) & (index < region.size)
        fixed = jnp.where(listed, jnp.round(factor * EXCHANGE_ONE), 0).astype(jnp.int32)
        more, most = sum_in_limbs(fixed)
        return carried(low + more, high + most)

    zero = jnp.int32(0)
    low, high = in_batches(around.cells == code, capacity, work, (zero, zero))
    low, high = carried(region_sum(low, region), region_sum(high, region))
    cells = high.astype(jnp.float32) + low.astype(jnp.float32) / EXCHANGE_ONE
    return cells * _global_factor(around, shared, numbers)


def carried(low: Int32[Array, ""], high: Int32[Array, ""]):
    """The same number with the low limb below `EXCHANGE_ONE`."""
    return low % EXCHANGE_ONE, high + low // EXCHANGE_ONE


def sum_in_limbs(fixed: Int32[Array, "N"]) -> tuple[Int32[Array, ""], Int32[Array, ""]]:
    """The sum of fixed-point factors as (parts, wholes) of `EXCHANGE_ONE`.

    Each limb of a row of 1024 factors and of all rows fits 32 bits as long as there are fewer than
    5e8 of them, each below 512, and their sum is below 2**31 wholes."""
    rows = jnp.sum(jnp.pad(fixed, (0, -fixed.shape[0] % 1024)).reshape(-1, 1024), axis=1)
    return carried(jnp.sum(rows % EXCHANGE_ONE), jnp.sum(rows // EXCHANGE_ONE))


def region_sum(value: Integer[Array, "..."], region: Region) -> Integer[Array, "..."]:
    """Sum of an integer over all devices."""
    return over_devices(jax.lax.psum, value, region)


@dataclass(frozen=True)
class FieldMethod:
    """How the fields are advanced: by the exact path (constant coefficients) or implicitly."""

    exact: bool
    scheme: str
    iterations: int | None
    dt: float  # hours of one solve

    @property
    def solves(self) -> int:
        """Systems of equations in one solve; the exact path has none."""
        method = time_scheme.scheme_of(self.scheme)
        return 0 if self.exact else method.substeps * len(method.iterations)


def prepare(
    model: Model,
    region: Region,
    method: FieldMethod,
    numbers: Numbers,
    bone: UInt8[Array, "Z Y X"] | None,
):
    """What the solver keeps between steps: a basis, or coarse levels that depend on the bone."""
    cytokines = local_cytokines(model)
    if not cytokines:
        return ()
    if method.exact:
        return diffusion_exact.build_basis(region.shape, periodic=region.periodic)
    factors = jnp.stack([numbers[c.in_bone] for c in cytokines])
    return multigrid_levels.build_coarse_levels(
        _bone_or_none(bone, region), factors, periodic=region.periodic, blocks=region.blocks
    )


def _bone_or_none(bone: UInt8[Array, "Z Y X"] | None, region: Region) -> UInt8[Array, "Z Y X"]:
    """Zeros for a model that knows no bone."""
    return jnp.zeros(region.block, jnp.uint8) if bone is None else bone


def solve(
    model: Model,
    region: Region,
    method: FieldMethod,
    prepared,
    numbers: Numbers,
    fields: Float[Array, "Z Y X S"],
    exchange: Exchanges,
    bone: UInt8[Array, "Z Y X"] | None,
    look: Bool[Array, ""] | None = None,
):
    """One solve of length `method.dt`: new fields, their budget (produced, decayed, consumed, made
    by reactions), each in concentration times voxels, and where `look` is true what the solver
    left of its residual (None: the exact path leaves none, or nobody asks)."""
    cytokines = local_cytokines(model)
    assert exchange.source is not None
    diffusion = jnp.stack([numbers[c.diffusion] for c in cytokines])
    decay = jnp.stack([numbers[c.decay] for c in cytokines])
    system = reactions_of(model, [c.name for c in cytokines], numbers)
    made, residual = jnp.zeros(len(cytokines), jnp.float32), None
    if system is not None:
        fields, gain = _react(fields, method.dt / 2, system, region)
        made = made + gain
    if method.exact:
        fields, budget = diffusion_exact.step_exact(
            fields,
            exchange.source,
            prepared,
            diffusion,
            decay,
            method.dt,
            voxel=model.lattice.voxel,
            blocks=region.blocks,
        )
    else:
        hierarchy = multigrid_levels.with_finest(
            _bone_or_none(bone, region),
            jnp.stack([numbers[c.in_bone] for c in cytokines]),
            prepared,
            periodic=region.periodic,
            blocks=region.blocks,
        )
        fields, budget, residual = diffusion_implicit.step_implicit(
            fields,
            exchange.source,
            exchange.sink,
            hierarchy,
            diffusion,
            decay,
            method.dt,
            voxel=model.lattice.voxel,
            scheme=method.scheme,
            iterations=method.iterations,
            periodic=region.periodic,
            blocks=region.blocks,
            look=look,
        )
    if system is not None:
        fields, gain = _react(fields, method.dt / 2, system, region)
        made = made + gain
    moved = jnp.stack([budget.produced, budget.decayed, budget.consumed, made], axis=1)
    return fields, moved, residual


def reactions_of(model: Model, names: list[str], numbers: Numbers):
    """Reactions among the named cytokines in the form that `mass_action.react` takes, or None."""
    chosen = [r for r in model.reactions if all(c in names for c, _ in (*r.left, *r.right))]
    if not chosen:
        return None
    static = tuple(
        mass_action.MassAction(
            tuple((names.index(c), n) for c, n in r.left),
            tuple((names.index(c), n) for c, n in r.right),
            r.backward is not None,
        )
        for r in chosen
    )
    zero = jnp.float32(0)
    forward = jnp.stack([numbers[r.forward] for r in chosen])
    backward = jnp.stack([zero if r.backward is None else numbers[r.backward] for r in chosen])
    return static, forward, backward, jnp.asarray(molar_factors(model, names))


def molar_factors(model: Model, names: list[str]) -> np.ndarray:
    """uM per unit of internal concentration: 1 for moles; 1 ng/mL is 1/M uM for M in g/mol."""
    by_name = {c.name: c for c in model.cytokines}
    return np.array(
        [
            1.0 if by_name[n].amount == "mole" else 1.0 / (by_name[n].molar_mass or 1.0)
            for n in names
        ],
        np.float32,
    )


def solve_systemic(
    model: Model, numbers: Numbers, levels: Float[Array, "T"], exchange: Exchanges, dt: float
):
    """The well-mixed compartments: exact for constant source, decay and uptake; reactions as for
    the fields. Returns levels and the budget per compartment in concentration times voxels."""
    cytokines = systemic_cytokines(model)
    voxels = float(np.prod(model.lattice.shape, dtype=np.float64))
    decay = jnp.stack([numbers[c.decay] for c in cytokines])
    system = reactions_of(model, [c.name for c in cytokines], numbers)
    start = levels
    made = jnp.zeros(len(cytokines), jnp.float32)
    if system is not None:
        levels, gain = _react(levels, dt / 2, system)
        made, start = made + gain, levels
    loss = decay + exchange.systemic_sink
    weight = jnp.where(loss * dt > 1e-6, -jnp.expm1(-loss * dt) / jnp.maximum(loss, 1e-30), dt)
    levels = levels * jnp.exp(-loss * dt) + exchange.systemic_source * weight
    produced = exchange.systemic_source * dt
    lost = start + produced - levels
    share = jnp.where(loss > 0, decay / jnp.where(loss > 0, loss, 1), 0)
    budget = [produced, lost * share, lost * (1 - share)]
    if system is not None:
        levels, gain = _react(levels, dt / 2, system)
        made = made + gain
    return levels, jnp.stack([*budget, made], axis=1) * voxels


def _react(values: Float[Array, "*voxels S"], dt: float, system, region: Region | None = None):
    """Reactions for a time: new values and what they have made of each species in all (of fields:
    summed over the lattice; negative for what they use up)."""
    reactions, forward, backward, factor = system
    changed = mass_action.changed_species(values, reactions, forward, backward, factor, dt)
    gain = jnp.zeros(values.shape[-1], values.dtype)
    for species, (before, column) in changed.items():
        more = column - before
        gain = gain.at[species].set(more if region is None else sum_lattice(more, region.blocks))
    after = {species: column for species, (_, column) in changed.items()}
    return mass_action.with_columns(values, after), gain
