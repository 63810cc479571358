"""`BadInput`, and the checks of single values of a problem that raise it: numbers, lists, mixtures, tables, names.

Each check takes the value's key, for the message. A check of a field returns the value in the form in which a `Problem`
keeps it.
"""

from __future__ import annotations

import math
import numbers
import os
import re
import reprlib
from collections.abc import Collection, Mapping, Set
from typing import Any, ClassVar

import mpmath

from derive.problem.kinds import names_of_kinds
from derive.problem.points_file import MOST_POINTS, BadPointsError, read_points
from derive.problem.scope import outside

LONGEST_NAME = 80
MOST_COMPONENTS = 64
MOST_PASTED = 16
"""The most components for which a message proposes normalised weights to paste."""
MOST_DIMENSIONS = 10**9
SUM_TOLERANCE = 1e-9
LARGEST = 1e100
"""The largest magnitude of a number. Squares and ratios of such numbers stay finite in double precision."""
SMALLEST = 1e-100
MOST_SPAN = 16
"""The most coordinates of a covariance matrix."""
ASYMMETRY = 1e-9
"""The relative difference of two entries of a symmetric matrix that counts as rounding."""
SINGULAR = 1e-12
"""The ratio of the smallest and the largest eigenvalue up to which a covariance counts as singular."""

FROM_INFINITY = names_of_kinds(lambda kind: kind.starts_at_zero_beta)
"""The kinds whose formula has a meaning for T0 = inf, where beta begins at 0."""


class BadInput(ValueError):  # noqa: N818
    """A mistake in what the user gave. Its text is one line: the source, the key, what was found, what to do.

    Parameters
    ----------
    key : str
        The key of the wrong value; empty, or "problem", for the source as a whole.
    found : str
        What is wrong.
    remedy : str
        What to do.
    source : str
        Where the value stands, such as a file's name; empty where there is no such place.

    Examples
    --------
    >>> from annealvi import BadInput
    >>> print(BadInput("schedule.t0", "-1.0 is not positive", "write a number above zero", "my.toml"))
    my.toml: schedule.t0: -1.0 is not positive; write a number above zero
    """

    exit_status: ClassVar[int] = 2
    """The exit status with which the command line ends after this error."""

    def __init__(self, key: str, found: str, remedy: str, source: str = "problem") -> None:
        key = "" if key == "problem" else key
        super().__init__(key, found, remedy, source)
        self.key, self.found, self.remedy, self.source = key, found, remedy, source

    def __str__(self) -> str:
        return one_line(": ".join(part for part in (self.source, self.key, f"{self.found}; {self.remedy}") if part))

    def at(self, source: str) -> BadInput:
        """Return the same mistake with another place.

        Parameters
        ----------
        source : str
            The place that the message names in front, such as the name of a file.

        Returns
        -------
        BadInput
            A new error with this key, fault and remedy.
        """
        return BadInput(self.key, self.found, self.remedy, source)


