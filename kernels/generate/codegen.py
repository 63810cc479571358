"""From the averages of a system and a schedule to the source of a kernel, for the CPU or for CUDA.

On CUDA a kernel is one module. On the CPU it is three, of the system, the schedule and the integrator, so that another
schedule does not compile the system anew, nor another system the integrator; see `system_calls`. The source contains
only the structure of the equations. Parameter values, and the tables behind the averages, are arrays that a kernel
reads at run time, so a sweep over R, w* or T0 compiles nothing. Averages over one variable that differ only in the
state on which they depend share one function and one table. `lattice_code` writes the functions of averages over
several variables, where averages of the same softmax shares take one pass.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import sympy as sp

from derive.objects.system import TIME
from kernels.generate.average_source import (
    CLENSHAW_ROWS,
    SURFACE_ROWS,
    average_function,
    group_blocks,
    summed_patterns,
)
from kernels.generate.chebyshev import chebyshev_constants
from kernels.generate.entry_source import entry_functions, sizes
from kernels.generate.lattice_code import scratch_size
from kernels.generate.printer import ScalarPrinter
from kernels.generate.rates_source import gram_function, rates_function
from kernels.generate.schedule_source import betas_function
from kernels.generate.system_calls import calls, decorators
from kernels.generate.tableau import dop853, tableau_constants
from kernels.generate.template_source import text_in_precision
from kernels.lower.analysis import SystemAverages, TablePlace
from kernels.lower.lattice import definitions_for

FIRST_LEVEL_CACHE = 24 * 1024
"""Bytes for the slopes of all stages: half of a usual first-level cache, so that the tables fit in as well."""

_TAKEN = re.compile(
    r"argument|axis|beta|beta_now|betas|clenshaw|count|dy|exp|flag|found|halted|j|lane|layout|log|math|matrix|mean|means|p|ranges"
    r"|scratch|start|t|tables|tanh|weight|work|x|y|abs|max|min|range|float32|float64|real|LANES"
    r"|(average|constant|group|level|mean|moments|shared)_\d+|moment_\d+_\d+|interpolated"
)
"""The names that the generated functions use themselves, so that no symbol may have them."""


@dataclass(frozen=True)
class Program:
    """The source of a kernel.

    Attributes
    ----------
    source
        The text of the system's module, which on CUDA contains the schedule and the integrator.
    schedule, integrator
        On the CPU the texts of their modules.
    parameters
        The order of the parameters' run-time values.
    lanes
        How many trajectories advance together.
    """

    source: str
    schedule: str | None
    integrator: str | None
    parameters: tuple[sp.Symbol, ...]
    lanes: int


# Only an entry allocates arrays. The functions that it calls count no references (_nrt), as counting them at each call
# by pointer would make an integration a sixth longer.
_HEADER = {
    "cpu": """import numpy as np
from numba import njit
from numpy import int64, {real}

from kernels.machine.halting import halted
from kernels.machine.kept_code import kept
from kernels.machine.native_function import native
from {library} import exp, log, tanh

