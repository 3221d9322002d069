"""A connected piece of a wanted size, of the voxels with the lowest scores.

The largest piece of the voxels below a level grows with the level. The one voxel at which it
becomes large enough is looked for on a graph: its nodes are the pieces below a low level and,
one by one, the voxels from there to a high level, of which there are few.
"""

from __future__ import annotations

import math

import numpy as np

from lattice.model.pieces import NEIGHBOURS, Pieces, Wraps, find_pieces, joined, wrapped_planes
from lattice.model.planes import Planes, Shape, Workspace
from lattice.model.scores import Level, Scores

__all__ = ["connected_piece"]

FIRST_RISE = 1 << 17
"""Steps of a floating-point number, of which 2^23 double it, to the first higher level."""

BYTES_PER_NODE = 2048
"""Memory for one voxel between the levels, most of it for its edges."""

PIECE, REST = 1, 2
"""The piece, and what the last voxel that it needs joins to it."""


def connected_piece(scores: Scores, wanted: int, periodic: Wraps, workspace: Workspace) -> Planes:
    """A connected piece (uint8) of exactly `wanted` voxels, of those with the lowest scores.

    The largest piece below the last level before it is large enough, and the rest from what the
    next voxel joins to it, layer by layer around that voxel. Raises StorageError.
    """
    shape, level = scores.values.shape, scores.lowest(wanted)
    pieces = find_pieces(scores.below(level), scores.slabs, periodic)
    if pieces.sizes.max() == wanted:  # in one piece from the start
        return workspace.filled(shape, scores.below(level), np.uint8)
    graph = _between(scores, wanted, level, pieces, periodic, workspace)
    last = graph.last_needed(wanted)
    kinds, size = graph.kinds(last)
    bone = workspace.planes(shape, np.uint8)
    for index, (first, _) in enumerate(scores.slabs):
        bone.write(first, kinds[graph.nodes(index)])
    _grow(bone, scores.values, int(graph.places[last]), wanted - size, periodic)
    for first, past in scores.slabs:
        bone.write(first, bone.read(first, past) == PIECE)
    return bone


def _between(
    scores: Scores,
    wanted: int,
    low: Level,
    pieces: Pieces,
    periodic: Wraps,
    workspace: Workspace,
) -> _Graph:
    """The graph between a level at which the largest piece is too small and one at which it is
    large enough, with no more voxels between them than there is memory for."""

    def up_to(level: Level) -> Pieces:
        return find_pieces(scores.below(level), scores.slabs, periodic)

    rise, room = FIRST_RISE, workspace.memory // BYTES_PER_NODE
    while (above := up_to(high := low.raised(rise))).sizes.max() < wanted:
        low, pieces, rise = high, above, 2 * rise
    while above.sizes.sum() - pieces.sizes.sum() > room and rise > 1:
        rise //= 2
        found = up_to(middle := low.raised(rise))
        if found.sizes.max() < wanted:
            low, pieces = middle, found
        else:
            high, above = middle, found
    return _Graph(scores, high, pieces, periodic)


