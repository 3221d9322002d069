"""The state that a run starts from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Shaped, UInt8

from lattice.engine.declare import (
    MATRIX_ONE,
    declare,
    has_bone,
    local_cytokines,
    shape_of,
    systemic_cytokines,
)
from lattice.engine.layout import AXES
from lattice.engine.numbers import Numbers
from lattice.engine.region import Region
from lattice.kernels.fusion import always, boundary
from lattice.kernels.random_bits import stream_key, voxel_uniform
from lattice.model.structure import Model

PLACES = ("marrow", "surface", "bone", "everywhere")


def count_bone_faces(region: Region, bone: UInt8[Array, "Z Y X"]) -> UInt8[Array, "Z Y X"]:
    """How many of the six neighbours of each voxel are bone, on one block and its neighbours."""
    return _sum_over_faces(region, bone)


def _sum_over_faces(region: Region, values: Shaped[Array, "Z Y X"]) -> Shaped[Array, "Z Y X"]:
    """The sum over the six neighbours of each voxel, in the type of the values."""

    def total(padded):
        found = jnp.zeros_like(padded)
        for axis in range(3):
            wraps = region.periodic[axis] and padded.shape[axis] > 1 and not region.halo[axis]
            for direction in (-1, 1):
                found = found + _shifted(padded, axis, direction, wraps)
        return found

    # A unit of its own: its readers want it flat, and would find each place from a flat index.
    padded = region.pad(values)
    return region.strip(boundary(always(padded), total, padded))


def _shifted(array, axis, direction, wraps):
    if wraps:
        return jnp.roll(array, -direction, axis)
    padding = [(0, 0, 0)] * 3
    padding[axis] = (-1, 1, 0) if direction == 1 else (1, -1, 0)
    return jax.lax.pad(array, jnp.zeros((), array.dtype), padding)


def places_of(region: Region, bone: UInt8[Array, "Z Y X"] | None) -> dict[str, Array]:
    """Masks over the block of the places where cells are seeded and sources act."""
    shape = region.block
    every = jnp.ones(shape, bool)
    if bone is None:
        return {"marrow": every, "surface": ~every, "bone": ~every, "everywhere": every}
    inside = bone != 0
    surface = ~inside & (count_bone_faces(region, bone) > 0)
    return {"marrow": ~inside, "surface": surface, "bone": inside, "everywhere": every}


def seed_cells(
    model: Model, region: Region, numbers: Numbers, seed: Array, places: dict[str, Array]
) -> tuple[UInt8[Array, "Z Y X"], Int32[Array, "Z Y X"]]:
    """Cells and the steps at which their ages were 0. Each voxel draws one state; intervals lie in
    the order of names, so that a state of fraction 0 moves no other."""
    shape = region.block
    index = region.own_index().reshape(shape)
    uniform = voxel_uniform(stream_key(seed, "seeding"), index, 0, 0)
    aging = voxel_uniform(stream_key(seed, "seeding age"), index, 0, 0)
    cells, ages = jnp.zeros(shape, jnp.uint8), jnp.zeros(shape, jnp.float32)
    edge = jnp.zeros(shape, jnp.float32)
    for code, state in enumerate(model.states):
        for seeding in state.seeding:
            upper = edge + jnp.where(places[seeding.where], numbers[seeding.fraction], 0)
            taken = (uniform >= edge) & (uniform < upper)
            cells = jnp.where(taken, jnp.uint8(code), cells)
            ages = jnp.where(taken, numbers[seeding.age], ages)
            edge = upper
    since = -jnp.floor(aging * ages / model.time.step).astype(jnp.int32)
    return cells, jnp.where(cells > 0, since, 0)


def initial_block(
    model: Model, region: Region, numbers: Numbers, seed: Array, bone: UInt8[Array, "Z Y X"] | None
) -> dict[str, Array]:
    """The state at step 0 on one block. `bone` is that block of the geometry."""
    shape = region.block
    places = places_of(region, bone)
    cells, since = seed_cells(model, region, numbers, seed, places)
    state = {"step": jnp.int32(0), "seed": seed, "cells": cells, "since": since}
    if has_bone(model):
        state["bone"] = bone
    if local_cytokines(model):
        levels = jnp.stack([numbers[c.initial] for c in local_cytokines(model)])
        state["cytokines"] = jnp.broadcast_to(levels, (*shape, len(levels))).astype(jnp.float32)
    if systemic_cytokines(model):
        levels = [numbers[c.initial] for c in systemic_cytokines(model)]
        state["systemic"] = jnp.stack(levels).astype(jnp.float32)
    if model.matrix is not None:
        state["osteoid"] = jnp.zeros((shape[0], model.matrix.stages, *shape[1:]), jnp.int32)
        mineral = jnp.where(bone != 0, MATRIX_ONE, 0).astype(jnp.int32)
        if model.matrix.initial_surface == "uniform":
            mineral = _uneven_surface(region, seed, bone, places["surface"], mineral)
        elif model.matrix.initial_surface == "thresholded":
            mineral = _thresholded_surface(region, seed, bone, places["surface"], mineral)
        state["mineral"] = mineral
    for spec in declare(model):
        if spec.name not in state:
            here: dict[str, int] = dict(zip(AXES, shape, strict=True))
            whole = zip(spec.dims, shape_of(spec, model), strict=True)
            state[spec.name] = jnp.zeros([here.get(d, n) for d, n in whole], spec.dtype)
    return state


def _uneven_surface(region: Region, seed: Array, bone, surface, mineral) -> Int32[Array, "Z Y X"]:
    """Voxels on both sides of the surface hold a uniform fraction of matrix: what the marrow's side
    gains the bone's side loses, so that the bone volume is that of the geometry in the mean."""
    fill = _uniform_fill(region, seed, bone.shape)
    beneath = (bone != 0) & (count_bone_faces(region, (bone == 0).astype(jnp.uint8)) > 0)
    mineral = jnp.where(surface, fill, mineral)
    return jnp.where(beneath, MATRIX_ONE - fill, mineral)


def _thresholded_surface(
    region: Region, seed: Array, bone, surface, mineral
) -> Int32[Array, "Z Y X"]:
    """The surface lies within half a voxel of where a threshold at half puts it, uniformly: a voxel
    of marrow at the surface is less than half full, or the bone beside it lacks less than half. So
    the bone is that of the image, and what moves the surface crosses the threshold as often as a
    scan of real bone shows it."""
    half = MATRIX_ONE // 2
    place = _uniform_fill(region, seed, bone.shape) - half
    faces = jnp.maximum(count_bone_faces(region, bone).astype(jnp.int32), 1)
    lack = _sum_over_faces(region, jnp.where(surface, jnp.maximum(-place, 0) // faces, 0))
    mineral = jnp.where(surface, jnp.maximum(place, 0), mineral)
    return jnp.where(bone != 0, MATRIX_ONE - jnp.minimum(lack, half - 1), mineral)


def _uniform_fill(region: Region, seed: Array, shape) -> Int32[Array, "Z Y X"]:
    uniform = voxel_uniform(stream_key(seed, "initial surface"), region.own_index(), 0, 0)
    fill = jnp.floor(uniform * MATRIX_ONE).astype(jnp.int32)
    return jnp.minimum(fill, MATRIX_ONE - 1).reshape(shape)