def one_line(text: str) -> str:
    """`text` with every unprintable character escaped, so that the text is one line on any terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    """A short form of `value` for a message, however large the value is."""
    try:
        return one_line(_SHORT.repr(value))
    except ValueError:  # an integer of more digits than Python converts
        return "a number of thousands of digits"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def keep(instance: object, **values: object) -> None:
    """Store checked values in a frozen dataclass from within its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def without_axes(value: Any) -> Any:
    """The number in an array without axes; any other value unchanged."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def real(key: str, value: Any) -> float:
    value = without_axes(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise BadInput(key, f"{shown(value)} is not a number", "write a number such as 1.0")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST:
        raise BadInput(
            key, f"{shown(value)} is not finite or too large", f"write a number of magnitude at most {LARGEST:g}"
        )
    return number


def positive(key: str, value: Any) -> float:
    number = real(key, value)
    if number <= 0:
        raise BadInput(key, f"{number} is not positive", "write a number above zero")
    if number < SMALLEST:
        raise BadInput(key, f"{number} is too small", f"write a number of at least {SMALLEST:g}")
    return number


def sequence(key: str, value: Any, remedy: str, most: int) -> tuple[Any, ...]:
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping | Set):
        raise BadInput(key, f"{shown(value)} is not a list", remedy)
    if len(value) > most:
        raise BadInput(key, f"{len(value)} entries", f"give at most {most}")
    return tuple(value)


def positives(key: str, value: Any) -> tuple[float, ...]:
    entries = sequence(key, value, "write a list of numbers such as [1.0, 1.0]", MOST_COMPONENTS)
    return tuple(positive(f"{key}[{i}]", x) for i, x in enumerate(entries))


def mixture_weights(key: str, value: Any) -> tuple[float, ...]:
    weights = positives(key, value)
    if not weights:
        raise BadInput(key, "a mixture without components", "give at least one weight")
    total = math.fsum(weights)
    if abs(total - 1) > SUM_TOLERANCE:
        raise BadInput(
            key,
            f"the weights sum to {total:.12g}",
            f"make them sum to one within {SUM_TOLERANCE:g}{_normalised(weights, total)}",
        )
    return weights


def _normalised(weights: tuple[float, ...], total: float) -> str:
    """The end of a message: the normalised weights for pasting, or the divisor where the weights are too many."""
    shares = [w / total for w in weights]
    if len(shares) > MOST_PASTED or min(shares) < SMALLEST:
        return f": divide each by {total!r}"
    return f", such as [{', '.join(map(repr, shares))}]"


def mean_vectors(key: str, value: Any) -> tuple[tuple[float, ...], ...]:
    remedy = "write one list of coordinates per component, such as [[3.0], [-3.0]]"
    rows = [
        sequence(f"{key}[{k}]", row, remedy, MOST_DIMENSIONS)
        for k, row in enumerate(sequence(key, value, remedy, MOST_COMPONENTS))
    ]
    for k, row in enumerate(rows):
        if not row:
            raise BadInput(f"{key}[{k}]", "a mean without coordinates", "give at least one coordinate")
    return tuple(tuple(real(f"{key}[{k}][{j}]", x) for j, x in enumerate(row)) for k, row in enumerate(rows))


def padded_alike(means: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """All means cut or padded to the coordinates up to the last one that is not zero in every mean, at least one."""
    used = max((j for row in means for j, x in enumerate(row, start=1) if x != 0), default=1)
    return tuple((*row[:used], *[0.0] * (used - len(row))) for row in means)


def padded_to(means: tuple[tuple[float, ...], ...], size: int) -> tuple[tuple[float, ...], ...]:
    """All means padded with zeros to `size` coordinates."""
    return tuple((*row, *[0.0] * (size - len(row))) for row in means)


def covariance_matrices(key: str, value: Any) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Symmetric positive definite matrices of one size; an asymmetry of rounding is removed."""
    remedy = "write one matrix per component, such as [[[1.0, 0.3], [0.3, 0.5]], [[1.0, 0.0], [0.0, 1.0]]]"
    found = [
        _covariance(f"{key}[{k}]", matrix, remedy)
        for k, matrix in enumerate(sequence(key, value, remedy, MOST_COMPONENTS))
    ]
    for k, matrix in enumerate(found):
        if len(matrix) != len(found[0]):
            size, first = len(matrix), len(found[0])
            raise BadInput(
                f"{key}[{k}]", f"{size} x {size} entries", f"give {first} x {first} entries, as {key}[0] has"
            )
    return tuple(found)


def _covariance(key: str, value: Any, remedy: str) -> tuple[tuple[float, ...], ...]:
    given = sequence(key, value, remedy, MOST_SPAN)
    rows = [sequence(f"{key}[{n}]", row, remedy, MOST_SPAN) for n, row in enumerate(given)]
    size = len(rows)
    if not rows:
        raise BadInput(key, "an empty matrix", remedy)
    for n, row in enumerate(rows):
        if len(row) != size:
            raise BadInput(f"{key}[{n}]", f"{len(row)} entries in a matrix of {size} rows", f"give {size} entries")
    entries = [[real(f"{key}[{n}][{m}]", x) for m, x in enumerate(row)] for n, row in enumerate(rows)]
    for n in range(size):
        for m in range(n):
            above, below = entries[m][n], entries[n][m]
            if abs(above - below) > ASYMMETRY * max(abs(above), abs(below)):
                found = f"not symmetric: entry [{m}][{n}] is {above}, and [{n}][{m}] is {below}"
                raise BadInput(key, found, "write a symmetric matrix")
            entries[n][m] = entries[m][n] = (above + below) / 2
    with mpmath.workdps(30):
        eigenvalues = mpmath.eigsy(mpmath.matrix(entries), eigvals_only=True)
        least, largest = min(eigenvalues), max(abs(x) for x in eigenvalues)
        if least <= 0:
            found = f"not positive definite: its smallest eigenvalue is {mpmath.nstr(least, 6)}"
            raise BadInput(key, found, "give a covariance matrix with positive eigenvalues")
        if least <= SINGULAR * largest or least < SMALLEST:
            found = f"nearly singular: its eigenvalues reach from {mpmath.nstr(least, 6)} to {mpmath.nstr(largest, 6)}"
            raise BadInput(key, found, f"give eigenvalues within a factor of {1 / SINGULAR:g}, above {SMALLEST:g}")
    return tuple(map(tuple, entries))


