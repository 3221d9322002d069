"""The HTML of a report: one file without any resource of the network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light; --ink: #222; --muted: #666; --line: #ddd; --accent: #0072b2; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff;
       max-width: 72rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
nav a { margin-right: 1rem; white-space: nowrap; } a { color: var(--accent); }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; }
figcaption, .note { color: var(--muted); font-size: .9rem; max-width: 60rem; }
.summary { font-size: 1.05rem; max-width: 60rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin: .6rem 0; }
th, td { text-align: left; padding: .22rem .8rem .22rem 0; border-bottom: 1px solid var(--line);
         vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td code { white-space: nowrap; } summary { cursor: pointer; color: var(--accent); }
"""


@dataclass
class Page:
    """Sections in order; `html` gives the finished page."""

    title: str
    sections: list[tuple[str, str, list[str]]] = field(default_factory=list)

    def section(self, heading: str) -> None:
        """Starts a section; what is added next belongs to it."""
        name = "".join(c if c.isalnum() else "-" for c in heading.lower())
        self.sections.append((name, heading, []))

    def add(self, html: str) -> None:
        """Adds HTML to the current section."""
        self.sections[-1][2].append(html)

    def paragraph(self, text: str, kind: str = "") -> None:
        """Adds a paragraph of plain text, of a class such as "summary" or "note"."""
        self.add(f'<p class="{kind}">{escape(text)}</p>')

    def picture(self, png: Path, caption: str) -> None:
        """Adds a PNG, embedded, with what it shows in words."""
        data = base64.b64encode(png.read_bytes()).decode("ascii")
        self.add(
            f'<figure><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[object]],
        fold: str | None = None,
    ) -> None:
        """Adds a table; numbers are aligned right, `Html` cells are taken as they are.

        With `fold`, it is hidden behind that line until the reader opens it."""
        numeric = [
            bool(rows) and all(isinstance(row[i], Number) for row in rows) for i in range(len(head))
        ]
        cells = "".join(_cell("th", h, n) for h, n in zip(head, numeric, strict=True))
        lines = [f"<tr>{cells}</tr>"]
        for row in rows:
            cells = "".join(_cell("td", v, n) for v, n in zip(row, numeric, strict=True))
            lines.append(f"<tr>{cells}</tr>")
        html = f'<div class="wide"><table>{"".join(lines)}</table></div>'
        if fold:
            html = f"<details><summary>{escape(fold)}</summary>{html}</details>"
        self.add(html)

    def html(self) -> str:
        """The page."""
        links = "".join(f'<a href="#{name}">{escape(h)}</a>' for name, h, _ in self.sections[1:])
        body = "".join(
            f'<section id="{name}">{f"<h2>{escape(h)}</h2>" if h else ""}{"".join(parts)}</section>'
            for name, h, parts in self.sections
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>"
            f"<body><h1>{escape(self.title)}</h1><nav>{links}</nav>{body}</body></html>\n"
        )


class Html(str):
    """Text that is HTML already."""


class Number(str):
    """A number as it is to be shown."""


def number(value: float | None, digits: int = 4) -> Number:
    """A number with so many significant digits; a dash where it is not defined."""
    if value is None or value != value:
        return Number("–")
    if value == int(value) and abs(value) < 1e15:
        return Number(f"{int(value):,}")
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return Number(f"{mantissa}×10^{int(exponent)}")
    return Number(text)


def _cell(tag: str, value: object, numeric: bool) -> str:
    text = str(value) if isinstance(value, Html) else escape(str(value))
    if isinstance(value, Number) and "×10^" in text:
        head, power = text.split("×10^")
        text = f"{head}×10<sup>{power.replace('-', '−')}</sup>"
    kind = ' class="number"' if numeric else ""
    return f"<{tag}{kind}>{text}</{tag}>"
