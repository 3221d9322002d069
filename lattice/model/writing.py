"""The resolved model as a model file: every number in canonical units, nothing left out.

What is written here loads to an equal model on any machine that has the same images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from .rules import usual_carries
from .structure import (
    Cytokine,
    Exchange,
    Intervention,
    MatrixRate,
    Model,
    Parameter,
    Reaction,
    Response,
    Rule,
    State,
)

__all__ = ["to_toml"]


def to_toml(model: Model) -> str:
    """The model as TOML that `lattice.model.loads` turns into an equal model."""
    return _Writer(model).document()


class _Writer:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.parameters: dict[str, Parameter] = {p.name: p for p in model.parameters}

    def document(self) -> str:
        m = self.model
        blocks = ["\n".join([f"schema = {m.schema}", f"name = {_text(m.name)}"])]
        blocks += [self.lattice(), self.geometry(), self.time(), self.output()]
        blocks += [s for s in (self.solver(), self.matrix()) if s]
        blocks += [self.cytokine(c) for c in m.cytokines]
        blocks += [self.state(s) for s in m.states[1:]]
        blocks += [self.rule(r) for r in m.rules if ".through." not in r.name]
        blocks += [self.reaction(r) for r in m.reactions]
        blocks += [self.intervention(i) for i in m.interventions]
        blocks += [s for s in (self.sources(),) if s]
        return "\n\n".join(blocks) + "\n"

    def number(self, name: str) -> str:
        """The value as it stands in the file: a string with its unit, or a bare number."""
        parameter = self.parameters[name]
        return _quantity(parameter.value, parameter.unit)

    def line(self, key: str, name: str | None) -> list[str]:
        """`key = value`, with what the user wrote behind it."""
        if name is None:
            return []
        written, value = self.parameters[name].written, self.number(name)
        shown = written if value.strip('"') != written else ""
        return [f"{key} = {value}" + (f"  # {shown}" if shown else "")]

    def lattice(self) -> str:
        lattice = self.model.lattice
        kinds = ["periodic" if p else "no-flux" for p in lattice.periodic]
        return _block(
            "[lattice]",
            [
                f"shape = {list(lattice.shape)}",
                f"voxel = {_quantity(lattice.voxel, 'um')}",
                f"boundary = {_list(kinds)}",
            ],
        )

    def geometry(self) -> str:
        g = self.model.geometry
        lines = [f"kind = {_text(g.kind)}"]
        if g.bone_fraction is not None:
            lines.append(f"bone_fraction = {g.bone_fraction!r}")
        for key in ("thickness", "radius"):
            if getattr(g, key) is not None:
                lines.append(f"{key} = {_quantity(getattr(g, key), 'um')}")
        if g.kind in ("plate", "rod"):
            lines += [f"axis = {_text('xyz'[g.axis])}", f"count = {g.count}"]
        if g.image is not None:
            lines.append(f"image = {_text(g.image)}")
            if g.image_voxel is not None:
                lines.append(f"image_voxel = {_quantity(g.image_voxel, 'um')}")
            origin = ", ".join(_quantity(o, "um") for o in g.image_origin)
            lines.append(f"image_origin = [{origin}]")
            threshold = _text("otsu") if g.threshold is None else repr(g.threshold)
            lines.append(f"threshold = {threshold}")
            lines.append(f"smooth = {_quantity(g.smooth, 'um')}")
            lines.append(f"largest_component = {_flag(g.largest_component)}")
        return _block("[geometry]", lines)

    def time(self) -> str:
        time = self.model.time
        keys = ("step", "until", "field_step", "contact_step")
        return _block("[time]", [f"{k} = {_duration(getattr(time, k))}" for k in keys])

    def output(self) -> str:
        output = self.model.output
        lines = []
        for key in ("series", "snapshots", "checkpoints"):
            value = getattr(output, key)
            if key == "checkpoints" and output.sparing:
                lines.append('checkpoints = "auto"')
            else:
                lines.append(f"{key} = " + ('"never"' if value is None else _duration(value)))
        lines += [
            f"keep = {output.keep}",
            f"precision = {_text(output.precision)}",
            f"compression = {_text(output.compression)}",
            f"fields = {_list(output.fields)}",
        ]
        if output.labels is not None:
            lines.append(f"labels = {_list_of_durations(output.labels)}")
            lines.append(f"label_window = {_duration(output.label_window)}")
        return _block("[output]", lines)

    def solver(self) -> str:
        solver = self.model.solver
        lines = [f"scheme = {_text(solver.scheme)}"]
        if solver.iterations is not None:
            lines.append(f"iterations = {solver.iterations}")
        return _block("[solver]", lines)

    def matrix(self) -> str:
        matrix = self.model.matrix
        if matrix is None:
            return ""
        lines = self.line("lag", matrix.lag)
        lines.append(f"stages = {matrix.stages}")
        lines.append(f"initial_surface = {_text(matrix.initial_surface)}")
        return _block("[matrix]", lines)

    def cytokine(self, c: Cytokine) -> str:
        lines = [f"name = {_text(c.name)}"]
        if c.systemic:
            lines.append("systemic = true")
        if c.molar_mass is not None:
            lines.append(f"molar_mass = {_quantity(c.molar_mass, 'g/mol')}")
        keys = ["decay", "production", "initial"]
        if not c.systemic:
            keys = ["diffusion", "in_bone", *keys]
        for key in keys:
            if key == "production" and c.production_when:
                when = self.responses(c.production_when)
                lines.append(f"production = {_inline(rate=self.number(c.production), when=when)}")
            else:
                lines += self.line(key, getattr(c, key))
        return _block("[[cytokine]]", lines)

    def state(self, s: State) -> str:
        lines = [f"name = {_text(s.name)}", f"lives = {_list(sorted(s.lives))}"]
        for key, exchanges in (("secretes", s.secretes), ("takes_up", s.takes_up)):
            lines += [f"{key}.{e.cytokine} = {self.rate(e)}" for e in exchanges]
        for key, matrix_rate in (("lays", s.lays), ("resorbs", s.resorbs)):
            if matrix_rate is not None:
                lines.append(f"{key} = {self.rate(matrix_rate)}")
        lines += [f"when_filled.{fate} = {self.number(n)}" for fate, n in s.when_filled]
        lines.append(f"when_resorbed = {_text(s.when_resorbed)}")
        if s.when_stranded is not None:
            lines.append(f"when_stranded = {_text(s.when_stranded)}")
        if s.seeding:
            tables = [
                _inline(
                    where=_text(seeding.where),
                    fraction=self.number(seeding.fraction),
                    age=self.number(seeding.age),
                )
                for seeding in s.seeding
            ]
            lines.append(f"seeding = {_lines(tables)}")
        if s.color is not None:
            lines.append(f"color = {_text(s.color)}")
        if s.role is not None:
            lines.append(f"role = {_text(s.role)}")
        return _block("[[state]]", lines)

    def rate(self, item: Exchange | MatrixRate) -> str:
        if not item.responses:
            return self.number(item.rate)
        return _inline(rate=self.number(item.rate), when=self.responses(item.responses))

    def responses(self, responses: Sequence[Response]) -> str:
        return "[" + ", ".join(self.response(r) for r in responses) + "]"

    def response(self, r: Response) -> str:
        keys = {
            "signal": _text(r.signal.written),
            "effect": _text(r.effect),
            "shape": _text(r.shape),
            r.at.rpartition(".")[2]: self.number(r.at),
        }
        if r.shape == "hill":
            keys["power"] = self.number(r.power)
        keys["floor"] = self.number(r.floor)
        if math.isfinite(self.parameters[r.ceiling].value):
            keys["ceiling"] = self.number(r.ceiling)
        return _inline(**keys)

    def rule(self, r: Rule) -> str:
        lines = [f"name = {_text(r.name)}"]
        lines += getattr(self, f"_{r.kind}")(r)
        lines += self.line("speed" if r.kind == "move" else "rate", r.rate)
        lines += self.line("after", r.after)
        if r.responses:
            lines.append(f"when = {_lines([self.response(x) for x in r.responses])}")
        if r.toward is not None:
            toward = _inline(
                signal=_text(r.toward.signal.written),
                strength=self.number(r.toward.strength),
                half=self.number(r.toward.half),
            )
            lines.append(f"toward = {toward}")
        for key in ("needs_matrix", "forbids_matrix", "consumes_matrix"):
            lines += self.line(key, getattr(r, key))
        if r.carries != usual_carries(r.reactants, r.products):
            none_kept = all(c is None for c in r.carries)
            lines.append("reset_age = true" if none_kept else "keep_age = true")
        return _block("[[rule]]", lines)

    def _site(self, r: Rule) -> list[str]:
        return [f"from = {_text(r.reactants[0])}", f"to = {_text(r.products[0])}"]

    def _pair(self, r: Rule) -> list[str]:
        return [f"from = {_list(r.reactants)}", f"to = {_list(r.products)}"]

    def _divide(self, r: Rule) -> list[str]:
        mother, space = r.reactants
        into = _list(r.products)
        return [f"divide = {_text(mother)}", f"into = {into}", f"space = {_text(space)}"]

    def _move(self, r: Rule) -> list[str]:
        partners = [
            other.reactants[1]
            for other in self.model.rules
            if other.name.startswith(f"{r.name}.through.")
        ]
        lines = [f"move = {_text(r.reactants[0])}"]
        return lines + ([f"through = {_list(partners)}"] if partners else [])

    def reaction(self, r: Reaction) -> str:
        sides = [" + ".join(f"{n} {name}" for name, n in side) for side in (r.left, r.right)]
        arrow = "->" if r.backward is None else "<->"
        lines = [f"name = {_text(r.name)}", f"equation = {_text(f' {arrow} '.join(sides))}"]
        lines += self.line("forward", r.forward) + self.line("backward", r.backward)
        return _block("[[reaction]]", lines)

    def intervention(self, i: Intervention) -> str:
        lines = [f"name = {_text(i.name)}"]
        schedule = i.schedule
        if schedule.at:
            lines.append(f"at = [{', '.join(self.number(n) for n in schedule.at)}]")
        else:
            lines += self.line("from", schedule.start) + self.line("until", schedule.stop)
            lines += self.line("every", schedule.every)
        if i.kind == "kill":
            keys = {"states": _list(i.states), "fraction": self.number(str(i.fraction))}
            keys["into"] = _text(i.into)
            if i.cluster is not None:
                keys["cluster"] = _quantity(i.cluster, "um")
            lines.append(f"kill = {_inline(**keys)}")
        elif i.kind == "source":
            source = _inline(
                cytokine=_text(str(i.cytokine)),
                rate=self.number(str(i.rate)),
                where=_text(i.where),
            )
            lines.append(f"source = {source}")
        else:
            start = len(f"intervention.{i.name}.factor.")
            factors = [f"{_text(n[start:])} = {self.number(n)}" for _, n in i.scales]
            lines.append("factor = { " + ", ".join(factors) + " }")
        return _block("[[intervention]]", lines)

    def sources(self) -> str:
        lines = []
        for p in self.model.parameters:
            keys = {k: _text(getattr(p, k)) for k in ("source", "doi", "label") if getattr(p, k)}
            if keys:
                lines.append(f"{_text(p.name)} = {_inline(**keys)}")
        return _block("[sources]", lines) if lines else ""


def _block(header: str, lines: Iterable[str]) -> str:
    return "\n".join([header, *lines])


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(_text(t) for t in texts) + "]"


def _lines(items: Sequence[str]) -> str:
    """A list, one item on each line."""
    return "[\n" + "".join(f"    {item},\n" for item in items) + "]"


def _inline(**keys: Any) -> str:
    return "{ " + ", ".join(f"{k} = {v}" for k, v in keys.items()) + " }"


def _duration(hours: float) -> str:
    """In the largest unit in which it is a whole number, so that steps divide exactly."""
    exact = Fraction(hours).limit_denominator(3_600_000)
    for unit, per_hour in (("day", Fraction(1, 24)), ("hour", 1), ("min", 60), ("s", 3600)):
        count = exact * per_hour
        if count.denominator == 1 and float(exact) == hours:
            return _text(f"{count} {unit}")
    return _quantity(hours, "hour")


def _list_of_durations(hours: Iterable[float]) -> str:
    return "[" + ", ".join(map(_duration, hours)) + "]"


def _quantity(value: float, unit: str) -> str:
    if unit == "1":
        return repr(value)
    return f'"{value!r} {unit.replace("1/", "/", 1) if unit.startswith("1/") else unit}"'
