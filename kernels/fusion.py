"""A place where the compiler must stop fusing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from lattice.kernels.backend import on_cpu

_WHOLE = ContextVar("_WHOLE", default=False)


@contextmanager
def _whole(is_whole: bool) -> Iterator[None]:
    token = _WHOLE.set(is_whole)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def fused() -> AbstractContextManager[None]:
    """What is traced inside is left to the compiler as a whole: no `boundary` cuts it.

    For what is differentiated: conditionals keep more for a way back, and take longer to trace."""
    return _whole(True)


def cut() -> AbstractContextManager[None]:
    """What is traced inside is cut by `boundary` again: for a part of what is `fused` that no
    derivative looks into, such as the iterations of a linear solve."""
    return _whole(False)


def always(u: Float[Array, "..."] | Integer[Array, "..."]) -> Bool[Array, ""]:
    """True, in a way that the compiler cannot know: `u` is data and never the lowest float, nor
    the largest integer.

    NaN gives true as well, so that a failed run shows its NaN.
    """
    if jnp.issubdtype(u.dtype, jnp.integer):
        return u[(0,) * u.ndim] != jnp.iinfo(u.dtype).max
    return u[(0,) * u.ndim] != jnp.finfo(u.dtype).min


def stored(a: Array) -> Array:
    """`a` as an array in memory that a GPU reads, where it would compute it anew in each reader or,
    worse, in the order in which a sum visits it. On CPU, `boundary` does this."""
    return a if on_cpu() else lax.optimization_barrier(a)


def stored_beside(a: Array, u: Array) -> tuple[Array, Array]:
    """Both, as by `stored`: what is read of `a` here is shared with no place that reads another
    `u`. Shared, it would become an array of its own, with more bytes than `a`."""
    return (a, u) if on_cpu() else lax.optimization_barrier((a, u))


def boundary(true: Bool[Array, ""], function: Callable, *arguments):
    """`function(*arguments)`, compiled as a unit of its own.

    XLA on CPU fuses through `lax.optimization_barrier` and then computes a producer again inside
    each of its consumers; a conditional is the boundary that it keeps. Elsewhere fusion is left
    to the compiler. `true` is made by `always`; no collective may stand inside `function`.
    """
    if _WHOLE.get() or not on_cpu():
        return function(*arguments)
    shapes = jax.eval_shape(function, *arguments)

    def zeros(*_):
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    return lax.cond(true, function, zeros, *arguments)