class _Graph:
    """What touches what below the level `high`. Nodes are `pieces`, those below a lower level, and
    then the voxels between the two, in the order of memory; 0 is none.

    `places`: the indices of these voxels in the order of memory."""

    def __init__(self, scores: Scores, high: Level, pieces: Pieces, periodic: Wraps) -> None:
        self._scores, self._high, self._pieces, self._periodic = scores, high, pieces, periodic
        self._voxels = len(pieces.sizes)  # the node of the first one
        self._begins = [self._voxels]  # of the first one in each slab
        places, values, edges = [], [], []
        top = bottom = np.zeros((0, *scores.values.shape[1:]), np.int32)
        for index, (first, last) in enumerate(scores.slabs):
            nodes = self.nodes(index)
            found = np.flatnonzero(nodes >= self._voxels)
            self._begins.append(self._begins[-1] + found.size)
            places.append(found + first * scores.values.plane)
            values.append(scores.values.read(first, last).reshape(-1)[found])
            edges.append(self._edges(np.concatenate([bottom, nodes])))
            top, bottom = nodes[:1] if index == 0 else top, nodes[-1:]
        if periodic[0]:
            edges.append(self._edges(np.concatenate([bottom, top])))
        self.places, self._edge = np.concatenate(places), np.concatenate(edges, axis=1)
        self._rank = np.full(self._begins[-1], -1)  # of each voxel by its score; -1 for pieces
        order = np.argsort(np.concatenate(values), kind="stable")
        self._rank[self._voxels + order] = np.arange(order.size)
        self._needed = self._rank[self._edge].max(axis=0)  # the rank that completes an edge

    def nodes(self, index: int) -> np.ndarray:
        """The node at each voxel of a slab."""
        nodes = self._pieces.slab(index)
        between = self._scores.below(self._high)(*self._scores.slabs[index]) & (nodes == 0)
        begin = self._begins[index]
        nodes[between] = np.arange(begin, begin + np.count_nonzero(between))
        return nodes

    def last_needed(self, wanted: int) -> int:
        """The index of the voxel with which the largest part has `wanted` voxels or more."""
        low, high = 0, self.places.size
        while high - low > 1:
            middle = (low + high) // 2
            if self._parts(middle)[1].max() < wanted:
                low = middle
            else:
                high = middle
        return int(np.flatnonzero(self._rank == high - 1)[0]) - self._voxels

    def kinds(self, last: int) -> tuple[np.ndarray, int]:
        """For each node whether it is in the `PIECE`, the largest part that a voxel joins, or in
        the `REST`, that voxel included, or 0; and how large the piece is."""
        node = self._voxels + last
        part, sizes = self._parts(int(self._rank[node]))
        near = self._edge[1][self._edge[0] == node]
        joins = np.unique(part[near[self._rank[near] < self._rank[node]]])
        largest = joins[sizes[joins] == sizes[joins].max()]
        chosen = int(largest[0]) if largest.size == 1 else self._first_of(largest, part)
        kinds = np.where(np.isin(part, joins), REST, 0).astype(np.uint8)
        kinds[part == chosen] = PIECE
        kinds[node] = REST
        return kinds, int(sizes[chosen])

    def _parts(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """With the first `count` voxels: the part that each node is in, and the voxels of parts."""
        part = joined(self._rank.size, self._edge[:, self._needed < count])
        weights = np.concatenate([self._pieces.sizes, np.ones(self.places.size)])
        weights[self._rank >= count] = 0
        return part, np.bincount(part, weights).astype(np.int64)

    def _first_of(self, parts: np.ndarray, part: np.ndarray) -> int:
        """The part that comes first in memory, an axis that wraps beginning with its last plane."""
        shape, found = self._scores.values.shape, {}
        for index, (first, _) in enumerate(self._scores.slabs):
            here = part[self.nodes(index)]
            for one in parts.tolist():
                at = (np.argwhere(here == one) + np.add((first, 0, 0), self._periodic)) % shape
                turn = np.ravel_multi_index(tuple(at.T), shape)
                found[one] = min(found.get(one, math.inf), turn.min(initial=math.prod(shape)))
        return min(found, key=found.__getitem__)

    def _edges(self, nodes: np.ndarray) -> np.ndarray:
        """What the voxels in some planes touch there, as two rows of nodes."""
        rimmed = np.pad(wrapped_planes(nodes, self._periodic[1:]), ((1, 1), (0, 0), (0, 0)))
        own = np.argwhere(nodes >= self._voxels) + 1
        pairs = []
        for step in NEIGHBOURS:
            near = rimmed[tuple((own + step).T)]
            pairs.append(np.stack([rimmed[tuple(own.T)][near > 0], near[near > 0]]))
        return np.concatenate(pairs, axis=1)


def _grow(bone: Planes, scores: Planes, start: int, missing: int, periodic: Wraps) -> None:
    """Takes so many voxels of the `REST` into the `PIECE`, layer by layer from a voxel on; of the
    last layer those with the lowest scores."""
    layer = np.array([start])
    while missing:
        if layer.size > missing:
            layer = layer[np.lexsort((layer, scores.at(layer)))[:missing]]
        bone.put_at(layer, PIECE)
        missing -= layer.size
        near = _around(layer, bone.shape, periodic)
        layer = near[bone.at(near) == REST]


def _around(places: np.ndarray, shape: Shape, periodic: Wraps) -> np.ndarray:
    """The neighbours of voxels, all by their indices in the order of memory, each once."""
    at = np.stack(np.unravel_index(places, shape), axis=1)
    near = (at[:, None] + NEIGHBOURS).reshape(-1, 3)
    near = np.where(periodic, near % shape, near)
    inside = ((near >= 0) & (near < shape)).all(axis=1)
    return np.unique(np.ravel_multi_index(tuple(near[inside].T), shape))
