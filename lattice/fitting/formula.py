"""Formulas of observables: arithmetic on the series of a run, such as ``100 * OPG.mean / total``.

A formula is read into a tree that this module evaluates itself; nothing of it is executed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from lattice.model.kinds import did_you_mean

LONGEST = 500
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS = {"log": jnp.log, "exp": jnp.exp, "sqrt": jnp.sqrt}
INITIAL = "initial"
"""``initial(x)`` is x at the beginning of the run."""


class FormulaError(ValueError):
    """What is wrong with a formula, and what to write."""


@dataclass(frozen=True)
class Formula:
    """A formula and the names of the series in it; `begins`: it asks for the beginning."""

    text: str
    names: tuple[str, ...]
    begins: bool
    tree: ast.expr

    def __call__(self, now: Mapping[str, Any], beginning: Mapping[str, Any]) -> Any:
        """The value from those of the series now and at the beginning (any arrays of one shape)."""
        return _value(self.tree, self.names, now, beginning)


def read_formula(text: str, known: Collection[str]) -> Formula:
    """Read a formula whose names are among `known`. Raises FormulaError."""
    if len(text) > LONGEST:
        raise FormulaError(f"is longer than {LONGEST} characters; write a shorter one")
    names: list[str] = []
    coded = _coded(text, known, names)
    try:
        tree = ast.parse(coded.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FormulaError("is no arithmetic; write one such as a / (a + b)") from None
    begins = _check(tree)
    if not names:
        raise FormulaError("holds no series of a run; write one such as BV/TV")
    return Formula(text, tuple(names), begins, tree)


def _coded(text: str, known: Collection[str], names: list[str]) -> str:
    """The text with each name replaced by x0, x1, ...: names of series hold dots and slashes."""
    longest_first = sorted(known, key=len, reverse=True)
    words = "|".join(re.escape(name) for name in longest_first)
    token = re.compile(
        rf"(?P<name>(?:{words})(?![A-Za-z0-9_.]))|(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)"
        rf"|(?P<word>[A-Za-z_][A-Za-z0-9_.-]*)|(?P<sign>[-+*/() ])"
    )
    parts, place = [], 0
    while place < len(text):
        match = token.match(text, place)
        if match is None:
            raise FormulaError(f'"{text[place]}" has no place in it; write + - * / ( ) and names')
        place = match.end()
        if match["name"]:
            if match["name"] not in names:
                names.append(match["name"])
            parts.append(f"x{names.index(match['name'])}")
        elif match["word"]:
            word = match["word"]
            if word not in _FUNCTIONS and word != INITIAL:
                hint = did_you_mean(word, known)
                raise FormulaError(f'"{word}" is no series of a run; {hint}')
            parts.append(word)
        else:
            parts.append(match[0])
    return "".join(parts)


def _check(tree: ast.expr) -> bool:
    """Whether the formula asks for the beginning. Raises FormulaError for what it may not hold."""
    begins = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            one = len(node.args) == 1 and not node.keywords
            if not (one and isinstance(node.func, ast.Name)) or node.func.id.startswith("x"):
                raise FormulaError("calls what is no function; write log, exp, sqrt or initial")
            begins |= node.func.id == INITIAL
        elif not _is_plain(node):
            raise FormulaError("is no arithmetic; write + - * / ( ), log, exp, sqrt, initial")
    return begins


def _is_plain(node: ast.AST) -> bool:
    """Whether a node is a name, a number or one of the four operations."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    if isinstance(node, ast.BinOp):
        return type(node.op) in _OPERATORS
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.UAdd)
    return isinstance(node, ast.Name | ast.Load | ast.operator | ast.unaryop)


def _value(node: ast.expr, names: tuple[str, ...], now, beginning) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return now[names[int(node.id[1:])]]
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, names, now, beginning)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = (_value(n, names, now, beginning) for n in (node.left, node.right))
        return _OPERATORS[type(node.op)](left, right)
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    if node.func.id == INITIAL:
        return _value(node.args[0], names, beginning, beginning)
    return _FUNCTIONS[node.func.id](_value(node.args[0], names, now, beginning))
