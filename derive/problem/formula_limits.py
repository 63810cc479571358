"""Limits on the work of SymPy on a user's formula: a guard that counts steps, and measures of a formula's size."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import sympy as sp

from derive.problem.field_checks import BadInput, shown

MOST_STEPS = 2_000_000
"""The most calls and returns within SymPy, somewhat under a second of work. An ordinary formula takes thousands."""
MOST_SECONDS = 2.0
"""The most processor time in seconds. This limit stops the still rarer formula whose single steps are long."""
_SUMS = (sp.Add, sp.Max, sp.Min)


@contextmanager
def sympy_guard(key: str, source: str) -> Iterator[None]:
    """A context for SymPy's work on a user's formula, in which failures and excessive work raise BadInput.

    The work is excessive beyond `MOST_STEPS` or `MOST_SECONDS`. A profile function counts the steps: unlike a signal it
    works in any thread and on any system, and unlike a clock it gives the same answer on slow and fast machines. The
    clock stops only formulas whose single steps are unusually long. A profiler that is already at work is suspended
    meanwhile.
    """
    steps, end = 0, time.thread_time() + MOST_SECONDS

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps > MOST_STEPS or (steps % 128 == 0 and time.thread_time() > end):
            raise _TooLongError

    profiler = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    except BadInput:
        raise
    except _TooLongError:
        raise BadInput(key, "the formula takes too long to analyse", "simplify it", source) from None
    except (ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError) as error:
        # SymPy refuses in various ways to compare expressions that it finds complex or undefined.
        reason = shown(str(error))[1:-1]
        raise BadInput(
            key, f"the formula defies analysis ({reason})", "avoid what may be undefined or complex", source
        ) from None
    finally:
        sys.setprofile(profiler)


class _TooLongError(BaseException):
    """Too much work on one formula. The class is no Exception, so that SymPy does not catch it as one of its own."""


def sums_in_sums(value: sp.Expr) -> int:
    """The depth of sums within sums. The time of SymPy's search for the sign of a sum is exponential in this depth."""
    if isinstance(value, _SUMS):
        return depth_of_sum(value.args)
    return max(map(sums_in_sums, value.args), default=0)


def depth_of_sum(terms: Iterable[sp.Expr]) -> int:
    """The depth of sums within the sum of the given terms."""
    return 1 + max(sums_in_sums(term) - isinstance(term, _SUMS) for term in terms)


def terms_of(value: sp.Expr) -> int:
    """The number of terms of the value when it is multiplied out.

    SymPy multiplies out in its search for signs, and expands a power in a single step, which no count of steps stops.
    """
    if value.is_Add:
        return sum(map(terms_of, value.args))
    if value.is_Mul:
        return math.prod(map(terms_of, value.args))
    if value.is_Pow and value.exp.is_number:
        terms, power = terms_of(value.base), int(abs(as_float(value.exp)))
        return math.comb(terms + power - 1, power)
    return 1


def as_float(number: sp.Expr) -> float:
    """The number as a double, infinite where it is out of range."""
    try:
        return float(number)
    except OverflowError:
        return math.inf
