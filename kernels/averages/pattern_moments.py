"""Moments of a pattern at many sets of coefficients at once, by the function that kernels run for it.

Tables of groups whose logits contain products of normal variables are made from these sums.
"""

from __future__ import annotations

from dataclasses import astuple
from types import ModuleType

import numpy as np

from kernels.averages.chi_law import chi_law
from kernels.generate.codegen import module_text
from kernels.generate.lattice_code import Layout, pattern_blocks
from kernels.lower.lattice import Pattern
from kernels.machine.module_cache import load_module
from kernels.machine.threads import run_on_threads


def moments_of(pattern: Pattern, coefficients: np.ndarray, degrees: float | None, nats: float) -> np.ndarray:
    """The moments of a pattern at N sets of coefficients: (N, moments); nan where a set asks for too many nodes.

    coefficients: (N, n), in the order of `Group.coefficients`. degrees: of the χ² variable, or None. nats: the accuracy
    e^{−nats}.
    """
    law = () if degrees is None else astuple(chi_law(degrees, nats))
    found = np.empty((len(coefficients), len(pattern.moments)))
    sums = _module(pattern).moments_at_points
    run_on_threads(sums, len(found), np.ascontiguousarray(coefficients), np.array([nats, *law]), found)
    return found


def _module(pattern: Pattern) -> ModuleType:
    layout = Layout(pattern)
    entry = f"""@entry
def moments_at_points(first, stop, flag, coefficients, table, found):
    scratch = np.zeros({layout.size})
    for n in range(first, stop):
        for k in range(coefficients.shape[1]):
            scratch[{layout.coefficients} + k] = coefficients[n, k]
        moments_0(table, 0, 0, scratch, flag)
        if halted(flag):
            return
        for m in range(found.shape[1]):
            found[n, m] = scratch[{layout.moments} + m]"""
    blocks = [*pattern_blocks([pattern], "cpu"), entry]
    return load_module(module_text("for the tables of a pattern", blocks), "pattern")