real = {real}
device = njit(error_model='numpy', fastmath={{'contract'}}, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
entry = kept(njit(nogil=True, error_model='numpy', fastmath={{'contract'}}))
""",
    "cuda": """from math import exp, log, tanh

import numpy as np
from numba import cuda
from numpy import int64, {real}

from kernels.machine.cuda_functions import halted

real = {real}
device = cuda.jit(device=True)
""",
}


def lanes_for(states: int, target: str, has_lattices: bool, has_surfaces: bool = False) -> int:
    """How many trajectories advance together.

    On the CPU the number is large enough for the other lanes to hide the latency of an instruction, and small enough
    for the slopes of all stages of a step to stay in the first-level cache. The number is one where averages over
    several variables fill the vector registers by themselves. It is one on CUDA, where each thread has a trajectory of
    its own.
    """
    if target == "cuda" or has_lattices:
        return 1
    if has_surfaces:  # the more lanes a coefficient serves the better, and shorter loops are unrolled without vectors
        return 32
    return next((lanes for lanes in (32, 16) if lanes * states * 13 * 8 <= FIRST_LEVEL_CACHE), 8)


def generate(
    averages: SystemAverages,
    beta: sp.Expr,
    schedule_parameters: tuple[sp.Symbol, ...],
    proxies: Mapping[int, bool],
    target: str,
    precision: str = "float64",
    surfaces: Mapping[int, TablePlace] = MappingProxyType({}),
    stabilised: bool = False,
) -> Program:
    """The program of a system under a schedule.

    averages: the analysed system. proxies: for each tabulated average, by index, whether a proxy serves it. target:
    "cpu" or "cuda". precision: "float64" or "float32", of every number in the program. surfaces: where each
    group is read that has a table, by the group's index. stabilised: whether the program has RKC as a second
    method, see `templates/chebyshev.py`. Raises TypeError for an expression without a kernel form, and ValueError for a
    stray symbol or a name that the program cannot use.
    """
    system = averages.system
    stray = beta.free_symbols - {TIME, *schedule_parameters}
    if stray:
        raise ValueError(f"the schedule contains {sorted(map(str, stray))}, which are not its parameters")
    if averages.groups and precision != "float64":
        raise ValueError(f"averages over several variables need float64, not {precision}")
    printer = ScalarPrinter(precision)
    parameters = (*system.parameters, *schedule_parameters)
    _require_usable_names(_local_symbols(averages, parameters))
    lanes = lanes_for(len(system.states), target, len(surfaces) < len(averages.groups), bool(surfaces))
    own = decorators(target, precision)
    rates, rows = rates_function(averages, surfaces, parameters, printer, own["rates"])
    functions = [
        average_function(n, proxies.get(n, False), averages, parameters, printer)
        for n in range(len(averages.tabulated))
    ]
    of_surfaces = [SURFACE_ROWS[len(where.coordinates)] for where in surfaces.values()]
    constants = {
        "STATES": len(system.states),
        "SCRATCH": scratch_size(list(summed_patterns(averages, surfaces).values())),
        "MEAN_ROWS": rows + max([CLENSHAW_ROWS, *(n for _, n in functions), *of_surfaces]),
        "GRAM_ENTRIES": max(1, system.gram.shape[0] ** 2),
    }
    shape = _constants({"LANES": lanes})
    own_blocks = [
        _constants(constants),
        text_in_precision("clenshaw", printer),
        *(text for text, _ in functions),
        *group_blocks(averages, surfaces, parameters, printer, target),
        gram_function(system, parameters, printer, own["gram"]),
        rates,
    ]
    schedule = [
        text_in_precision("schedule", printer),
        betas_function(beta, parameters, printer, own["set_betas"]),
    ]
    tableau = dop853()
    integrator = [
        tableau_constants(tableau, printer),
        calls(target),
        *(text_in_precision(name, printer) for name in ("integrator", "shooting", "rates")),
        *(
            [chebyshev_constants(len(tableau.B), printer), text_in_precision("chebyshev", printer)]
            if stabilised
            else []
        ),
        *([sizes()] if target == "cuda" else []),
        *entry_functions(target),
    ]
    header = _header(f"from the derived system {system.label!r}", target, precision)
    if target == "cuda":
        return Program(_joined([header, shape, *own_blocks, *schedule, *integrator]), None, None, parameters, lanes)
    of_schedule, of_all = (_header(origin, target, precision) for origin in ("for a schedule", "for all systems"))
    return Program(
        _joined([header, shape, *own_blocks]),
        _joined([of_schedule, shape, *schedule]),
        _joined([of_all, shape, *integrator]),
        parameters,
        lanes,
    )


def module_text(origin: str, blocks: list[str]) -> str:
    """The text of a module for the CPU with these functions. origin: what it is made from, or for what."""
    return _joined([_header(origin, "cpu", "float64"), *blocks])


def _constants(values: Mapping[str, int]) -> str:
    return "\n".join(f"{name} = {value}" for name, value in values.items())


def _joined(blocks: list[str]) -> str:
    return "\n\n\n".join(block.strip() for block in blocks) + "\n"


def _header(origin: str, target: str, precision: str) -> str:
    title = f"Generated by annealvi {origin}; do not edit."
    library = "kernels.machine.vector_math" if precision == "float64" else "math"
    imports = "import math\nfrom typing import Any, NamedTuple"
    return f"{title!r}\n\n{imports}\n\n{_HEADER[target].format(real=precision, library=library)}"


def _local_symbols(averages: SystemAverages, parameters: tuple[sp.Symbol, ...]) -> list[sp.Symbol]:
    """All symbols that are local variables of the generated functions."""
    system = averages.system
    definitions = definitions_for([c for group in averages.groups for c in group.coefficients], system)
    variables = (v for average in averages.tabulated for v in average.expression.variables)
    return [*system.states, *parameters, *variables, *(s for s, _ in definitions)]


def _require_usable_names(symbols: list[sp.Symbol]) -> None:
    names = [s.name for s in dict.fromkeys(symbols)]
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or _TAKEN.fullmatch(name):
            raise ValueError(f"a kernel cannot use the name {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"two symbols share a name: {sorted(names)}")
