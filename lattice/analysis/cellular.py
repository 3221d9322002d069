"""Cellular histomorphometry of a lattice: which share of the bone surface bears which cells.

Names and units as in Dempster et al., J. Bone Miner. Res. 28 (2013) 2-17. A model's own states are
mapped to the roles of histology (osteoblast, osteoclast, ...) by `roles_of_model` or, for a file
without its model, `roles_of_names`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from lattice.analysis.morphometry import Measure, ratio
from lattice.model.structure import EMPTY, ROLES, Model

Roles = Mapping[str, frozenset[str]]

DESCRIPTIONS = {
    "Md.V": "mineralised volume",
    "OV": "osteoid volume",
    "OV/BV": "osteoid volume as a share of bone volume",
    "Ob.S/BS": "bone surface that touches osteoblasts",
    "Oc.S/BS": "bone surface that touches osteoclasts",
    "OS/BS": "bone surface covered by osteoid",
    "ES/BS": "eroded surface: touches osteoclasts or reversal cells",
    "QS/BS": "quiescent surface: touches lining cells",
    "Site occupancy": "surface that touches osteoblasts, as a share of what neither lining cells "
    "nor osteoclasts hold",
    "O.Th": "osteoid thickness, OV / OS",
    "N.Ob/BS": "osteoblasts on bone per bone surface",
    "N.Oc/BS": "osteoclasts on bone per bone surface",
    "N.Ob/TV": "osteoblasts per tissue volume",
    "N.Ot/BV": "osteocytes per bone volume",
    "Empty lacunae": "lacunae without a living osteocyte, share of all lacunae",
    "Lacunar integrity": "lacunae with a living osteocyte, share of all: the lacuno-canalicular "
    "network needs living cells, which stiffness cannot see",
    "Apoptotic osteoblasts": "apoptotic cells, share of osteoblasts and apoptotic cells",
    "Efferocytic index": "corpses inside phagocytes, share of corpses inside and free",
    "N.Debris/TV": "corpses that nobody engulfed in time, per tissue volume",
}


def roles_of_names(states: Sequence[str]) -> dict[str, frozenset[str]]:
    """Roles as the states' names suggest: "osteoblast_aged" is an osteoblast, "dead_osteocyte" or
    "lacuna_old" an empty lacuna, "preosteoblast" neither; "apoptotic" anywhere is apoptotic."""
    roles: dict[str, set[str]] = {role: set() for role in ROLES}
    for name in states:
        role = _role_of_name(name.lower())
        if role is not None:
            roles[role].add(name)
    return {role: frozenset(names) for role, names in roles.items()}


def _role_of_name(name: str) -> str | None:
    gone = any(word in name for word in ("apopto", "dead", "dying"))
    if "lacuna" in name or ("osteocyte" in name and gone):
        return "empty_lacuna"
    if "necro" in name:
        return "debris"
    if gone:
        return "apoptotic"
    if name.startswith(("pre", "pro")) or "precursor" in name or "progenitor" in name:
        return None
    return next((role for role in ROLES if role in name), None)


def roles_of_model(model: Model) -> dict[str, frozenset[str]]:
    """Roles as the model file says (`role`); of states without one, by what they do: those that lay
    matrix are osteoblasts, those that resorb it osteoclasts; of the others as their names suggest.
    """
    told = {s.name: s.role for s in model.states if s.role is not None}
    silent = [s for s in model.states[1:] if s.name not in told]
    builders = {s.name for s in silent if s.lays is not None}
    resorbers = {s.name for s in silent if s.resorbs is not None}
    guessed = roles_of_names([s.name for s in silent])
    roles = {role: set(names - builders - resorbers) for role, names in guessed.items()}
    for role, acting in (("osteoblast", builders), ("osteoclast", resorbers)):
        roles[role] = acting or roles[role]
    for name, role in told.items():
        if role != "none":
            roles[role].add(name)
    return {role: frozenset(names) for role, names in roles.items()}


def state_densities(
    model: Model, cells: UInt8[np.ndarray, "Z Y X"], voxel_um: float
) -> dict[str, Measure]:
    """Cells of each state per tissue volume, named N.<state>/TV."""
    counts = np.bincount(cells.ravel(), minlength=len(model.states))
    tv = cells.size * (voxel_um / 1000.0) ** 3
    return {
        f"N.{state.name}/TV": Measure(int(n) / tv, "1/mm^3")
        for state, n in zip(model.states, counts, strict=True)
        if state.name != EMPTY
    }


def cellular_morphometry(
    bone: Bool[np.ndarray, "Z Y X"],
    cells: UInt8[np.ndarray, "Z Y X"],
    osteoid: Float[np.ndarray, "Z Y X"],
    mineral: Float[np.ndarray, "Z Y X"],
    state_names: Sequence[str],
    roles: Roles,
    voxel_um: float,
    bone_surface_mm2: float,
    seam_um: float = 1.0,
) -> dict[str, Measure]:
    """Cellular measures of one snapshot; a measure whose role no state has is left out.

    Surfaces are shares of the faces between bone and marrow voxels, scaled to `bone_surface_mm2`
    (marching cubes) where a length or a number per area is asked for. A face bears osteoid if its
    two voxels hold a seam of `seam_um` or more between them. Erosion is seen by its cells alone: a
    lattice keeps no memory of a scalloped surface.
    """
    present = {
        role: np.isin(cells, [i for i, s in enumerate(state_names) if s in names])
        for role, names in roles.items()
        if names
    }
    shares = _surface_shares(bone, present, osteoid, seam_um / voxel_um)
    volumes = _matrix_volumes(osteoid, mineral, voxel_um)
    if {"Ob.S/BS", "Oc.S/BS", "QS/BS"} <= set(shares):
        held = shares["Oc.S/BS"] + shares["QS/BS"]
        shares["Site occupancy"] = ratio(shares["Ob.S/BS"], 1 - held)
    result = volumes | {name: Measure(100 * s, "%") for name, s in shares.items()}
    covered_mm2 = shares["OS/BS"] * bone_surface_mm2
    result["O.Th"] = Measure(1000 * ratio(volumes["OV"].value, covered_mm2), "um")
    return result | _numbers(present, bone, volumes, cells.size, voxel_um, bone_surface_mm2)


def _union(present: Mapping[str, np.ndarray], roles: Sequence[str], shape) -> np.ndarray:
    where = np.zeros(shape, bool)
    for role in roles:
        where |= present.get(role, False)
    return where


def _matrix_volumes(osteoid, mineral, voxel_um: float) -> dict[str, Measure]:
    voxel_mm3 = (voxel_um / 1000.0) ** 3
    ov = float(osteoid.sum(dtype=np.float64)) * voxel_mm3
    mdv = float(mineral.sum(dtype=np.float64)) * voxel_mm3
    return {
        "Md.V": Measure(mdv, "mm^3"),
        "OV": Measure(ov, "mm^3"),
        "OV/BV": Measure(100 * ratio(ov, ov + mdv), "%"),
    }


def _faces(bone: np.ndarray) -> Iterator[tuple[tuple, tuple]]:
    """Index arrays (bone voxel, marrow voxel) of the faces between them, axis by axis."""
    for axis in range(3):
        for forward in (True, False):
            low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
            high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
            inner, outer = (low, high) if forward else (high, low)
            at = np.nonzero(bone[inner] & ~bone[outer])
            up = tuple(i + (a == axis) for a, i in enumerate(at))
            yield (at, up) if forward else (up, at)


def _surface_shares(bone, present, osteoid, seam: float) -> dict[str, float]:
    wanted = {
        "Ob.S/BS": ("osteoblast",),
        "Oc.S/BS": ("osteoclast",),
        "ES/BS": ("osteoclast", "reversal"),
        "QS/BS": ("lining",),
    }
    covers = {
        name: _union(present, roles, bone.shape)
        for name, roles in wanted.items()
        if any(role in present for role in roles)
    }
    total, count = 0, dict.fromkeys([*covers, "OS/BS"], 0)
    for inner, outer in _faces(bone):
        total += len(inner[0])
        for name, where in covers.items():
            count[name] += int(where[outer].sum())
        count["OS/BS"] += int((osteoid[inner] + osteoid[outer] >= seam).sum())
    return {name: ratio(n, total) for name, n in count.items()}


def _numbers(present, bone, volumes, voxels, voxel_um, bs) -> dict[str, Measure]:
    bv = volumes["Md.V"].value + volumes["OV"].value
    tv = voxels * (voxel_um / 1000.0) ** 3
    n = {role: int(where.sum()) for role, where in present.items()}
    touching = _touching(bone)
    result = {}
    for role, short in (("osteoblast", "Ob"), ("osteoclast", "Oc")):
        if role in present:
            on_bone = int((present[role] & touching).sum())
            result[f"N.{short}/BS"] = Measure(ratio(on_bone, bs), "1/mm^2")
    if "osteoblast" in n:
        result["N.Ob/TV"] = Measure(n["osteoblast"] / tv, "1/mm^3")
    if "osteocyte" in n:
        result["N.Ot/BV"] = Measure(ratio(n["osteocyte"], bv), "1/mm^3")
    if "empty_lacuna" in n:
        lacunae = n["empty_lacuna"] + n.get("osteocyte", 0)
        result["Empty lacunae"] = Measure(100 * ratio(n["empty_lacuna"], lacunae), "%")
        result["Lacunar integrity"] = Measure(100 * ratio(n.get("osteocyte", 0), lacunae), "%")
    if "apoptotic" in n and "osteoblast" in n:
        share = ratio(n["apoptotic"], n["apoptotic"] + n["osteoblast"])
        result["Apoptotic osteoblasts"] = Measure(100 * share, "%")
    if "apoptotic" in n and "efferocyte" in n:
        share = ratio(n["efferocyte"], n["efferocyte"] + n["apoptotic"])
        result["Efferocytic index"] = Measure(100 * share, "%")
    if "debris" in n:
        result["N.Debris/TV"] = Measure(n["debris"] / tv, "1/mm^3")
    return result


def _touching(bone: Bool[np.ndarray, "Z Y X"]) -> Bool[np.ndarray, "Z Y X"]:
    """Marrow voxels with bone on one of their six faces."""
    near = np.zeros(bone.shape, bool)
    for _, outer in _faces(bone):
        near[outer] = True
    return near
