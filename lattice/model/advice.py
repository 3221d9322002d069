"""What a modeller should know before a run: things that are allowed but seldom meant."""

from __future__ import annotations

import math

from .structure import EMPTY, Model, Rule

__all__ = ["advice"]

_LIKELY = 0.5
_LIKELY_HOPS = 1.5
"""A step tries six bonds, and corrects what two hops on one axis do (`flux.hop_hazard`)."""
_HOURS_PER = (("day", 24.0), ("h", 1.0), ("min", 1 / 60), ("s", 1 / 3600))


def advice(model: Model) -> list[str]:
    """Sentences, most important first; empty when there is nothing to say."""
    return [
        *_too_fast(model),
        *_unreached_states(model),
        *_silent_cytokines(model),
        *_labels(model),
    ]


def duration(hours: float) -> str:
    """A time as people say it: "15 min", "2 day"."""
    for unit, per in _HOURS_PER:
        if hours >= per:
            return f"{hours / per:.4g} {unit}"
    return f"{hours * 3600:.3g} s"


def _too_fast(model: Model) -> list[str]:
    """A rule that acts more than once in two steps is held back by the length of the step."""
    found = []
    for rule in model.rules:
        if rule.rate is None or ".through." in rule.name:
            continue
        key = "time.step" if rule.kind == "site" else "time.contact_step"
        step = model.time.step if rule.kind == "site" else model.time.contact_step
        rate = model.values[rule.rate] * _largest_factor(model, rule)
        rate = rate / model.lattice.voxel if rule.kind == "move" else rate
        likely = _LIKELY_HOPS if rule.kind == "move" else _LIKELY
        if rate * step > likely:
            noun = {"move": "hops", "divide": "divisions"}.get(rule.kind, "events")
            found.append(
                f"{rule.rate}: up to {rate * step:.2g} {noun} in one step of {duration(step)}, so "
                f"that the step limits the rule; write {key} = "
                f'"{duration(likely / rate)}" or less'
            )
    return found


def _largest_factor(model: Model, rule: Rule) -> float:
    ceilings = [model.values[r.ceiling] for r in rule.responses]
    return math.prod((c for c in ceilings if math.isfinite(c)), start=1.0)


def _labels(model: Model) -> list[str]:
    output, until = model.output, model.time.until
    if output.labels is None:
        return []
    if model.matrix is None:
        return ["output.labels: no state touches matrix, so that nothing takes up a label"]
    if output.label_times[-1] > until:
        end = duration(output.label_times[-1])
        return [f"output.labels: the second label ends at {end}, after the end of the run"]
    return []


def _unreached_states(model: Model) -> list[str]:
    reached = {EMPTY}
    reached |= {s.name for s in model.states if any(model.values[x.fraction] for x in s.seeding)}
    while True:
        new = _one_step_from(model, reached) - reached
        if not new:
            break
        reached |= new
    return [
        f"state.{s.name}: it is not seeded and no rule that can fire leads to it, so it stays empty"
        for s in model.states
        if s.name not in reached
    ]


def _one_step_from(model: Model, reached: set[str]) -> set[str]:
    found: set[str] = set()
    for rule in model.rules:
        fires = rule.rate is None or model.values[rule.rate] > 0
        if fires and reached.issuperset(rule.reactants):
            found |= set(rule.products)
    for state in model.states:
        if state.name in reached:
            found |= {fate for fate, weight in state.when_filled if model.values[weight]}
            found |= {state.when_resorbed, state.when_stranded or EMPTY}
    for intervention in model.interventions:
        if reached.intersection(intervention.states):
            found.add(intervention.into)
    return found


def _silent_cytokines(model: Model) -> list[str]:
    values = model.values
    fed = {e.cytokine for s in model.states for e in s.secretes if values[e.rate]}
    fed |= {c.name for c in model.cytokines if values[c.production] or values[c.initial]}
    fed |= {i.cytokine for i in model.interventions if i.cytokine is not None}
    for reaction in model.reactions:
        fed |= {name for name, _ in (*reaction.left, *reaction.right)}
    return [
        f"cytokine.{c.name}: nothing makes it, so its concentration stays 0"
        for c in model.cytokines
        if c.name not in fed
    ]
