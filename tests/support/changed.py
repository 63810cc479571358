"""Arguments of the particle simulation with one value changed."""

from __future__ import annotations

from typing import Any


def changed(arguments: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The arguments with another value; a key such as "proposal weights" is of one parameter of a mixture."""
    mixture, _, parameter = key.partition(" ")
    return {**arguments, mixture: {**arguments[mixture], parameter: value} if parameter else value}
