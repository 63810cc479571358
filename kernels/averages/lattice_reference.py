"""Reference values of averages over several variables, by slow NumPy sums on grids.

The steps of a grid are halved until nothing changes; a halved grid keeps the sums over the nodes that it has already.
Averages over the same variables share the nodes. The reference shares with the kernels the derived integrand and
nothing else: no rewrite, no moments, no rule and no table. It forms the softmax shares from their logits and integrates
the χ² variable in log c. In the other direction, `lattice_rule` measures the errors of the kernels' rules with these
integrands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import sympy as sp
from scipy.special import ndtri
from scipy.stats import chi2, qmc

from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.softmax import Softmax

SQUARED_ROUNDING = 1e-9
"""How far below zero rounding may take a squared distance. The root of a more negative number, which only a wrong
equation produces, is not a number."""
MOST_NODES = 2**26
CHUNK = 2**14
"""How many nodes are summed at once. The arrays of so many numbers stay in a core's own cache."""
SMALLEST_SIZE = 1e-12
"""The error of an average whose E|f| is smaller than this is relative to this size."""
MOST_EXTRA_NATS = -math.log(SMALLEST_SIZE)
SCRAMBLES = 8
Integrand = Callable[[Sequence[np.ndarray], Mapping[sp.Symbol, np.ndarray]], list[np.ndarray]]


def integrand_values(
    integrands: Sequence[sp.Expr], variables: Sequence[sp.Symbol], others: Sequence[sp.Symbol]
) -> Integrand:
    """A function that evaluates the integrands, with softmax shares that cannot overflow.

    The function takes the values of the variables and the numbers of the other symbols, all of shapes that broadcast,
    and returns one array per integrand.
    """
    families = list(
        dict.fromkeys(n.logits for f in integrands for n in sorted(f.atoms(Softmax), key=sp.default_sort_key))
    )
    names: dict[sp.Expr, sp.Symbol] = {}
    for k, logits in enumerate(families):
        for j in range(1, len(logits) + 1):
            names[Softmax(j, *logits)] = sp.Symbol(f"share_{k}_{j}")
            names[sp.log(Softmax(j, *logits))] = sp.Symbol(f"log_share_{k}_{j}")
    arguments = (*variables, *others)
    logit_functions = [_numeric(arguments, logits) for logits in families]
    flat = [
        f.replace(lambda e: e in names and isinstance(e, sp.log), lambda e: names[e]).xreplace(names)
        for f in integrands
    ]
    function = _numeric((*arguments, *names.values()), flat)

    def evaluate(values: Sequence[np.ndarray], numbers: Mapping[sp.Symbol, np.ndarray]) -> list[np.ndarray]:
        given = [*values, *(numbers[s] for s in others)]
        shares: list[np.ndarray] = []
        for logit_function in logit_functions:
            logits = np.stack(np.broadcast_arrays(*map(np.asarray, logit_function(*given))))
            shifted = logits - logits.max(axis=0)
            exponentials = np.exp(shifted)
            total = exponentials.sum(axis=0)
            for share, log_share in zip(exponentials / total, shifted - np.log(total), strict=True):
                shares += [share, log_share]
        return [np.asarray(f) for f in function(*given, *shares)]

    return evaluate


def _numeric(arguments: Sequence[sp.Symbol], expressions: Sequence[sp.Expr]) -> Callable[..., list]:
    return sp.lambdify(arguments, list(expressions), [{"sqrt": _root, "sech": _sech}, "numpy"], cse=True)


def _sech(x: np.ndarray) -> np.ndarray:
    decay = np.exp(-np.abs(x))
    return 2 * decay / (1 + decay * decay)


def _root(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.where((x < 0) & (x > -SQUARED_ROUNDING), 0.0, x))


def average_and_error(
    expectation: sp.Expr, numbers: Mapping[sp.Symbol, float], tolerance: float = 1e-13
) -> tuple[float, float]:
    """E[f], or an expression in such averages, and its absolute error.

    With up to three variables E[f] is summed on grids, and the error is the tolerance times E|f| or times
    SMALLEST_SIZE, whichever is larger. With more variables E[f] is sampled at quasi-random points, and the error is the
    standard error among scrambles. numbers: a value for every free symbol. Both results are nan where the integrand is
    not finite and real, or where no grid of at most MOST_NODES nodes suffices.
    """
    if not isinstance(expectation, Expectation):
        return _combined(expectation, numbers, tolerance)
    return averages_and_errors([expectation], numbers, tolerance)[0]