def start_temperature(kind: str, value: Any) -> float:
    key = "schedule.T0"
    if isinstance(value, numbers.Real) and value == math.inf:
        if kind in FROM_INFINITY:
            return math.inf
        remedy = f"give a number, or one of the kinds {', '.join(FROM_INFINITY)}"
        raise BadInput(key, f"the formula of schedule.kind {kind!r} has no meaning for inf", remedy)
    T0 = real(key, value)
    if T0 < 1:
        remedy = 'give a temperature of at least 1; kinds "table" and "expression" may be colder than 1 on the way'
        raise BadInput(key, f"{T0} is below 1", remedy)
    return T0


def table_points(key: str, value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, str | os.PathLike):
        return _checked_points(key, value)
    if not os.fspath(value):
        return ()
    try:
        points, places = read_points(value)
    except BadPointsError as mistake:
        raise BadInput(key, mistake.found, mistake.remedy) from None
    try:
        return _checked_points(key, points)
    except BadInput as mistake:
        entry = re.match(r".*?\[([0-9]+)\]", mistake.key)
        place = places[int(entry[1])] if entry else os.fsdecode(value)
        raise BadInput(key, f"{place}: {mistake.found}", mistake.remedy) from None


def _checked_points(key: str, value: Any) -> tuple[tuple[float, float], ...]:
    remedy = (
        "write a list of pairs [time, temperature] such as [[0, 300], [1000, 1]], or the name of a file of two columns"
    )
    points: list[tuple[float, float]] = []
    for i, entry in enumerate(sequence(key, value, remedy, MOST_POINTS)):
        pair = sequence(f"{key}[{i}]", entry, remedy, 2)
        if len(pair) != 2:
            raise BadInput(f"{key}[{i}]", f"{len(pair)} entries", remedy)
        if pair[1] == math.inf:
            finite = 'give a finite temperature, or schedule.kind = "beta-linear" with T0 = inf'
            raise BadInput(f"{key}[{i}]", "log T is linear between points, and inf has none", finite)
        time, temperature = (real(f"{key}[{i}][{j}]", x) for j, x in enumerate(pair))
        if i == 0 and time != 0:
            raise BadInput(f"{key}[0]", f"the first time is {time}", "begin at time 0")
        if points and time < points[-1][0]:
            raise BadInput(f"{key}[{i}]", f"time {time} does not come after {points[-1][0]}", "give ascending times")
        if len(points) > 1 and time == points[-2][0]:
            raise BadInput(f"{key}[{i}]", f"a third point at time {time}", "give at most two, before and after a jump")
        points.append((time, positive(f"{key}[{i}][1]", temperature)))
    if len(points) == 1:
        raise BadInput(key, "one point", "give at least two")
    if points and points[-1][1] != 1:
        raise BadInput(key, f"the last temperature is {points[-1][1]}", "end at temperature 1")
    return tuple(points)


def one_of(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        found, remedy = f"{shown(value)} is unknown", f"choose one of {', '.join(allowed)}"
        if isinstance(value, str) and (known := outside(f"{key}={value}")):
            found, remedy = f"{shown(value)}: {known[0]}", known[1]
        raise BadInput(key, found, remedy)
    return value


def require_length(key: str, entries: Collection[Any], wanted: int, reason: str) -> None:
    if len(entries) != wanted:
        raise BadInput(key, f"{len(entries)} entries", f"give {reason}")


def require_distinct_modes(
    means: tuple[tuple[float, ...], ...],
    scales: tuple[float, ...],
    covariances: tuple[tuple[tuple[float, ...], ...], ...],
) -> None:
    seen: dict[tuple, int] = {}
    for k, mode in enumerate(zip(means, scales, covariances or [()] * len(means), strict=True)):
        if mode in seen:
            what = "mean, scale and covariance" if covariances else "mean and scale"
            remedy = "merge them into one, adding their weights"
            raise BadInput(f"target.means[{k}]", f"the same {what} as target.means[{seen[mode]}]", remedy)
        seen[mode] = k


def require_name(key: str, name: Any) -> None:
    if not isinstance(name, str):
        raise BadInput(key, f"{shown(name)} is not text", 'write it in quotes, such as "bimodal"')
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or set(name) & set("/\\") or name.startswith("."):
        remedy = f"give 1 to {LONGEST_NAME} printable characters without slashes or a leading dot"
        raise BadInput(key, f"{shown(name)} cannot serve in file names", remedy)
