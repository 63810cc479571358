"""The optional libraries of this package, named where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

NEEDED = ("jax", "equinox", "optax")


class MissingComponent(RuntimeError):  # noqa: N818
    """An optional library is not installed; the message says how to get it."""


def require_flows() -> None:
    """Raises MissingComponent where training a flow lacks a library."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingComponent(f'training a flow needs {", ".join(missing)}: install them with `pip install "annealvi[flows]"`')