def averages_and_errors(
    expectations: Sequence[Expectation], numbers: Mapping[sp.Symbol, complex], tolerance: float = 1e-13
) -> list[tuple[float, float]]:
    """What `average_and_error` finds for each of some averages over the same variables, from one set of nodes.

    An average that is not finite and real makes all of them nan.
    """
    variables = expectations[0].variables
    integrands = tuple(e.integrand for e in expectations)
    free = tuple(sorted(set().union(*(e.free_symbols for e in expectations)), key=lambda s: s.name))
    evaluate = _compiled(integrands, variables, free)
    known = {s: np.asarray(numbers[s]) for s in free}
    degrees = [_number(v.degrees, numbers) if isinstance(v, ChiSquared) else None for v in variables]

    def integrand(values: Sequence[np.ndarray]) -> np.ndarray:
        found = np.stack([np.broadcast_to(f, values[0].shape) for f in evaluate(values, known)])
        return found if np.isrealobj(found) else np.full(found.shape, np.nan)

    with np.errstate(all="ignore"):
        if any(k is not None and not k > 0 for k in degrees):
            return [(math.nan, math.nan)] * len(expectations)
        found = _quasi_random(integrand, degrees) if len(variables) > 3 else _settled(integrand, degrees, tolerance)
    values, errors = (np.broadcast_to(part, len(expectations)).tolist() for part in found)
    return list(zip(values, errors, strict=True))


_compiled = lru_cache(maxsize=1024)(integrand_values)
"""The functions of integrands, compiled once for all numbers."""


def _combined(expression: sp.Expr, numbers: Mapping[sp.Symbol, float], tolerance: float) -> tuple[float, float]:
    """The value of an expression in averages, and how far it moves when each average moves by its error."""
    names = {
        a: sp.Symbol(f"average_{n}")
        for n, a in enumerate(sorted(expression.atoms(Expectation), key=sp.default_sort_key))
    }
    found = [average_and_error(a, numbers, tolerance) for a in names]
    free = sorted(expression.free_symbols, key=lambda s: s.name)
    function = _numeric((*free, *names.values()), [expression.xreplace(names)])
    given = [np.float64(numbers[s]) for s in free]

    def at(averages: list[float]) -> float:
        value = complex(function(*given, *map(np.float64, averages))[0])
        return value.real if value.imag == 0 and math.isfinite(value.real) else math.nan

    with np.errstate(all="ignore"):
        values = [value for value, _ in found]
        centre = at(values)
        moved = (at([v + (n == m) * found[n][1] for n, v in enumerate(values)]) for m in range(len(found)))
        return centre, sum(abs(m - centre) for m in moved)


def _number(expression: sp.Expr, numbers: Mapping[sp.Symbol, complex]) -> float:
    return float(expression.xreplace({s: sp.Float(numbers[s], 17) for s in expression.free_symbols}))


