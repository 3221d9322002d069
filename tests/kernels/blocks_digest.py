"""Run by test_blocks.py with eight devices: prints on one line, for each layout (2x1x1, ...) among
the arguments, the digests of what the kernels give."""

import hashlib
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from lattice.kernels.diffusion_exact import build_basis, step_exact
from lattice.kernels.diffusion_implicit import step_implicit
from lattice.kernels.halo import Blocks, neighbour_planes
from lattice.kernels.multigrid_levels import build_hierarchy
from tests.kernels.reference import random_bone

NAMES = ("z", "y", "x")
SPECIES = 2


def results(blocks: Blocks, periodic, basis):
    """A function of one block."""
    diffusion, decay = jnp.array([3e5, 4e4]), jnp.array([2.0, 0.1])

    def run(u, source, bone):
        sink = 0.1 * source
        built = build_hierarchy(bone, jnp.array([0.01, 0.2]), periodic=periodic, blocks=blocks)
        options = {"voxel": 10.0, "blocks": blocks}

        def step(u, _):
            u, budget, _ = step_implicit(
                u, source, sink, built, diffusion, decay, 0.5, periodic=periodic, **options
            )
            return u, jnp.stack(budget)

        u, budgets = jax.lax.scan(step, u, length=2)
        exact, _ = step_exact(u, source, basis, diffusion, decay, 0.5, **options)
        near = bone
        for axis in range(3):
            below, above = neighbour_planes(bone, blocks, axis, periodic[axis])
            whole = jnp.concatenate([below, bone, above], axis=axis)
            near = near + jax.lax.slice_in_dim(whole, 0, bone.shape[axis], axis=axis)
        return u, budgets, exact, near

    return run


def main(shape: tuple[int, ...], wraps: str, *layouts: str) -> None:
    rng = np.random.default_rng(0)
    u = jnp.asarray(rng.random((*shape, SPECIES)), jnp.float32)
    source = jnp.asarray(rng.random((*shape, SPECIES)) < 0.05, jnp.float32)
    bone = jnp.asarray(random_bone(shape))
    periodic = tuple(name in wraps for name in NAMES)
    basis = build_basis(shape, periodic=periodic)
    for layout in layouts:
        counts = tuple(map(int, layout.split("x")))
        run = results(Blocks(NAMES, counts), periodic, basis)
        if math.prod(counts) > 1:
            devices = np.array(jax.devices()[: math.prod(counts)]).reshape(counts)
            mesh = Mesh(devices, NAMES, axis_types=(AxisType.Auto,) * 3)
            block, whole = PartitionSpec(*NAMES), PartitionSpec()
            run = jax.shard_map(
                run,
                mesh=mesh,
                in_specs=block,
                out_specs=(block, whole, block, block),
                check_vma=False,
            )
        found = (np.asarray(array) for array in jax.jit(run)(u, source, bone))
        print(*(hashlib.sha256(array.tobytes()).hexdigest() for array in found), flush=True)


main(tuple(map(int, sys.argv[1].split("x"))), *sys.argv[2:])
