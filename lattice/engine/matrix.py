"""Bone matrix: laid down as osteoid, mineralised after a lag, resorbed, in fixed point.

All amounts are integers (`MATRIX_ONE` is one full voxel), so that what was formed minus what was
resorbed equals the change of bone volume exactly, in any order of summation.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8, UInt32

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.flux import responses
from lattice.engine.lists import in_batches, in_states, places, written
from lattice.engine.numbers import Numbers
from lattice.engine.region import Region, over_devices
from lattice.engine.sampled import Draws, fate_of
from lattice.engine.signals import SiteView, Surroundings
from lattice.engine.table import Table
from lattice.kernels.fusion import stored
from lattice.kernels.random_bits import voxel_uniform


@dataclass(frozen=True)
class Deposit:
    """The matrix of each voxel, by age."""

    osteoid: Int32[Array, "Z K Y X"]
    mineral: Int32[Array, "Z Y X"]


def matrix_total(
    osteoid: Int32[Array, "Z K Y X"], mineral: Int32[Array, "Z Y X"]
) -> Int32[Array, "Z Y X"]:
    """Matrix of any age in each voxel."""
    for k in range(osteoid.shape[1]):
        mineral = mineral + osteoid[:, k]
    return mineral


def laid_and_wanted(
    around: Surroundings, table: Table, numbers: Numbers, draws: Draws, capacity: int
) -> tuple[Int32[Array, "V"], Int32[Array, "V"]]:
    """Osteoid that cells lay into pits beside them or into their own voxels, and matrix that
    resorbing cells want from each voxel (padded block; wants may exceed what is there)."""
    states = table.states
    builders = tuple(c for c, s in enumerate(states) if s.lays is not None)
    resorbers = tuple(c for c, s in enumerate(states) if s.resorbs is not None)

    bone, faces, matrix = around.bone, around.bone_faces, around.matrix
    assert bone is not None
    assert faces is not None
    assert matrix is not None

    def work(index, carry):
        laid, wanted = carry
        listed = index < around.region.size
        view = around.at(index)
        own = around.cells[view.index]
        target, found = _emptiest_bone(around, view, draws)
        if builders:
            amount = _amount([(c, states[c].lays) for c in builders], own, view, numbers)
            free = (bone[view.index] == 0) & (faces[view.index] > 0)
            amount = jnp.where(listed & free, amount, 0)
            # A pit that resorption has left is filled before the surface moves outward.
            space = jnp.where(found, jnp.maximum(MATRIX_ONE - matrix[target], 0), 0)
            refilled = jnp.minimum(amount, space)
            laid = _added(laid, target, refilled)
            space = jnp.maximum(MATRIX_ONE - view.matrix, 0)
            laid = _added(laid, view.index, jnp.minimum(amount - refilled, space))
        if resorbers:
            amount = _amount([(c, states[c].resorbs) for c in resorbers], own, view, numbers)
            own_share = jnp.minimum(amount, view.matrix)
            wanted = _added(wanted, view.index, jnp.where(listed, own_share, 0))
            rest = jnp.where(listed & found, amount - own_share, 0)
            wanted = _added(wanted, target, rest)
        return laid, wanted

    zeros = jnp.zeros(around.cells.shape, jnp.int32)
    mask = in_states(around.cells, builders + resorbers)
    laid, wanted = in_batches(mask, capacity, work, (zeros, zeros))
    # Several cells may have filled one pit; what does not fit is not laid down.
    return jnp.minimum(laid, jnp.maximum(MATRIX_ONE - matrix, 0)), wanted


def _added(array: Int32[Array, "V"], target: Int32[Array, "N"], amount: Int32[Array, "N"]):
    """The array with amounts added. Nothing is written where there is nothing to add: many writes
    of 0 to one voxel, which fill up a list, would wait for each other on a GPU."""
    where = jnp.where(amount == 0, array.shape[0], target)
    return array.at[where].add(amount, mode="drop")


def _amount(rates, own, view: SiteView, numbers: Numbers) -> Int32[Array, "N"]:
    """Matrix per step for the cell at each listed voxel."""
    dt = view.around.model.time.step
    speed = jnp.zeros(own.shape, jnp.float32)
    for code, spec in rates:
        rate = numbers[spec.rate] * (dt * MATRIX_ONE) * responses(spec.responses, view, numbers)
        speed = jnp.where(own == code, rate, speed)
    return jnp.round(jnp.minimum(speed, float(MATRIX_ONE))).astype(jnp.int32)


def _emptiest_bone(around: Surroundings, view: SiteView, draws: Draws):
    """The bone neighbour with least matrix, so that a started pit is finished, or filled, before
    another is touched; among equals the draw decides."""
    index, exists = view.beside
    assert around.bone is not None
    assert around.matrix is not None
    is_bone = (around.bone[index] != 0) & exists
    uniform = voxel_uniform(draws.fate, around.region.global_index(view.index), around.step, 1)
    turn = jnp.floor(uniform * 6).astype(jnp.int32)
    order = jnp.mod(jnp.arange(6, dtype=jnp.int32)[:, None] + turn[None], 6)
    # Matrix lies below 2**23, so eight times it plus the tie-break fits an int32.
    key = jnp.where(is_bone, around.matrix[index] * 8 + order, np.iinfo(np.int32).max)
    best = jnp.argmin(key, axis=0)
    return jnp.take_along_axis(index, best[None], axis=0)[0], jnp.any(is_bone, axis=0)


def mineralise(
    deposit: Deposit, laid: Int32[Array, "Z Y X"], lag: Float[Array, ""], dt: float
) -> tuple[Deposit, Int32[Array, "Z Y X"]]:
    """Osteoid ages through its stages; the last one becomes mineral. Returns what did.

    Each of K stages is left at the rate K / lag, so that the delay has mean `lag` and is a gamma
    distribution of shape K; rounded up, so that no trace of osteoid lasts for ever."""
    stages = deposit.osteoid.shape[1]
    leaves = -jnp.expm1(-stages * dt / lag)
    entering, after = laid, []
    for k in range(stages):
        present = deposit.osteoid[:, k]
        moved = jnp.ceil(present.astype(jnp.float32) * leaves).astype(jnp.int32)
        moved = jnp.minimum(moved, present)
        after.append(present - moved + entering)
        entering = moved
    return Deposit(jnp.stack(after, axis=1), deposit.mineral + entering), entering


def remove(
    deposit: Deposit, wanted: Int32[Array, "Z Y X"]
) -> tuple[Deposit, Int32[Array, "Z Y X"]]:
    """Take matrix out of each voxel as far as there is any: mineral, then the oldest osteoid."""
    taken = jnp.minimum(wanted, deposit.mineral)
    mineral, rest, total = deposit.mineral - taken, wanted - taken, taken
    stages = []
    for k in reversed(range(deposit.osteoid.shape[1])):
        present = deposit.osteoid[:, k]
        taken = jnp.minimum(rest, present)
        stages.insert(0, present - taken)
        rest, total = rest - taken, total + taken
    return Deposit(jnp.stack(stages, axis=1), mineral), total


def turn_to_bone(
    around: Surroundings,
    was_full: Bool[Array, "V"],
    table: Table,
    numbers: Numbers,
    draws: Draws,
    capacity: int,
) -> tuple[UInt8[Array, "V"], Int32[Array, "V"], UInt8[Array, "V"]]:
    """Full voxels become bone and bury their cells; emptied ones become marrow and free them.

    `around.matrix` is the matrix after this step; `was_full` tells which voxels were full before
    its contacts, so that their cells had the time to move out. A cell whose fate was to do so but
    that found no free neighbour meets the first fate that may live in bone, or is lost."""
    cells, since, old = around.cells, around.since, around.bone
    assert old is not None
    assert around.matrix is not None
    full = (old == 0) & was_full & (around.matrix >= MATRIX_ONE)
    emptied = (old != 0) & (around.matrix <= 0)

    def work(index, carry):
        cells, since = carry
        view = around.at(index)
        own = around.cells[view.index]
        into = own
        for code, state in enumerate(table.states):
            if code == 0:
                continue
            buried = _buried_as(code, view, table, numbers, draws)
            freed = table_code(table, state.when_resorbed)
            stays_free = "bone" not in state.lives
            left = own if stays_free else jnp.full_like(own, freed)
            after = jnp.where(full[view.index], buried, left)
            into = jnp.where(own == code, after, into)
        changed = (index < around.region.size) & (into != own)
        where = places(changed, view.index, around.region.size)
        return written(cells, where, into), written(since, where, around.step)

    cells, since = in_batches((full | emptied) & (cells != 0), capacity, work, (cells, since))
    bone = jnp.where(full, 1, jnp.where(emptied, 0, old)).astype(jnp.uint8)
    return cells, since, bone


def table_code(table: Table, name: str) -> int:
    """The code of a state."""
    return next(i for i, s in enumerate(table.states) if s.name == name)


def _buried_as(code: int, view: SiteView, table: Table, numbers: Numbers, draws: Draws):
    fates = table.fates[code]
    default = np.uint8(code if "bone" in table.lives(code) else 0)
    if not fates:
        return jnp.full(view.index.shape, default)
    staying = [f.into for f in fates if f.stays]
    fallback = np.uint8(staying[0]) if staying else default
    outcome = np.array([f.into if f.stays else fallback for f in fates], np.uint8)
    return jnp.asarray(outcome)[fate_of(code, view, table, numbers, draws)]


def add_flux(
    total: UInt32[Array, "Z F 2"], amounts: list[Int32[Array, "Z Y X"]], region: Region
) -> UInt32[Array, "Z F 2"]:
    """Add one step's amounts, plane by plane of the lattice, to the running totals in (fraction,
    voxels), which all blocks beside each other in a plane hold."""
    added = []
    for k, amount in enumerate(amounts):
        rows = row_sums(stored(amount))
        # Halves of 11 bits keep the sums of a plane of up to 2**20 voxels in 32 bits.
        low, high = (
            over_devices(jax.lax.psum, jnp.sum(half, axis=1, dtype=jnp.uint32), region, (1, 2))
            for half in (rows & 2047, rows >> 11)
        )
        fraction = total[:, k, 0] + ((high & 2047) << 11) + low
        voxels = total[:, k, 1] + (high >> 11) + fraction // MATRIX_ONE
        added.append(jnp.stack([fraction % MATRIX_ONE, voxels], axis=-1))
    return jnp.stack(added, axis=1)


def row_sums(amount: Int32[Array, "Z Y X"]) -> UInt32[Array, "Z R"]:
    """Sums of fixed-point matrix along x, in rows short enough for 32 bits."""
    planes, _, width = amount.shape
    longest = 512
    wide = amount.astype(jnp.uint32)
    if width > longest:
        wide = jnp.pad(wide, ((0, 0), (0, 0), (0, -width % longest)))
        wide = wide.reshape(planes, -1, longest)
    return jnp.sum(wide, axis=2, dtype=jnp.uint32)