def _settled(
    integrand: Callable[..., np.ndarray], degrees: list[float | None], tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Halve the step of one axis at a time, until a halving changes nothing or two successive changes bound the next.

    Once the step resolves the integrand, halving it squares the error of the axis. Before that, and while another axis
    is still coarse, the changes fall at least geometrically. After successive changes d and e the remaining error is
    therefore below e²/d. The width of the grid follows from E|f|: where E|f| is small, the integrand is large only far
    from the origin. Both results have an entry for each integrand, and all of these must settle.
    """
    nats = math.log(1e3 / tolerance)
    steps = [0.7 if k is None else 0.7 * _log_width(k) for k in degrees]
    value, size = _sums(integrand, degrees, steps, nats)
    smallest = size.min()
    more = min(max(0.0, -math.log(smallest)), MOST_EXTRA_NATS) if smallest > 0 else MOST_EXTRA_NATS
    if more > 0:
        nats += more
        value, size = _sums(integrand, degrees, steps, nats)
    for n in range(len(steps)):
        before = np.full(len(value), np.inf)
        while True:
            finer = [h / 2 if m == n else h for m, h in enumerate(steps)]
            # Halving the step halves the weights of the nodes that there are, and adds the odd multiples of the step.
            new, new_size = _sums(integrand, degrees, finer, nats, n)
            new, size = value / 2 + new, size / 2 + new_size
            if not np.isfinite(size).all():
                return np.full(1, np.nan), np.full(1, np.nan)
            change, enough = np.abs(new - value), 0.1 * tolerance * np.maximum(size, SMALLEST_SIZE)
            if (change <= enough).all():
                break
            falling = (change < before) & np.isfinite(before) & (change * change <= enough * before)
            value, steps = new, finer
            if ((change <= enough) | falling).all():
                break
            before = change
    return value, tolerance * np.maximum(size, SMALLEST_SIZE)


def _log_width(degrees: float) -> float:
    """A length in log c over which the χ² density changes.

    The length is the standard deviation of log c, but at most one, since the density decays only up to the imaginary
    distance π/2.
    """
    return min(1.0, math.sqrt(2 / degrees))


def _sums(
    integrand: Callable[..., np.ndarray],
    degrees: list[float | None],
    steps: list[float],
    nats: float,
    odd: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Σ weight f and Σ weight |f| of each integrand over the nodes whose weight is not negligible at e^{−nats}.

    odd: an axis of which only the odd multiples of the step count. Both sums are nan where the grid is too large.
    """
    axes = [_axis(k, h, nats, n == odd) for n, (k, h) in enumerate(zip(degrees, steps, strict=True))]
    totals, sizes = [], []
    most = MOST_NODES if odd is None else MOST_NODES / 2
    for values, log_weight in _chunks(axes, nats) if math.prod(len(x) for x, _ in axes) <= most else ():
        f, weight = integrand(values), np.exp(log_weight)
        totals.append(f @ weight)
        sizes.append(np.abs(f) @ weight)
    if not totals:
        return np.full(1, np.nan), np.full(1, np.nan)
    return np.sum(totals, axis=0), np.sum(sizes, axis=0)


def _axis(degrees: float | None, step: float, nats: float, odd: bool) -> tuple[np.ndarray, np.ndarray]:
    """The nodes of an axis, all of them or the odd multiples of the step, and the logarithms of their weights."""
    if degrees is None:
        count = math.ceil(1.1 * math.sqrt(2 * nats) / step)
        multiples = np.arange(-count, count + 1)
        nodes = step * (multiples[multiples % 2 == 1] if odd else multiples)
        return nodes, -(nodes**2) / 2 + math.log(step / math.sqrt(2 * math.pi))
    lowest, highest = (
        -2 * nats / degrees - 10 * _log_width(degrees),
        math.log1p(4 * nats / degrees + 10 * math.sqrt(nats / degrees)),
    )
    multiples = np.arange(math.floor(lowest / step), math.ceil(highest / step) + 1)
    t = step * (multiples[multiples % 2 == 1] if odd else multiples)
    return degrees * np.exp(t), _log_density(degrees, t) + math.log(step) - _log_mass(degrees, lowest, highest)


def _log_density(degrees: float, t: np.ndarray) -> np.ndarray:
    """The logarithm of the χ² density of log c, without its constant factor, at c = degrees e^t."""
    return degrees / 2 * (t - np.expm1(t))


@lru_cache(maxsize=256)
def _log_mass(degrees: float, lowest: float, highest: float) -> float:
    """The logarithm of the integral of that density, by the same rule with a step that resolves it to rounding."""
    step = 0.02 * _log_width(degrees)
    t = step * np.arange(math.floor(lowest / step), math.ceil(highest / step) + 1)
    return math.log(math.fsum(np.exp(_log_density(degrees, t))) * step)


def _chunks(axes: list[tuple[np.ndarray, np.ndarray]], nats: float) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """The product grid without its negligible corners, in pieces.

    A piece is the values (n,) of each variable, and the logarithms (n,) of the weights.
    """
    most = sum(w.max() for _, w in axes)
    first, *others = axes
    grids = np.meshgrid(*(x for x, _ in others), indexing="ij") if others else []
    flat = [g.ravel() for g in grids]
    weights = (
        sum((g.ravel() for g in np.meshgrid(*(w for _, w in others), indexing="ij")), np.zeros(1))
        if others
        else np.zeros(1)
    )
    rows = max(1, CHUNK // len(weights))
    for begin in range(0, len(first[0]), rows):
        x, w = first[0][begin : begin + rows], first[1][begin : begin + rows]
        log_weight = (w[:, None] + weights[None, :]).ravel()
        kept = log_weight > most - 1.2 * nats
        values = [np.repeat(x, len(weights))[kept], *(np.tile(g, len(x))[kept] for g in flat)]
        if kept.any():
            yield values, log_weight[kept]


def _quasi_random(
    integrand: Callable[..., np.ndarray], degrees: list[float | None], log_points: int = 15
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of independently scrambled Sobol rules for each integrand, and the standard error of the mean."""
    means = []
    for seed in range(SCRAMBLES):
        uniform = qmc.Sobol(len(degrees), scramble=True, rng=np.random.default_rng([seed, 20])).random_base2(log_points)
        values = [ndtri(u) if k is None else chi2.ppf(u, k) for u, k in zip(uniform.T, degrees, strict=True)]
        means.append(integrand(values).mean(axis=1))
    return np.mean(means, axis=0), np.std(means, axis=0, ddof=1) / math.sqrt(SCRAMBLES)
