"""A course of many steps that can be differentiated backwards within a stated memory.

The way back needs what every step has read. Kept for all steps, it costs no time and most memory;
kept at the beginnings of blocks alone, it is made anew block by block, and so for blocks of blocks:
each level costs one forward evaluation more (Griewank, Optim. Methods Softw. 1 (1992) 35, in its
form of a fixed number of levels). The fewest levels that fit are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

State = dict[str, Any]

MEMORY = 4.0
"""GB (1e9 bytes) that the way back may keep, unless more or less is asked for."""

MOST_LEVELS = 5
"""Levels beyond these would save little memory and cost as much as those before."""


def course(
    step: Callable[[State, Bool[Array, "I"]], State],
    state: State,
    due: Bool[Array, "L I"],
    measure: Callable[[State], Float[Array, "O"]],
    lengths: tuple[int, ...],
) -> Float[Array, "N O"]:
    """What `measure` gives at the start and after each step (of which there are L or a few more);
    `lengths` as from `lengths_of`."""
    count, total = due.shape[0], int(np.prod(lengths))
    # Steps beyond the end fill the last block; nobody reads their rows.
    due = jnp.pad(due, ((0, total - count), (0, 0)))

    def walked(state: State, due: Bool[Array, "L I"], lengths: tuple[int, ...]):
        if len(lengths) == 1:
            return jax.lax.scan(body, state, due)

        @jax.checkpoint
        def block(state, due):
            return walked(state, due, lengths[1:])

        parts = due.reshape(lengths[0], due.shape[0] // lengths[0], due.shape[1])
        state, rows = jax.lax.scan(block, state, parts)
        return state, rows.reshape(due.shape[0], -1)

    def body(state, due):
        after = step(state, due)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)
        return after, measure(after)

    return jnp.concatenate([measure(state)[None], walked(state, due, lengths)[1]])


def lengths_of(steps: int, state: int, step: int, memory: float) -> tuple[int, ...]:
    """How many blocks, of how many blocks or steps each, from the outermost level in: the fewest
    levels that keep at most `memory` GB; what keeps least where none does.

    `state` and `step` are the bytes kept at the beginning of a block and for a step of an innermost
    block. The product is at least `steps`, and exceeds it as little as the memory allows."""
    best = (np.inf, (steps,))
    for levels in range(1, MOST_LEVELS + 1):
        fitting = []
        for lengths in _divisions(steps, levels):
            kept = state * sum(lengths[:-1]) + step * lengths[-1]
            best = min(best, (kept, lengths))
            if kept <= 1e9 * memory:
                fitting.append((int(np.prod(lengths)), kept, lengths))
        if fitting:
            return min(fitting)[2]
    return best[1]


def _divisions(steps: int, levels: int) -> list[tuple[int, ...]]:
    """Ways to divide some steps into levels: all numbers of blocks of two levels, and of more those
    within a factor of three of equal numbers."""
    if levels == 1:
        return [(steps,)]
    if levels == 2:
        counts = {-(-steps // n) for n in range(1, round(steps**0.5) + 1)}
        counts |= set(range(1, round(steps**0.5) + 1))
    else:
        equal = steps ** (1 / levels)
        counts = set(range(max(1, round(equal / 3)), round(equal * 3) + 1))
    return [
        (-(-steps // length), *inner)
        for length in sorted({-(-steps // count) for count in counts})
        for inner in _divisions(length, levels - 1)
    ]


def bytes_of(state: State) -> int:
    """Bytes of all arrays of a state."""
    return sum(np.dtype(a.dtype).itemsize * int(np.prod(a.shape)) for a in jax.tree.leaves(state))
