"""Sampled paths on one-hot states, and what is differentiated along them.

Both estimators here draw with the uniform numbers of the sampled reading, so that their paths are
the simulator's own. *Straight-through* lets the derivative of a mean flux pass for that of the
drawn one, which is biased. The *score function* is the derivative of the likelihood of the draws,
and unbiased wherever all that happens by chance is drawn (`require_drawn`).
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lattice.engine import mean_field
from lattice.engine.devices import region_of
from lattice.engine.interventions import due_steps
from lattice.engine.matching import rows_of
from lattice.engine.mean_fluxes import Rows
from lattice.engine.numbers import Numbers
from lattice.engine.plan import plan_of
from lattice.inference.observables import read_state
from lattice.model.errors import InputError
from lattice.model.structure import Model, Response


def drawn(fluxes: Float[Array, "R *V"], uniform: Float[Array, "*V"]) -> Float[Array, "R *V"]:
    """1 for the rule that fires in each place, by inverting one uniform number: the intervals of
    the rules lie side by side, in their order."""
    edges = jnp.cumsum(fluxes, axis=0)
    chosen = jnp.sum(uniform >= edges, axis=0)
    return jax.nn.one_hot(chosen, fluxes.shape[0], axis=0, dtype=fluxes.dtype)


def straight_through(fluxes: Rows, uniform, effect, tally):
    """The drawn fluxes with the derivative of the mean ones."""
    sample = rows_of(drawn(jnp.stack(fluxes), uniform()))
    found = [f + jax.lax.stop_gradient(s - f) for f, s in zip(fluxes, sample, strict=True)]
    return found, tally


def scored(fluxes: Rows, uniform, effect, tally):
    """The drawn fluxes without a derivative; the tally gains their log-likelihood."""
    table = jnp.stack(fluxes)
    sample = jax.lax.stop_gradient(drawn(table, uniform()))
    return rows_of(sample), tally + jnp.sum(log_probability(table, sample))


def log_probability(
    fluxes: Float[Array, "R *V"], sample: Float[Array, "R *V"]
) -> Float[Array, "*V"]:
    """Log-probability of what was drawn in each place, with a finite derivative where a rule
    cannot fire: log(0) would turn every derivative into NaN."""
    fired = jnp.sum(fluxes * sample, axis=0)
    none = jnp.sum(sample, axis=0) == 0
    probability = jnp.where(none, 1 - jnp.sum(fluxes, axis=0), fired)
    possible = probability > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, probability, 1)), 0)


def require_drawn(model: Model, estimator: str) -> None:
    """Raise InputError for a model in which something jumps without being drawn: then the
    likelihood of the draws does not tell the whole derivative."""
    mean_field.require_no_clocks(model, estimator)
    instead = f'estimator "{estimator}" does not see it; write "coupled"'
    if model.matrix is not None:
        raise InputError(f"matrix: a voxel turns to bone or marrow at a threshold; {instead}")
    for intervention in model.interventions:
        if intervention.cluster is not None:
            key = f"intervention.{intervention.name}.cluster"
            raise InputError(f"{key}: blocks of cells share a draw; {instead}")
    holders = [(f"rule.{r.name}", r.responses) for r in model.rules]
    for state in model.states:
        exchanges = (*state.secretes, *state.takes_up)
        holders += [(f"state.{state.name}", e.responses) for e in exchanges]
    for key, responses in holders:
        for response in responses:
            if _jumps(response):
                raise InputError(f"{key}: a threshold of {response.signal.written}; {instead}")


def _jumps(response: Response) -> bool:
    """Whether the number of a threshold moves a rate by a jump; counts are whole numbers, which a
    small change of the number does not pass."""
    return response.shape == "threshold" and response.signal.kind in ("cytokine", "density")


REALISATIONS = {"straight_through": straight_through, "score": scored}


@lru_cache(maxsize=16)
def path_derivatives(
    model: Model,
    names: tuple[str, ...],
    observables: tuple[str, ...],
    steps: tuple[int, ...],
    estimator: str,
    base: tuple[str, ...],
):
    """Compiled ``(values[N], bone, words[B, 2]) -> rows, drows, dlog``: for each seed the
    observables [B, T, O] at some steps, their derivatives along the path [B, T, O, P], and those of
    the log-likelihood of the draws until then [B, T, P]. `base`: the order of `values`."""
    region = region_of(model)
    plan = plan_of(model, region, region.size, iterations=12)
    positions = np.array([base.index(n) for n in names])
    due = due_steps(model, 0, max(steps))
    rows = np.asarray(steps)
    realise = REALISATIONS[estimator]

    def course(theta, values, bone, words):
        numbers = Numbers(values, base).replaced(dict(zip(names, theta, strict=True)))
        tally = jnp.zeros((), values.dtype)
        state = mean_field.initial_mean(model, region, numbers, words, bone, realise, tally)

        def measure(state):
            counts = mean_field.counts(state)
            return read_state(model, observables, state, counts), state["tally"]

        found = mean_field.scan_steps(plan, numbers, state, jnp.asarray(due), measure, realise)[1]
        first = measure(state)
        found = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b])[rows], first, found)
        return found, found

    def derivatives(values, bone, words):
        jacobian = jax.jacfwd(course, has_aux=True)
        (drows, dlog), (found, _) = jacobian(values[positions], values, bone, words)
        return found, drows, dlog

    return jax.jit(jax.vmap(derivatives, in_axes=(None, None, 0)))
