"""The resolved model in words, for `osteolattice check`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from .advice import advice, duration
from .structure import (
    Cytokine,
    Exchange,
    Intervention,
    MatrixRate,
    Model,
    Reaction,
    Response,
    Rule,
    State,
)

__all__ = ["describe"]


def describe(model: Model, bytes_per_voxel: Callable[[Model], float] | None = None) -> str:
    """Plain text: lattice, cytokines, states, rules, interventions, parameters and advice.

    `bytes_per_voxel` estimates the memory of a run; without it no estimate is printed.
    """
    words = _Words(model)
    sections = [
        ("", [model.name]),
        ("Lattice", _lattice(model, bytes_per_voxel)),
        ("Time", _time(model)),
        ("Cytokines", [line for c in model.cytokines for line in words.cytokine(c)]),
        ("Reactions", [words.reaction(r) for r in model.reactions]),
        ("States", [line for s in model.states[1:] for line in words.state(s)]),
        ("Rules", [line for r in model.rules for line in words.rule(r)]),
        ("Interventions", [words.intervention(i) for i in model.interventions]),
        ("Parameters", _parameters(model)),
        ("Advice", advice(model)),
    ]
    blocks = []
    for title, lines in sections:
        if lines:
            indent = "  " if title else ""
            blocks.append("\n".join(([title] if title else []) + [indent + x for x in lines]))
    return "\n\n".join(blocks) + "\n"


def _lattice(model: Model, bytes_per_voxel: Callable[[Model], float] | None) -> list[str]:
    lattice, g = model.lattice, model.geometry
    x, y, z = lattice.shape
    size = " x ".join(f"{n * lattice.voxel:g}" for n in lattice.shape)
    kinds = ["periodic" if p else "no-flux" for p in lattice.periodic]
    boundary = kinds[0] if len(set(kinds)) == 1 else ", ".join(kinds)
    lines = [
        f"{x} x {y} x {z} voxels of {lattice.voxel:g} um: {size} um, boundary {boundary}",
        _geometry(model) if g.kind != "empty" else "no bone at the start",
    ]
    if bytes_per_voxel is not None:
        each = bytes_per_voxel(model)
        lines.append(f"memory: {each:.0f} bytes per voxel, {each * x * y * z / 2**20:.0f} MiB")
    return lines


def _geometry(model: Model) -> str:
    g = model.geometry
    parts = [f"bone: {g.kind}"]
    if g.bone_fraction is not None:
        parts.append(f"bone fraction {g.bone_fraction:g}")
    for key, value in (("thickness", g.thickness), ("radius", g.radius)):
        if value is not None:
            parts.append(f"{key} {value:g} um")
    if g.image is not None:
        threshold = "Otsu" if g.threshold is None else f"{g.threshold:g}"
        voxel = "as the file says" if g.image_voxel is None else f"{g.image_voxel:g} um"
        parts += [g.image, f"voxel of the image {voxel}", f"threshold {threshold}"]
    return ", ".join(parts)


def _time(model: Model) -> list[str]:
    t, o = model.time, model.output
    every = {"series": o.series, "snapshots": o.snapshots, "checkpoints": o.checkpoints}
    written = [f"{k} " + (f"every {duration(v)}" if v else "never") for k, v in every.items()]
    if o.sparing:
        written[-1] += " at most"
    steps = math.ceil(t.until / t.step - 1e-9)
    labels = [
        f"label {i} is taken up from {duration(begin)} for {duration(o.label_window)}"
        for i, begin in enumerate(o.labels or (), 1)
    ]
    return [
        f"{duration(t.until)} in {steps} steps of {duration(t.step)}; fields every "
        f"{duration(t.field_step)}, contacts every {duration(t.contact_step)}",
        ", ".join(written),
        *labels,
    ]


def _parameters(model: Model) -> list[str]:
    rows = [("name", "value", "unit", "written", "label", "source")]
    for p in model.parameters:
        source = p.source + (f", doi {p.doi}" if p.doi else "")
        rows.append((p.name, f"{p.value:.6g}", p.unit, p.written, p.label or "-", source or "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        "  ".join([cell.ljust(w) for cell, w in zip(row[:5], widths, strict=True)] + [row[5]])
        for row in rows
    ]


class _Words:
    """Sentences about parts of one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parameters = {p.name: p for p in model.parameters}

    def number(self, name: str | None) -> str:
        """As the user wrote it; else the canonical value."""
        if name is None:
            return ""
        p = self.parameters[name]
        if p.written.startswith("("):
            return f"{p.value:g}" + (f" {p.unit}" if p.unit != "1" else "")
        return p.written

    def cytokine(self, c: Cytokine) -> Iterable[str]:
        values = self.model.values
        decay = values[c.decay]
        parts = [c.name + ":"]
        if c.systemic:
            parts.append("systemic,")
        else:
            parts.append(f"diffusion {self.number(c.diffusion)}, in bone x {values[c.in_bone]:g},")
        if decay > 0:
            parts.append(f"half-life {duration(math.log(2) / decay)}")
            if not c.systemic:
                parts.append(f"(length {math.sqrt(values[c.diffusion] / decay):.0f} um)")
        else:
            parts.append("no decay")
        unit = "ng/mL" if c.amount == "mass" else "uM"
        yield " ".join(parts) + f", in {unit}"
        if values[c.production]:
            yield f"  produced {self.number(c.production)}{self.responses(c.production_when)}"

    def reaction(self, r: Reaction) -> str:
        sides = [
            " + ".join(f"{n} {name}" if n > 1 else name for name, n in side)
            for side in (r.left, r.right)
        ]
        arrow = " -> " if r.backward is None else " <-> "
        back = f", backward {self.number(r.backward)}" if r.backward else ""
        return f"{r.name}: {arrow.join(sides)}  forward {self.number(r.forward)}{back}"

    def state(self, s: State) -> Iterable[str]:
        counted = "" if s.role is None else f", counted as {s.role}"
        yield f"{s.name}: lives in {', '.join(sorted(s.lives))}{counted}"
        for seeding in s.seeding:
            fraction = self.number(seeding.fraction)
            yield f"  seeded in {seeding.where} with probability {fraction}"
        for verb, exchanges in (("secretes", s.secretes), ("takes up", s.takes_up)):
            for e in exchanges:
                yield f"  {verb} {e.cytokine} {self.rate(e)}"
        for verb, item in (("lays osteoid", s.lays), ("resorbs", s.resorbs)):
            if item is not None:
                yield f"  {verb} {self.rate(item)}"
        if s.when_filled:
            total = sum(self.model.values[n] for _, n in s.when_filled)
            shares = [f"{f} {self.model.values[n] / total:.0%}" for f, n in s.when_filled]
            yield "  when its voxel is full: " + ", ".join(shares)

    def rate(self, item: Exchange | MatrixRate) -> str:
        return f"{self.number(item.rate)}{self.responses(item.responses)}"

    def responses(self, responses: tuple[Response, ...]) -> str:
        return "".join(f", {self.response(r)}" for r in responses)

    def response(self, r: Response) -> str:
        details = f"{r.at.rpartition('.')[2]} {self.number(r.at)}"
        if r.shape == "inverse":
            details = f"inverse, {details}"
        power = self.model.values[r.power]
        if power != 1:
            details += f", power {power:g}"
        floor, ceiling = self.model.values[r.floor], self.model.values[r.ceiling]
        if (floor, ceiling) not in ((0, 1), (0, math.inf)):
            details += f", factor {floor:g} to {ceiling:g}"
        return f"{r.effect} with {r.signal.written} ({details})"

    def rule(self, r: Rule) -> Iterable[str]:
        verb = " + ".join(r.reactants) + " -> " + " + ".join(r.products)
        strength = self.number(r.rate) or f"at age {self.number(r.after)}"
        text = f"{r.name}: {verb}  {strength}{self.responses(r.responses)}"
        if r.toward is not None:
            text += f", toward {r.toward.signal.written}"
            text += f" (strength {self.number(r.toward.strength)})"
        for word in ("needs_matrix", "forbids_matrix", "consumes_matrix"):
            if getattr(r, word) is not None:
                text += f", {word.replace('_', ' ')} {self.number(getattr(r, word))}"
        return [text]

    def intervention(self, i: Intervention) -> str:
        s = i.schedule
        if s.at:
            when = "at " + ", ".join(self.number(n) for n in s.at)
        elif s.every is not None:
            when = f"every {self.number(s.every)} from {self.number(s.start)}{self.until(s.stop)}"
        elif i.kind == "kill":
            when = f"at {self.number(s.start)}"
        else:
            when = f"from {self.number(s.start)}{self.until(s.stop)}"
        if i.kind == "kill":
            cells = ", ".join(i.states)
            return f"{i.name}: {self.number(i.fraction)} of {cells} -> {i.into}, {when}"
        if i.kind == "source":
            return f"{i.name}: {i.cytokine} + {self.number(i.rate)} in {i.where}, {when}"
        factors = [f"{name} x {self.number(factor)}" for name, factor in i.scales]
        return f"{i.name}: {', '.join(factors)}, {when}"

    def until(self, stop: str) -> str:
        p = self.parameters[stop]
        return "" if p.written == "(default)" else f" until {self.number(stop)}"
