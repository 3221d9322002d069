"""Checks that need the whole model: places, seeding, and what parts may be combined."""

from __future__ import annotations

from .cells import voxels_of
from .reading import Document
from .structure import EMPTY, Model, Rule, State

__all__ = ["check_model"]


def check_model(model: Model, document: Document) -> None:
    """Raises InputError for the first thing that cannot be simulated."""
    states = {s.name: s for s in model.states}
    for rule in model.rules:
        _check_rule_places(rule, states, document)
    for state in model.states:
        _check_seeding_places(model, state, document)
        _check_fates(model, state, states, document)
    _check_seeding_sums(model, document)
    _check_kills(model, states, document)
    _check_compartments(model, document)
    _check_production(model, document)


def _meet(a: State, b: State) -> bool:
    return bool(voxels_of(a.lives) & voxels_of(b.lives))


def _list(places: frozenset[str]) -> str:
    return " or ".join(sorted(places))


def _check_rule_places(rule: Rule, states: dict[str, State], document: Document) -> None:
    for before, after in zip(rule.reactants, rule.products, strict=True):
        old, new = states[before], states[after]
        if _meet(old, new):
            continue
        key = {"move": "move", "divide": "into"}.get(rule.kind, "to")
        table = rule.name.split(".")[0]
        raise document.refuse(
            f"rule.{table}.{key}",
            f'"{after}" lives in {_list(new.lives)}, but "{before}", whose place it takes, lives '
            f"in {_list(old.lives)}; write a place that both share in state.{after}.lives, or use "
            f"when_filled for embedding",
        )


def _check_seeding_places(model: Model, state: State, document: Document) -> None:
    for index, seeding in enumerate(state.seeding):
        if not _seeded_voxels(model, seeding.where) <= voxels_of(state.lives):
            key = f"state.{state.name}.seeding" + (f".{index}" if len(state.seeding) > 1 else "")
            problem = f'"{state.name}" lives in {_list(state.lives)}, not in {seeding.where}'
            hint = f'write where = "{sorted(state.lives)[0]}"'
            raise document.refuse(f"{key}.where", f"{problem}; {hint}")


def _seeded_voxels(model: Model, where: str) -> frozenset[str]:
    """Without bone, everywhere is the marrow."""
    if where != "everywhere":
        return voxels_of(frozenset({where}))
    everywhere = frozenset({"marrow", "surface", "bone"})
    return everywhere - {"bone"} if model.geometry.kind == "empty" else everywhere


def _check_fates(model: Model, state: State, states: dict[str, State], document: Document) -> None:
    key = f"state.{state.name}"
    if state.when_filled and not sum(model.values[n] for _, n in state.when_filled) > 0:
        raise document.refuse(f"{key}.when_filled", "all weights are 0; write one above 0")
    stranded = states.get(state.when_stranded or "")
    if stranded is not None and not voxels_of(stranded.lives) & {"marrow"}:
        problem = f'"{stranded.name}" does not live in marrow, where the stranded cell is'
        raise document.refuse(f"{key}.when_stranded", f'{problem}; write "empty"')
    resorbed = states[state.when_resorbed]
    if not voxels_of(resorbed.lives) & {"marrow", "surface"}:
        problem = f'"{resorbed.name}" lives in bone, but the voxel is marrow then'
        raise document.refuse(f"{key}.when_resorbed", f'{problem}; write "empty"')


def _check_seeding_sums(model: Model, document: Document) -> None:
    shares = {"marrow": 0.0, "surface": 0.0, "bone": 0.0}
    last = "state"
    for state in model.states:
        for seeding in state.seeding:
            fraction = model.values[seeding.fraction]
            last = f"state.{state.name}.seeding"
            for voxels in _seeded_voxels(model, seeding.where):
                shares[voxels] += fraction
    for voxels, total in shares.items():
        if total > 1 + 1e-9:
            problem = f"the fractions seeded in {voxels} sum to {total:g}, more than 1"
            raise document.refuse(last, f"{problem} (all states together); write smaller ones")


def _check_kills(model: Model, states: dict[str, State], document: Document) -> None:
    for intervention in model.interventions:
        into = states[intervention.into]
        for name in intervention.states:
            if into.name != EMPTY and not _meet(states[name], into):
                raise document.refuse(
                    f"intervention.{intervention.name}.kill.into",
                    f'"{into.name}" may not live where "{name}" lives ({_list(states[name].lives)})'
                    f'; write "empty", or another state',
                )


def _check_production(model: Model, document: Document) -> None:
    """Production has no cell, so no age; a compartment senses what is the same everywhere."""
    systemic = {c.name for c in model.cytokines if c.systemic}
    for cytokine in model.cytokines:
        for response in cytokine.production_when:
            kind, of = response.signal.kind, response.signal.of
            key = f"cytokine.{cytokine.name}.production.when"
            if kind == "age":
                problem = "production is of no cell and has no age; write another signal"
                raise document.refuse(key, problem)
            everywhere = kind in ("density", "time") or (kind == "cytokine" and of in systemic)
            if cytokine.systemic and not everywhere:
                signal = of if kind == "cytokine" else kind
                problem = f'"{signal}" differs from place to place, "{cytokine.name}" is systemic'
                hint = "write a density, time or a systemic cytokine"
                raise document.refuse(key, f"{problem}; {hint}")


def _check_compartments(model: Model, document: Document) -> None:
    systemic = {c.name for c in model.cytokines if c.systemic}
    for reaction in model.reactions:
        names = {name for name, _ in (*reaction.left, *reaction.right)}
        if names & systemic and names - systemic:
            problem = f'"{sorted(names & systemic)[0]}" is systemic, the others are fields'
            key = f"reaction.{reaction.name}.equation"
            raise document.refuse(key, f"{problem}; write cytokines of one compartment")
    for rule in model.rules:
        if rule.toward is not None and rule.toward.signal.written in systemic:
            key = f"rule.{rule.name.split('.')[0]}.toward.signal"
            problem = f'"{rule.toward.signal.of}" is systemic and has no gradient'
            raise document.refuse(key, f"{problem}; write a cytokine that is a field")
