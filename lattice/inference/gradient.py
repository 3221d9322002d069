"""Gradients of what a run reports with respect to the numbers of its model, by their right names.

No gradient here is called more than it is: that of a relaxation belongs to the relaxation, that
along straight-through paths is biased, and an unbiased estimate comes with its standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lattice.engine.numbers import numbers_of
from lattice.inference.ensemble import sampled_course
from lattice.inference.enumeration import enumerated
from lattice.inference.observables import check_observables, check_parameters
from lattice.inference.realised import path_derivatives, require_drawn
from lattice.inference.relaxation import READINGS, relaxation, starting_bone, steps_of
from lattice.kernels.random_bits import seed_words
from lattice.model import loads
from lattice.model.errors import InputError
from lattice.model.kinds import did_you_mean
from lattice.model.structure import Model

ESTIMATORS = (*READINGS, "straight_through", "score", "coupled", "exact")

STEP = 0.1
"""Half the step of coupled differences, in the natural logarithm of a number: smaller ones are
noisier, since fewer paths part."""

PATHS_TOGETHER = 1 << 15
"""Voxels of all the paths that are differentiated together."""


@dataclass(frozen=True)
class Gradient:
    """Value and gradient of observables. `name` tells what the gradient is.

    `value` and `value_error` are [T, O], `derivative` and `derivative_error` [T, O, P]: with
    respect to the numbers themselves, in canonical units (um, hour). Standard errors are 0 for what
    is computed without chance. `note` says what the derivative leaves out, if anything.
    """

    name: str
    estimator: str
    observables: tuple[str, ...]
    times: tuple[float, ...]
    parameters: tuple[str, ...]
    theta: Float[np.ndarray, "P"]
    value: Float[np.ndarray, "T O"]
    value_error: Float[np.ndarray, "T O"]
    derivative: Float[np.ndarray, "T O P"]
    derivative_error: Float[np.ndarray, "T O P"]
    note: str = ""

    @property
    def gradient(self) -> dict[str, np.ndarray]:
        """Parameter -> d observable / d number [T, O]."""
        return dict(zip(self.parameters, np.moveaxis(self.derivative, -1, 0), strict=True))

    @property
    def error(self) -> dict[str, np.ndarray]:
        """Parameter -> standard error of `gradient` [T, O]."""
        return dict(zip(self.parameters, np.moveaxis(self.derivative_error, -1, 0), strict=True))

    @property
    def log_gradient(self) -> dict[str, np.ndarray]:
        """Parameter -> d observable / d log(number) [T, O]: what a factor on the number does."""
        return {n: g * t for (n, g), t in zip(self.gradient.items(), self.theta, strict=True)}

    @property
    def log_error(self) -> dict[str, np.ndarray]:
        """Parameter -> standard error of `log_gradient` [T, O]."""
        return {n: e * abs(t) for (n, e), t in zip(self.error.items(), self.theta, strict=True)}


def gradient(
    model: Model,
    observable: str | Sequence[str],
    parameters: str | Sequence[str],
    *,
    estimator: str = "mean_field",
    until: str | None = None,
    times: Sequence[float] | None = None,
    replicates: int = 16,
    seed: int = 0,
    step: float = STEP,
    bone: np.ndarray | None = None,
) -> Gradient:
    """Derivatives of observables with respect to numbers of a model.

    `observable`: names of the series of a run; `parameters`: dotted names. `times` in hours, or the
    one time `until` ("35 day"; default: the end of the model). `replicates` of the sampled model
    have the seeds seed, seed + 1, ...; `bone` as in `relaxation`.

    estimator           what it is
    "mean_field"        exact gradient of a relaxation, voxel by voxel
    "straight_through"  biased; cheap, and right for what acts without contacts
    "score"             unbiased, for models whose jumps are all drawn
    "coupled"           differences between runs of the same random numbers at
                        number * exp(+-step), for every model; unbiased for this
                        difference, whose own bias is of order step^2
    "exact"             enumeration of at most four voxels

    Raises InputError for unknown names, numbers on which no observable depends, fewer than two
    replicates of a sampled estimator, and a model that the estimator cannot read.
    """
    if estimator not in ESTIMATORS:
        hint = did_you_mean(estimator, ESTIMATORS)
        raise InputError(f'estimator "{estimator}": there is none of this name; {hint}')
    observables = check_observables(
        model, [observable] if isinstance(observable, str) else observable
    )
    names = check_parameters(model, [parameters] if isinstance(parameters, str) else parameters)
    if not names:
        raise InputError("no parameter is named; write one or more, as rule.engulf.rate")
    if until is not None:
        model = loads(model.text, [f"time.until={until}"]).with_values(**model.values)
    hours = tuple(float(t) for t in ((model.time.until,) if times is None else times))
    sampled = estimator in ("straight_through", "score", "coupled")
    if sampled and replicates < 2:
        raise InputError(f"replicates: {replicates} give no standard error; write 2 or more")
    theta = np.array([model.values[n] for n in names])
    request = _Request(model, observables, hours, names, theta, seed, replicates, step, bone)
    found = _METHODS.get(estimator, _of_relaxation)(request, estimator)
    return _with_dependence_checked(found)


@dataclass(frozen=True)
class _Request:
    model: Model
    observables: tuple[str, ...]
    hours: tuple[float, ...]
    names: tuple[str, ...]
    theta: np.ndarray
    seed: int
    replicates: int
    step: float
    bone: np.ndarray | None

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(int(s) for s in steps_of(self.model, self.hours))

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.replicates)

    def result(self, name, estimator, value, derivative, errors=None, note="") -> Gradient:
        value, derivative = np.asarray(value, float), np.asarray(derivative, float)
        none = (np.zeros_like(value), np.zeros_like(derivative))
        value_error, derivative_error = none if errors is None else errors
        return Gradient(
            name, estimator, self.observables, self.hours, self.names, self.theta,
            value, value_error, derivative, derivative_error, note,
        )  # fmt: skip


def _of_relaxation(request: _Request, estimator: str) -> Gradient:
    function = relaxation(
        request.model, request.observables, request.hours,
        reading=estimator, bone=request.bone, seed=request.seed,
    )  # fmt: skip
    value, derivative = value_and_jacobian(function, request.names, request.theta)
    name = f"exact gradient of a relaxation ({estimator.replace('_', ' ')})"
    return request.result(name, estimator, value, derivative, note=function.note)


def value_and_jacobian(function, names: Sequence[str], theta: Float[np.ndarray, "P"]):
    """S [T, O] and dS/dtheta [T, O, P] of a relaxation, by one tangent for each number."""

    def course(vector):
        found = function({name: vector[i] for i, name in enumerate(names)})
        return found, found

    vector = jnp.asarray(theta, function.dtype)
    derivative, value = jax.jit(jax.jacfwd(course, has_aux=True))(vector)
    return np.asarray(value), np.asarray(derivative)


def _along_paths(request: _Request, estimator: str) -> Gradient:
    model = request.model
    require_drawn(model, estimator)
    numbers = numbers_of(model)
    bone = starting_bone(model, request.seed, request.bone)
    run = path_derivatives(
        model, request.names, request.observables, request.steps, estimator, numbers.names
    )
    batch = max(1, PATHS_TOGETHER // int(np.prod(model.lattice.shape)))
    parts = []
    for start in range(0, request.replicates, batch):
        # The last batch may be longer than needed: one program serves all.
        words = np.stack([seed_words(request.seed + start + k) for k in range(batch)])
        kept = min(batch, request.replicates - start)
        found = run(numbers.values, bone, jnp.asarray(words))
        parts.append([np.asarray(part, float)[:kept] for part in found])
    rows, paths, scores = (np.concatenate(p) for p in zip(*parts, strict=True))
    mean, error = _mean_and_error(rows)
    each = paths
    if estimator == "score":
        # The mean of the other replicates is a baseline that leaves the estimate unbiased.
        centred = (rows - mean) * request.replicates / (request.replicates - 1)
        each = paths + centred[..., None] * scores[:, :, None, :]
    derivative, derivative_error = _mean_and_error(each)
    name = "biased straight-through" if estimator == "straight_through" else MONTE_CARLO
    return request.result(name, estimator, mean, derivative, (error, derivative_error))


MONTE_CARLO = "Monte Carlo estimate +- SE"


def _mean_and_error(samples: Float[np.ndarray, "B ..."]):
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


def _coupled(request: _Request, estimator: str) -> Gradient:
    for name, value in zip(request.names, request.theta, strict=True):
        if value <= 0:
            problem = f'estimator "coupled" multiplies it, but it is {value:g}'
            raise InputError(f"{name}: {problem}; write a number above 0")
    model = request.model
    bone = starting_bone(model, request.seed, request.bone)

    def course(changes):
        return sampled_course(
            model, changes, request.observables, request.steps, request.seeds, bone
        )

    mean, error = _mean_and_error(course({}))
    parts = []
    for name, value in zip(request.names, request.theta, strict=True):
        above, below = (course({name: value * np.exp(s * request.step)}) for s in (1, -1))
        parts.append(_mean_and_error((above - below) / (2 * request.step * value)))
    derivative, derivative_error = (np.stack(p, axis=-1) for p in zip(*parts, strict=True))
    note = f"of the difference over +-{request.step:g} in the logarithm of each number"
    return request.result(MONTE_CARLO, estimator, mean, derivative, (error, derivative_error), note)


def _exact(request: _Request, estimator: str) -> Gradient:
    with jax.enable_x64(True):
        numbers = numbers_of(request.model, np.float64)
        means = enumerated(request.model, request.observables, request.steps)

        def course(theta):
            found = means(numbers.replaced(dict(zip(request.names, theta, strict=True))))
            return found, found

        derivative, value = jax.jit(jax.jacfwd(course, has_aux=True))(jnp.asarray(request.theta))
    return request.result("exact gradient (enumeration)", estimator, value, derivative)


_METHODS = {
    "straight_through": _along_paths,
    "score": _along_paths,
    "coupled": _coupled,
    "exact": _exact,
}


def _with_dependence_checked(found: Gradient) -> Gradient:
    """The gradient. Raises InputError for a number on which nothing observed depends."""
    for name, derivative in found.gradient.items():
        if not np.all(np.isfinite(derivative)):
            raise InputError(
                f'parameter "{name}": its derivative is not finite with estimator '
                f'"{found.estimator}"; write "coupled"'
            )
        if not np.any(derivative):
            timed = " (when an intervention acts is not differentiated)"
            why = timed if name.startswith("intervention.") else ""
            raise InputError(
                f'parameter "{name}": no observable depends on it until {max(found.times):g} h '
                f'with estimator "{found.estimator}"{why}; leave it out, or observe something else'
            )
    return found


def _listed(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
