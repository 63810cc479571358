"""How an integrator calls the functions of a system and its schedule: the text between them.

A system has two functions of its own, `own_rates` and `own_gram`, and its schedule has `own_set_betas`. On CUDA one
module holds them and the integrator. On the CPU each is a module of its own, and the integrator calls the functions by
pointer: compiling an integrator takes several times as long as compiling a system, and so it is compiled once for all
systems that advance as many lanes.
"""

from __future__ import annotations

FUNCTIONS = {
    "rates": "betas, y, p, tables, layout, ranges, dy, means, scratch, flag",
    "gram": "y, p, matrix",
    "set_betas": "betas, p",
}
"""The arguments of the functions. An integrator calls `rates`, which calls the system's `own_rates`, and so on."""

OWN = {name: f"own_{name}" for name in FUNCTIONS}
"""The names of the functions of a system and its schedule."""

_TYPES = {"layout": "int64[:, ::1]", "ranges": "{real}[:, ::1]", "flag": "int64[::1]"}
_RESULTS = {"gram": "int64"}

_BY_POINTER = f"class System(NamedTuple):\n{chr(10).join(f'    {name}: Any' for name in FUNCTIONS)}"


def decorators(target: str, precision: str) -> dict[str, str]:
    """The decorator of each of the functions of a system and its schedule, by the function's name."""
    if target == "cuda":
        return dict.fromkeys(FUNCTIONS, "device")
    found = {}
    for name, arguments in FUNCTIONS.items():
        types = ", ".join(_TYPES.get(a, "{real}[::1]") for a in arguments.split(", "))
        found[name] = f'native("{_RESULTS.get(name, "void")}({types.format(real=precision)})")'
    return found


def calls(target: str) -> str:
    """The text by which an integrator calls the functions of the system that it is handed as `system`."""
    called = OWN if target == "cuda" else {name: f"system.{name}" for name in FUNCTIONS}
    functions = [
        f"@device\ndef {name}(system, {arguments}):\n    return {called[name]}({arguments})"
        for name, arguments in FUNCTIONS.items()
    ]
    return "\n\n\n".join(functions if target == "cuda" else [_BY_POINTER, *functions])
