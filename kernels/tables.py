"""The run-time tables behind the averages of a system, each with the error that was measured when it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import sympy as sp

from derive.expectation import Expectation
from derive.system import OdeSystem
from kernels.codegen import ARGUMENT, distinct_averages, written_out
from kernels.lowering import lower
from kernels.proxy import Proxy, fit
from kernels.quadrature import NormalRule, averages, measured_error, normal_rule, pole_distance

SAMPLES = 67  # a prime, so that every stride of `_samples` visits all of them
REACH = 4.0
"""How far beyond twice the problem's largest length a mean is followed where nothing bounds it; see `intervals`."""


class Certificate(NamedTuple):
    """average: what is approximated. method: "Chebyshev proxy" or "trapezoidal rule".

    size: coefficients or nodes. error: measured bound.
    """

    average: str
    method: str
    size: int
    error: float


@dataclass(frozen=True)
class Tables:
    """values: (total,) coefficients, or nodes then weights, of every average. layout: (averages, 2) start and count.

    ranges: (averages, 2) intervals of proxies. by_proxy: which averages have one. certificates: one per average.
    """

    values: np.ndarray
    layout: np.ndarray
    ranges: np.ndarray
    by_proxy: dict[int, bool]
    certificates: tuple[Certificate, ...]


def intervals(system: OdeSystem, values: Mapping[sp.Symbol, float]) -> np.ndarray:
    """(states, 2): the states' intervals in numbers. A state that nothing bounds gets the interval of means of length
    2 · (largest length in the problem) + REACH, outside of which the averages are not certified and the integrator stops."""
    known = dict(values)
    gram = system.domain.gram.xreplace(known)
    lengths = [float(sp.sqrt(e)) for e in gram.diagonal() if e.is_number]
    lengths += [v for s, v in known.items() if s.name in ("R", "r")]
    farthest = (2 * max(lengths, default=1.0) + REACH) ** 2

    def number(bound: sp.Expr) -> float:
        value = bound.xreplace(known)
        return float(np.clip(float(value), -farthest, farthest))

    return np.array([[number(low), number(high)] for low, high in system.domain.bounds])


def build_tables(system: OdeSystem, values: Mapping[sp.Symbol, float], tolerance: float, proxies: bool) -> Tables:
    """Tables for every distinct average at the given parameter values.

    tolerance: absolute error of each average. proxies: use a Chebyshev proxy where an average looks at one bounded state and is
    smooth enough; the trapezoidal rule otherwise.
    """
    limits = intervals(system, values)
    pieces: list[np.ndarray] = []
    layout, ranges, certificates = [], [], []
    by_proxy = {}
    for n, (shape, state) in enumerate(distinct_averages(system)):
        integrand, rule, arguments = _rule(shape, state, system, values, limits, tolerance / 10 if proxies else tolerance)
        proxy = None
        if proxies and state is not None and all(b.is_finite for b in system.domain.bounds[state]):
            low, high = limits[state]
            proxy = fit(partial(_averages_of, integrand, rule), low, high, tolerance / 2)
        error = measured_error(integrand, rule, arguments)
        start = sum(map(len, pieces))
        by_proxy[n] = proxy is not None
        if proxy is not None:
            pieces.append(proxy.coefficients)
            layout.append((start, len(proxy.coefficients)))
            certificates.append(Certificate(str(shape), "Chebyshev proxy", len(proxy.coefficients), proxy.error + error))
        else:
            pieces += [rule.nodes, rule.weights]
            layout.append((start, len(rule.nodes)))
            certificates.append(Certificate(str(shape), "trapezoidal rule", len(rule.nodes), error))
        ranges.append((proxy.low, proxy.high) if isinstance(proxy, Proxy) else (0.0, 0.0))
        if not certificates[-1].error <= 2 * tolerance:
            raise ArithmeticError(f"{shape}: measured error {certificates[-1].error:.1e} misses the tolerance {tolerance:.1e}")
    values_array = np.concatenate(pieces) if pieces else np.zeros(1)
    return Tables(
        values_array,
        np.array(layout, dtype=np.int64).reshape(-1, 2),
        np.array(ranges, dtype=float).reshape(-1, 2),
        by_proxy,
        tuple(certificates),
    )


def _rule(
    shape: Expectation, state: int | None, system: OdeSystem, values: Mapping[sp.Symbol, float], limits: np.ndarray, tolerance: float
) -> tuple[Callable[..., np.ndarray], NormalRule, tuple[np.ndarray, ...]]:
    """The vectorised integrand, a rule that serves every state within the limits, and sampled arguments to measure it at."""
    (z,) = shape.variables
    concrete = written_out(shape.integrand, system).xreplace({s: sp.Float(v, 20) for s, v in values.items()})
    symbols = (ARGUMENT,) if state is not None else tuple(s for s in system.states if s in concrete.free_symbols)
    boxes = [limits[state]] if state is not None else [limits[system.states.index(s)] for s in symbols]
    slope = 0.0
    arguments = tuple(_samples(low, high, k) for k, (low, high) in enumerate(boxes))
    for node in concrete.atoms(sp.tanh, sp.sech):
        coefficient = lower(sp.expand(node.args[0]).coeff(z))
        steepest = np.abs(sp.lambdify(symbols, coefficient, "numpy")(*arguments))
        corners = [np.abs(sp.lambdify(symbols, coefficient, "numpy")(*corner)) for corner in _corners(boxes)]
        slope = max(slope, float(np.max(steepest)), *map(float, corners))
    rule = normal_rule(pole_distance(slope), tolerance)
    return sp.lambdify((z, *symbols), lower(concrete), "numpy"), rule, arguments


def _averages_of(integrand: Callable[..., np.ndarray], rule: NormalRule, x: np.ndarray) -> np.ndarray:
    return averages(integrand, rule, (x,))


def _samples(low: float, high: float, k: int) -> np.ndarray:
    """Points of one interval, ends included, in an order that differs from axis to axis."""
    points = np.linspace(low, high, SAMPLES)
    return points[(np.arange(SAMPLES) * (2 * k + 1)) % SAMPLES]


def _corners(boxes: list[np.ndarray]) -> list[tuple[float, ...]]:
    corners: list[tuple[float, ...]] = [()]
    for low, high in boxes:
        corners = [(*c, x) for c in corners for x in (float(low), float(high))]
    return corners
