"""A small invented run, written through the same writer as a real one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lattice.engine.declare import MATRIX_ONE
from lattice.io.runfile import RunWriter
from lattice.model import loads

STATES = {
    "osteoblast_fresh": ("surface", 0.18),
    "osteoblast_aged": ("surface", 0.10),
    "osteoclast": ("surface", 0.05),
    "lining": ("surface", 0.25),
    "apoptotic": ("surface", 0.03),
    "preosteoblast": ("surface", 0.06),
    "osteocyte": ("bone", 0.04),
    "empty_lacuna": ("bone", 0.004),
    "M0": ("marrow", 0.02),
    "M1": ("marrow", 0.01),
    "M2": ("marrow", 0.01),
    "efferocyte": ("marrow", 0.004),
    "LepR": ("marrow", 0.03),
    "preosteoclast": ("marrow", 0.01),
}

TEXT = """
schema = 1
name = "an invented run"
[lattice]
shape = [{nx}, {ny}, {nz}]
voxel = "10 um"
[geometry]
kind = "trabecular"
bone_fraction = 0.25
thickness = "50 um"
[time]
step = "1 h"
until = "10 day"
[matrix]
lag = "2 day"
[[cytokine]]
name = "TNF"
diffusion = "30 um^2/s"
half_life = "78 min"
molar_mass = "17.4 kDa"
[[cytokine]]
name = "RANKL"
diffusion = "10 um^2/s"
half_life = "1 h"
[[intervention]]
name = "AP20187"
kill = {{ states = ["osteoblast_fresh"], fraction = 0.2, into = "apoptotic" }}
every = "3.5 day"
from = "1 day"
until = "9 day"
[[intervention]]
name = "anti-TNF"
factor = {{ "cytokine.TNF.decay" = 10 }}
from = "4 day"
until = "7 day"
[[rule]]
name = "polarise"
from = "M0"
to = "M1"
rate = "0.6 /day"
[sources]
"*" = {{ source = "invented for a test", label = "assumed" }}
"""


def model_text(shape_xyz) -> str:
    """The model file of the invented run."""
    nx, ny, nz = shape_xyz
    text = TEXT.format(nx=nx, ny=ny, nz=nz)
    for name, (place, fraction) in STATES.items():
        text += f'[[state]]\nname = "{name}"\nlives = ["{place}"]\n'
        if name.startswith("osteoblast"):
            text += 'lays = "0.2 /day"\n'
        if name == "osteoclast":
            text += 'resorbs = "0.3 /day"\n'
        text += f'seeding = {{ where = "{place}", fraction = {fraction} }}\n'
    return text


def random_bone(shape_zyx, fraction=0.25, width=3.0, seed=0) -> np.ndarray:
    """Trabeculae-like bone: a band of a smooth random field."""
    noise = np.random.default_rng(seed).normal(size=shape_zyx)
    field = np.abs(ndimage.gaussian_filter(noise, width, mode="reflect"))
    return (field < np.quantile(field, fraction)).astype(np.uint8)


def invented_state(model, grown: float, seed: int = 1) -> dict[str, np.ndarray]:
    """The arrays of a state, as the engine hands them to the writer."""
    nx, ny, nz = model.lattice.shape
    shape = (nz, ny, nx)
    rng = np.random.default_rng(seed)
    bone = random_bone(shape)
    surface = ndimage.binary_dilation(bone) & (bone == 0)
    places = {"bone": bone == 1, "surface": surface, "marrow": (bone == 0) & ~surface}
    cells = np.zeros(shape, np.uint8)
    codes = model.state_codes()
    for name, (place, fraction) in STATES.items():
        patch = ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
        where = places[place] & (cells == 0)
        if where.any():
            cells[where & (patch > np.quantile(patch[where], 1 - fraction))] = codes[name]
    osteoid = np.zeros((shape[0], 3, *shape[1:]), np.int32)
    forming = np.isin(cells, [codes["osteoblast_fresh"], codes["osteoblast_aged"]])
    np.moveaxis(osteoid, 1, -1)[forming] = int(grown * MATRIX_ONE / 3)
    mineral = bone.astype(np.int32) * MATRIX_ONE
    source = (cells == codes["M1"]).astype(float)
    tnf = ndimage.gaussian_filter(source, 3.0) * 0.05
    rankl = ndimage.gaussian_filter((cells == codes["osteocyte"]).astype(float), 5.0)
    order = sorted(("RANKL", "TNF"))
    fields = {"TNF": tnf, "RANKL": rankl}
    cytokines = np.stack([fields[n] for n in order], axis=-1).astype(np.float32)
    return {
        "bone": bone,
        "cells": cells,
        "osteoid": osteoid,
        "mineral": mineral,
        "cytokines": cytokines,
    }


def write_invented_run(folder, shape_xyz=(24, 22, 20)):
    """Writes a run folder with 41 rows and two snapshots; returns its model."""
    model = loads(model_text(shape_xyz))
    states = [invented_state(model, 0.1), invented_state(model, 0.6)]
    voxel_mm3 = 1e-6
    rng = np.random.default_rng(3)
    counts = {s.name: int((states[0]["cells"] == i).sum()) for i, s in enumerate(model.states)}
    mineral = states[0]["bone"].sum() * voxel_mm3
    provenance = {"versions": {"python": "3", "jax": "0"}, "commit": "abc", "host": "somewhere"}
    units = {"BV/TV": "%", "osteoid": "mm^3", "mineral": "mm^3", "events.polarise": "events"}
    units |= {f"matrix.{k}": "mm^3" for k in ("formed", "resorbed", "mineralised")}
    units |= {f"TNF.{k}": "fg" for k in ("produced", "decayed", "consumed", "present")}
    with RunWriter.create(folder, model, seed=5, provenance=provenance, units=units) as run:
        for i, time in enumerate(np.arange(0, 241, 6.0)):
            share = i / 40
            osteoid = mineral * 0.02 * (1 + share)
            row = {
                n: c * (1 + 0.3 * np.sin(4 * share + len(n)) + 0.02 * rng.normal())
                for n, c in counts.items()
                if n != "empty"
            }
            row |= {"osteoid": osteoid, "mineral": mineral * (1 + 0.05 * share)}
            row["BV/TV"] = (
                100 * (row["osteoid"] + row["mineral"]) / (np.prod(shape_xyz) * voxel_mm3)
            )
            row |= {
                "matrix.formed": mineral * 0.1 * share,
                "matrix.resorbed": mineral * 0.03 * share,
            }
            row |= {"matrix.mineralised": mineral * 0.05 * share, "events.polarise": 40.0 * i}
            for name in ("TNF", "RANKL"):
                level = 0.01 * (1 + share)
                row |= {f"{name}.mean": level, f"{name}.max": 60 * level, f"{name}.min": level / 50}
            row |= {"TNF.produced": 10 * share, "TNF.decayed": 8 * share, "TNF.consumed": 1 * share}
            row["TNF.present"] = share
            run.add_row(float(time), row)
        for time, state in zip((0.0, 240.0), states, strict=True):
            run.add_snapshot(time, state)
        run.finish()
    return model
