"""Random states of a system, at which the errors of its lattice rules are measured.

The Gram matrix of each state is that of real vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import sympy as sp

from derive.objects.system import OdeSystem


def random_states(
    system: OdeSystem, values: Mapping[sp.Symbol, float], limits: np.ndarray, count: int, seed: int = 3
) -> np.ndarray:
    """`count` random states (count, states) within the intervals `limits` (states, 2).

    Vectors whose inner products are all given keep them. The other vectors have random lengths and directions, from
    unrelated to nearly parallel. A state that no entry of the Gram matrix determines is drawn from its interval: evenly
    in the logarithm where the interval is positive and its ends differ by a factor of more than four, and with small
    values more often than large ones where the interval contains zero.
    """
    generator = np.random.default_rng(seed)
    return np.array([_one_state(system, values, limits, generator) for _ in range(count)]).reshape(
        count, len(system.states)
    )


def _one_state(
    system: OdeSystem, values: Mapping[sp.Symbol, float], limits: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    state = np.array([_drawn(low, high, generator) for low, high in limits])
    gram = system.gram.xreplace(dict(values))
    vectors = _vectors(system, gram, state, generator)
    for i in range(len(vectors)):
        for j in range(i):
            entry = gram[i, j]
            (symbol,) = entry.free_symbols if len(entry.free_symbols) == 1 else (None,)
            if symbol in system.states and sp.diff(entry, symbol).is_number:
                slope = float(sp.diff(entry, symbol))
                n = system.states.index(symbol)
                wanted = (float(vectors[i] @ vectors[j]) - float(entry.xreplace({symbol: sp.S.Zero}))) / slope
                state[n] = np.clip(wanted, *limits[n])
    return state


def _drawn(low: float, high: float, generator: np.random.Generator) -> float:
    if low > 0 and high > 4 * low:
        return float(np.exp(generator.uniform(np.log(low), np.log(high))))
    if low < 0 < high:
        return float((high - low) / 2 * generator.uniform(-1, 1) ** 3 + (low + high) / 2)
    margin = 0.01 * (high - low)  # the intervals of weights are open at both ends
    return float(generator.uniform(low + margin, high - margin))


def _vectors(system: OdeSystem, gram: sp.Matrix, state: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random vectors (size, size), one per row, with the lengths that the Gram matrix prescribes.

    The vectors also have the matrix's inner products where these are given.
    """
    size = gram.shape[0]
    known = dict(zip(system.states, state, strict=True))
    lengths = np.array([float(gram[i, i].xreplace(known)) for i in range(size)])
    fixed: list[int] = []
    for i in range(size):
        if all(gram[i, j].is_number for j in (*fixed, i)):
            fixed.append(i)
    fixed = fixed if len(fixed) > 1 else []  # a single vector may have any direction
    directions = generator.normal(size=(size, size)) + np.exp(generator.uniform(-4, 3)) * generator.normal(size=size)
    vectors = (
        directions / np.linalg.norm(directions, axis=1, keepdims=True) * np.sqrt(np.maximum(lengths, 0))[:, None]
        if size
        else directions
    )
    if fixed:
        given = np.array([[float(gram[i, j]) for j in fixed] for i in fixed])
        eigenvalues, eigenvectors = np.linalg.eigh(given)
        vectors[fixed] = 0.0
        vectors[np.ix_(fixed, range(len(fixed)))] = eigenvectors * np.sqrt(np.maximum(eigenvalues, 0))
    return vectors
