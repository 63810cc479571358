"""Pieces of generated source that several modules of this folder share."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp


def unpacked(symbols: tuple[sp.Symbol, ...], used: set[sp.Symbol], array: str) -> list[str]:
    """Lines that give the used symbols their values from an array."""
    return [f"{s.name} = {array}[{n}]" for n, s in enumerate(symbols) if s in used]


def states_of_lane(states: tuple[sp.Symbol, ...], used: set[sp.Symbol]) -> list[str]:
    """Lines that give the used states of one lane their values."""
    return [f"{s.name} = y[{n} * LANES + lane]" for n, s in enumerate(states) if s in used]


def for_each_lane(lines: list[str]) -> list[str]:
    """A loop over the lanes."""
    return ["for lane in range(LANES):", *(f"    {line}" for line in lines)]


def device_function(name: str, arguments: str, lines: list[str], decorator: str = "device") -> str:
    """A function that kernels call."""
    return f"@{decorator}\ndef {name}({arguments}):\n" + "\n".join(f"    {line}" for line in lines)


def symbols_of(expressions: Iterable[sp.Expr]) -> set[sp.Symbol]:
    """The free symbols of all expressions together."""
    return set().union(*(e.free_symbols for e in expressions))
