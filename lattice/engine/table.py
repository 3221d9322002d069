"""The rule table as static integers: the one function that reads a model for the engine.

Every reading (sampled, mean field, exact) is a loop over this table. Rules that compete for the
same reactants form a *group*; inside a group they are ordered by name, so that neither the order
of the file nor a rule of rate 0 changes a draw.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache

from lattice.model.structure import EMPTY, Model, Number, Rule, State


@dataclass(frozen=True)
class Fate:
    """A way out of a voxel that has filled with matrix: `weight` among its state's fates."""

    state: int
    into: int
    weight: Number
    stays: bool  # may live in bone, so it is embedded where it is


@dataclass(frozen=True)
class Entry:
    """One rule of a group. `products` and `carries` follow the order of the group's reactants;
    `actor` is the position of the rule's first reactant in it. `rule` is the row in
    `Table.rules`; a fate that moves out of a full voxel has a `fate` instead of a rule."""

    rule: Rule | None
    row: int
    actor: int
    products: tuple[int, ...]
    carries: tuple[int | None, ...]
    fate: Fate | None = None
    stranded: bool = False  # fires where a cell of the surface has lost it
    share: float = 1.0  # a contact between two of a kind is tried from either end at half the rate


@dataclass(frozen=True)
class Group:
    """Rules that compete for the same reactants (codes of states)."""

    reactants: tuple[int, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    """Everything that the interpreter needs to know of a model's states and rules."""

    states: tuple[State, ...]
    site: tuple[Group, ...]
    pair: tuple[Group, ...]  # reactants in ascending code
    fates: tuple[tuple[Fate, ...], ...]  # by state; empty where a state never fills a voxel
    rule_names: tuple[str, ...]

    @property
    def site_codes(self) -> tuple[int, ...]:
        """States that a site rule may change, the empty voxel apart."""
        return tuple(g.reactants[0] for g in self.site if g.reactants[0] != 0)

    @cached_property
    def pair_codes(self) -> tuple[int, ...]:
        """States one of which is in every pair that may react: few, as these are what is listed."""
        pairs = [set(g.reactants) for g in self.pair]
        # An empty voxel is listed only if two of them react: there are too many.
        chosen = {c for pair in pairs for c in pair if pair in ({0, c}, {c}) and c != 0}
        if {0} in pairs:
            chosen.add(0)
        while open_pairs := [pair for pair in pairs if not pair & chosen]:
            uses = Counter(c for pair in open_pairs for c in pair)
            chosen.add(max(uses, key=lambda c: (uses[c], -c)))
        return tuple(sorted(chosen))

    @property
    def arrivals(self) -> Group | None:
        """The site rules of the empty voxel."""
        return next((g for g in self.site if g.reactants[0] == 0), None)

    @property
    def fills(self) -> bool:
        """Whether cells fill voxels with matrix."""
        return any(s.lays is not None for s in self.states)

    def lives(self, code: int) -> frozenset[str]:
        """Where a state may be; the empty state may be anywhere."""
        if code == 0:
            return frozenset({"marrow", "surface", "bone"})
        return self.states[code].lives


@lru_cache(maxsize=16)
def lower(structure: Model) -> Table:
    """Read the model's tables into codes."""
    codes = structure.state_codes()
    if structure.states[0].name != EMPTY:
        raise ValueError("the first state of a resolved model is 'empty'")
    fates = tuple(_fates(s, structure, codes) for s in structure.states)
    site: dict[tuple[int, ...], list[Entry]] = {}
    pair: dict[tuple[int, ...], list[Entry]] = {}
    for row, rule in enumerate(structure.rules):
        reactants = tuple(codes[r] for r in rule.reactants)
        products = tuple(codes[p] for p in rule.products)
        carries = rule.carries or (None,) * len(products)
        if len(reactants) == 1:
            site.setdefault(reactants, []).append(Entry(rule, row, 0, products, carries))
        else:
            for key, entry in _orientations(rule, row, reactants, products, carries):
                pair.setdefault(key, []).append(entry)
    for state in structure.states:
        if state.when_stranded is not None:
            code, into = codes[state.name], codes[state.when_stranded]
            entry = Entry(None, -1, 0, (into,), (None,), stranded=True)
            site.setdefault((code,), []).append(entry)
    for ways in fates:
        for fate in ways:
            if not fate.stays:
                key, entry = _moves_out(fate, codes)
                pair.setdefault(key, []).append(entry)
    return Table(
        structure.states,
        _groups(site),
        _groups(pair),
        fates,
        tuple(r.name for r in structure.rules),
    )


def _groups(collected: dict[tuple[int, ...], list[Entry]]) -> tuple[Group, ...]:
    return tuple(Group(key, tuple(collected[key])) for key in sorted(collected))


def _fates(state: State, structure: Model, codes: dict[str, int]) -> tuple[Fate, ...]:
    lives = {s.name: s.lives for s in structure.states}
    return tuple(
        Fate(codes[state.name], codes[into], weight, "bone" in lives[into])
        for into, weight in sorted(state.when_filled)
    )


def _orientations(rule, row, reactants, products, carries):
    """A pair rule in the ascending order of its reactants; both ends act if they are alike."""
    a, b = reactants
    swapped = (1, 0)
    flipped = tuple(None if carries[i] is None else 1 - carries[i] for i in swapped)
    turned = Entry(rule, row, 1, (products[1], products[0]), flipped)
    straight = Entry(rule, row, 0, products, carries)
    if a < b:
        return [((a, b), straight)]
    if a > b:
        return [((b, a), turned)]
    halved = [
        Entry(e.rule, e.row, e.actor, e.products, e.carries, share=0.5) for e in (straight, turned)
    ]
    return [((a, b), e) for e in halved]


def _moves_out(fate: Fate, codes: dict[str, int]) -> tuple[tuple[int, int], Entry]:
    """The pair (cell in a full voxel, empty) -> (empty, its fate next door)."""
    keeps = fate.into == fate.state
    return (0, fate.state), Entry(
        None, -1, 1, (fate.into, 0), (1 if keeps else None, None), fate=fate
    )
