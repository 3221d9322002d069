"""The grammar of model files as a JSON Schema, for editors that check TOML while one types."""

from __future__ import annotations

from typing import Any

from .grammar import ARRAYS, SECTIONS, SOURCES, TOP

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """The grammar as a JSON Schema, draft 2020-12."""
    properties: dict[str, Any] = {key: kind.schema() for key, kind in TOP.items()}
    properties |= {key: kind.schema() for key, kind in SECTIONS.items()}
    for key, kind in ARRAYS.items():
        properties[key] = {"type": "array", "items": kind.schema()}
    for section in SECTIONS:
        # A file that is included, or that includes others, may hold a part of a section.
        properties[section].pop("required", None)
    for array in ARRAYS:
        properties[array]["items"]["required"] = ["name"]
    properties["sources"] = SOURCES.schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "osteolattice model file",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
