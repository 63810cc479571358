"""Types of the command line's options, which turn the text of an option into a checked value.

Text that is no such value raises argparse.ArgumentTypeError.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

METHODS = ("formula", "ode", "law", "particles")


def number(convert: Callable[[str], Any], accept: Callable[[Any], bool], wanted: str) -> Callable[[str], Any]:
    """Make an option type that accepts some numbers only.

    convert: `int` or `float`. accept: whether a converted number is allowed. wanted: the allowed numbers in words, for
    the error message.
    """

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accept(value):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {wanted}")
        return value

    return parse


def temperatures(text: str) -> tuple[float, ...]:
    """Temperatures of at least 1, separated by commas."""
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(1 <= T < 1e12 for T in values):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a list of temperatures of at least 1, separated by commas"
        )
    return values


def interval(text: str) -> tuple[float, float]:
    """The two ends of LO:HI."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not LO:HI") from None
    return low, high


def methods(text: str) -> tuple[str, ...]:
    """Different names of METHODS, separated by commas."""
    chosen = text.split(",")
    if not set(chosen) <= set(METHODS) or len(set(chosen)) < len(chosen):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a list of {', '.join(METHODS)}, separated by commas")
    return tuple(chosen)


def dimensions(text: str) -> tuple[int, ...]:
    """Numbers of dimensions, separated by commas."""
    return tuple(count(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas; the command checks them."""
    return tuple(text.split(","))


seed = number(int, lambda x: 0 <= x < 2**64, "an integer from 0 to 2^64 − 1")
count = number(int, lambda x: 1 <= x <= 10**9, "a whole number from 1 to 10^9")
replicas = number(int, lambda x: 1 <= x <= 2**24, "a whole number from 1 to 2^24")
points = number(int, lambda x: 2 <= x <= 10**7, "a whole number from 2 to 10^7")
workers = number(int, lambda x: 1 <= x <= 1024, "a whole number from 1 to 1024")
layers = number(int, lambda x: 1 <= x <= 64, "a whole number from 1 to 64")
width = number(int, lambda x: 1 <= x <= 8192, "a whole number from 1 to 8192")
samples = number(int, lambda x: 100 <= x <= 10**6, "a whole number from 100 to 10^6")
positive = number(float, lambda x: 0 < x < 1e12, "a positive number below 1e12")
share = number(float, lambda x: 0 < x < 1, "a number above 0 and below 1")
error = number(float, lambda x: x == 0 or 1e-5 <= x <= 0.25, "0 or a standard error from 1e-5 to 0.25")
tolerance = number(float, lambda x: 1e-13 <= x <= 1e-2, "a tolerance from 1e-13 to 1e-2")
