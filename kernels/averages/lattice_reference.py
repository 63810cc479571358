"""Reference values of averages over several variables, by slow NumPy sums on grids.

The steps of a grid are halved until nothing changes. The reference shares with the kernels the derived integrand and
nothing else: no rewrite, no moments, no rule and no table. It forms the softmax shares from their logits and integrates
the χ² variable in log c. In the other direction, `lattice_rule` measures the errors of the kernels' rules with these
integrands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

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
CHUNK = 2**18
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
    variables = expectation.variables
    free = sorted(expectation.integrand.free_symbols - set(variables), key=lambda s: s.name)
    evaluate = integrand_values([expectation.integrand], variables, free)
    known = {s: np.asarray(float(numbers[s])) for s in free}
    degrees = [_number(v.degrees, numbers) if isinstance(v, ChiSquared) else None for v in variables]

    def integrand(values: Sequence[np.ndarray]) -> np.ndarray:
        found = np.broadcast_to(evaluate(values, known)[0], values[0].shape)
        return found if np.isrealobj(found) else np.full(values[0].shape, np.nan)

    with np.errstate(all="ignore"):
        if any(k is not None and not k > 0 for k in degrees):
            return math.nan, math.nan
        if len(variables) > 3:
            return _quasi_random(integrand, degrees)
        return _settled(integrand, degrees, tolerance)


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


def _number(expression: sp.Expr, numbers: Mapping[sp.Symbol, float]) -> float:
    return float(expression.xreplace({s: sp.Float(v, 17) for s, v in numbers.items()}))


def _settled(
    integrand: Callable[..., np.ndarray], degrees: list[float | None], tolerance: float
) -> tuple[float, float]:
    """Halve the step of one axis at a time, until a halving changes nothing or two successive changes bound the next.

    Once the step resolves the integrand, halving it squares the error of the axis. Before that, and while another axis
    is still coarse, the changes fall at least geometrically. After successive changes d and e the remaining error is
    therefore below e²/d. The width of the grid follows from E|f|: where E|f| is small, the integrand is large only far
    from the origin.
    """
    nats = math.log(1e3 / tolerance)
    steps = [0.7 if k is None else 0.7 * _log_width(k) for k in degrees]
    _, size = _sums(integrand, degrees, steps, nats)
    nats += min(max(0.0, -math.log(size)), MOST_EXTRA_NATS) if size > 0 else MOST_EXTRA_NATS
    value, size = _sums(integrand, degrees, steps, nats)
    for n in range(len(steps)):
        before = math.inf
        while True:
            finer = [h / 2 if m == n else h for m, h in enumerate(steps)]
            next_value, next_size = _sums(integrand, degrees, finer, nats)
            if not math.isfinite(next_size):
                return math.nan, math.nan
            change, size = abs(next_value - value), next_size
            enough = 0.1 * tolerance * max(size, SMALLEST_SIZE)
            if change <= enough:
                break
            value, steps = next_value, finer
            if change < before < math.inf and change * change / before <= enough:
                break
            before = change
    return value, tolerance * max(size, SMALLEST_SIZE)


def _log_width(degrees: float) -> float:
    """A length in log c over which the χ² density changes.

    The length is the standard deviation of log c, but at most one, since the density decays only up to the imaginary
    distance π/2.
    """
    return min(1.0, math.sqrt(2 / degrees))


def _sums(
    integrand: Callable[..., np.ndarray], degrees: list[float | None], steps: list[float], nats: float
) -> tuple[float, float]:
    """Σ weight f and Σ weight |f| over the nodes whose weight is not negligible at e^{−nats}.

    Both sums are nan where the grid is too large.
    """
    axes = [_axis(k, h, nats) for k, h in zip(degrees, steps, strict=True)]
    if math.prod(len(x) for x, _ in axes) > MOST_NODES:
        return math.nan, math.nan
    totals, sizes = [], []
    for values, log_weight in _chunks(axes, nats):
        f, weight = integrand(values), np.exp(log_weight)
        totals.append(f @ weight)
        sizes.append(np.abs(f) @ weight)
    return math.fsum(totals), math.fsum(sizes)


def _axis(degrees: float | None, step: float, nats: float) -> tuple[np.ndarray, np.ndarray]:
    """The nodes of an axis, and the logarithms of weights that sum to one."""
    if degrees is None:
        count = math.ceil(1.1 * math.sqrt(2 * nats) / step)
        nodes = step * np.arange(-count, count + 1)
        return nodes, -(nodes**2) / 2 + math.log(step / math.sqrt(2 * math.pi))
    lowest, highest = (
        -2 * nats / degrees - 10 * _log_width(degrees),
        math.log1p(4 * nats / degrees + 10 * math.sqrt(nats / degrees)),
    )
    t = step * np.arange(math.floor(lowest / step), math.ceil(highest / step) + 1)
    log_weight = degrees / 2 * (t - np.expm1(t))
    log_weight -= log_weight.max()
    return degrees * np.exp(t), log_weight - math.log(np.exp(log_weight).sum())


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
) -> tuple[float, float]:
    """The mean of independently scrambled Sobol rules, and the standard error of the mean."""
    means = []
    for seed in range(SCRAMBLES):
        uniform = qmc.Sobol(len(degrees), scramble=True, rng=np.random.default_rng([seed, 20])).random_base2(log_points)
        values = [ndtri(u) if k is None else chi2.ppf(u, k) for u, k in zip(uniform.T, degrees, strict=True)]
        means.append(integrand(values).mean())
    return float(np.mean(means)), float(np.std(means, ddof=1) / math.sqrt(SCRAMBLES))
