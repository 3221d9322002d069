"""Clocks as chains of stages, for readings that carry probabilities and no ages.

A rule with `after = T` fires at the age T. In a chain, its state has n stages, each left at the
rate n / T: the time in the state then has the mean T and the standard deviation T / sqrt(n) (an
Erlang distribution; the "linear chain trick", MacDonald 1978). With one stage the clock is a rate.
Numbers keep their names and values: `rule.age.after` can be differentiated and fitted.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from itertools import product
from typing import Any

from .errors import InputError
from .structure import Model, Rule, Signal, State

__all__ = ["clock_of", "stage_codes", "staged"]


def staged(model: Model, count: int) -> Model:
    """The model with `count` stages in the place of every clock; itself where nothing has one.

    Raises InputError for a state with two clocks and for a response to age, and ValueError for a
    count below 1."""
    if count < 1:
        raise ValueError(f"a clock needs at least one stage, not {count}")
    for rule in model.rules:
        if any(r.signal.kind == "age" for r in rule.responses):
            raise InputError(
                f"rule.{rule.name}: a relaxation has no ages, only clocks; "
                "write `after` or a rate instead of a response to age"
            )
    clocked = sorted({r.reactants[0] for r in model.rules if r.after is not None})
    for name in clocked:
        rules = [r.name for r in model.rules if r.after is not None and r.reactants[0] == name]
        if len(rules) > 1:
            raise InputError(
                f"rule.{rules[1]}: {name} has another clock (rule.{rules[0]}), and a relaxation "
                "follows one for each state; write a rate instead of one of them"
            )
    if count == 1 or not clocked:
        return model
    names = {name: _stage_names(name, count) for name in clocked}
    states = [s for state in model.states for s in _states(state, names)]
    rules = [r for rule in model.rules for r in _rules(rule, names)]
    changed = replace(
        model,
        states=(states[0], *sorted(states[1:], key=lambda s: s.name)),
        rules=tuple(sorted(rules, key=lambda r: r.name)),
        interventions=tuple(
            replace(i, states=tuple(n for s in i.states for n in names.get(s, (s,))))
            for i in model.interventions
        ),
    )
    return _with_signals(changed, names)


def stage_codes(model: Model, code: int) -> tuple[int, ...]:
    """The codes of all stages of the state that `code` belongs to, from the first to the last."""
    codes = model.state_codes()
    base = model.states[code].name.split("#")[0]
    found = [n for n in codes if n.split("#")[0] == base]
    return tuple(codes[n] for n in sorted(found, key=lambda n: (len(n), n)))


def clock_of(model: Model, code: int) -> str | None:
    """The name of the number at which the clock of a state rings, or None."""
    name = model.states[code].name
    return next((r.after for r in model.rules if r.after and r.reactants[0] == name), None)


def _stage_names(name: str, count: int) -> tuple[str, ...]:
    return (name, *(f"{name}#{k}" for k in range(2, count + 1)))


def _states(state: State, names: dict[str, tuple[str, ...]]) -> list[State]:
    """A state as its stages; the first keeps the name, and is what all ways into it lead to."""
    found = []
    for k, name in enumerate(names.get(state.name, (state.name,))):
        fates = tuple((name if f == state.name else f, w) for f, w in state.when_filled)
        seeding = () if k else state.seeding
        found.append(replace(state, name=name, when_filled=fates, seeding=seeding))
    return found


def _rules(rule: Rule, names: dict[str, tuple[str, ...]]) -> list[Rule]:
    """A rule for every stage of its reactants."""
    found = []
    ways = [tuple(enumerate(names.get(r, (r,)))) for r in rule.reactants]
    for chosen in product(*ways):
        suffix = "".join(f"#{k + 1}" for k, _ in chosen if k)
        copy = replace(
            rule,
            name=rule.name + suffix,
            reactants=tuple(name for _, name in chosen),
            products=tuple(
                chosen[j][1] if j is not None and p == rule.reactants[j] else p
                for p, j in zip(rule.products, rule.carries or (None,) * 2, strict=False)
            ),
        )
        last = len(ways[0]) - 1
        if rule.after is None or chosen[0][0] == last:
            found.append(copy)
            continue
        onward = (names[rule.reactants[0]][chosen[0][0] + 1],)
        found.append(
            Rule(copy.name, "site", copy.reactants, onward, None, after=rule.after, carries=(None,))
        )
        if rule.rate is not None:
            found.append(replace(copy, name=copy.name + "#rate", after=None))
    return found


def _with_signals(value: Any, names: dict[str, tuple[str, ...]]) -> Any:
    """The same data with every signal of a state sensing all of its stages."""
    if isinstance(value, Signal):
        if value.kind not in ("neighbours", "density"):
            return value
        return replace(value, of="+".join(n for m in value.members for n in names.get(m, (m,))))
    if isinstance(value, tuple):
        return tuple(_with_signals(v, names) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: _with_signals(getattr(value, f.name), names) for f in fields(value)}
        return replace(value, **changes)
    return value
