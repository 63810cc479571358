"""Averages over several variables: compiled functions against the derivation's integrands summed by another rule."""

import numpy as np
import pytest
import sympy as sp

from derive.expectation import ChiSquared, Expectation, StandardNormal
from derive.softmax import Softmax
from derive.system import Domain, OdeSystem
from kernels.integrator import compile_system
from kernels.lattice_reference import average_value

Z = tuple(StandardNormal(f"z_{n + 1}") for n in range(5))


def probe_system(averages, states, steepest=1.0):
    """A system whose rates are the averages themselves; it has more states than they need, where there are fewer of them.

    Offsets and slopes lie within ±20, coefficients of squares within ±steepest.
    """
    spare = sp.symbols(f"spare_:{max(0, len(averages) - len(states))}", real=True)
    states = (*states, *spare)
    names = sp.symbols(f"E_:{len(averages)}", real=True)
    rates = (*names, *[sp.S.Zero] * (len(states) - len(names)))
    ends = (sp.Float(steepest) if s.name.startswith("k") else sp.Integer(20) for s in states)
    domain = Domain(sp.ImmutableMatrix(0, 0, []), tuple((-end, end) for end in ends))
    return OdeSystem("probe", states, (), tuple(zip(names, averages, strict=True)), rates, domain)


def softmax_averages(normals, degrees=None, components=3, curved=False, extra=lambda shares, variables: []):
    """States: one offset and slope per component but the last, whose logit is 0. The averages: all shares, and `extra`."""
    c = ChiSquared("c", degrees) if degrees is not None else None
    variables = (*Z[:normals], *(() if c is None else (c,)))
    states, logits = [], []
    for l in range(components - 1):
        own = sp.symbols(f"A_{l} " + " ".join(f"B_{l}{n}" for n in range(normals)), real=True, seq=True)
        logit = own[0] + sum(b * z for b, z in zip(own[1:], Z, strict=False))
        states += own
        if curved:
            k = sp.Symbol(f"k_{l}", real=True)
            states.append(k)
            logit += k * (sum(z**2 for z in Z[:normals]) + (c if c is not None else 0))
        elif c is not None:
            k = sp.Symbol(f"k_{l}", real=True)
            states.append(k)
            logit += k * (c - degrees)
        logits.append(logit)
    shares = [Softmax(j + 1, *logits, sp.S.Zero) for j in range(components)]
    return [Expectation(f, *variables) for f in (*shares, *extra(shares, variables))], tuple(states)


def compiled(averages, states, tolerance=1e-11, steepest=1.0, **options):
    system = probe_system(averages, states, steepest)
    return compile_system(system, sp.S.One, (), {}, tolerance=tolerance, device="cpu", **options)


def random_numbers(states, count, scale, seed=0):
    """(count, states): offsets and slopes of order `scale`, coefficients of squares a tenth of it and not positive."""
    numbers = np.random.default_rng(seed).normal(size=(count, len(states))) * scale
    for n, s in enumerate(states):
        if s.name.startswith("k"):
            numbers[:, n] = -np.abs(numbers[:, n]) / 10
    return numbers


@pytest.mark.parametrize("normals", [1, 2, 3])
def test_shares_against_the_reference(normals):
    averages, states = softmax_averages(normals, extra=lambda s, v: [v[-1] * s[0], s[0] * s[1] + 2 * v[0] ** 2 * s[2]])
    kernel = compiled(averages, states)
    width = len(kernel.system.states)
    numbers = np.zeros((4, width))
    numbers[:, : len(states)] = random_numbers(states, 4, 2.0)
    found = kernel.rhs_at_beta(1.0, numbers)
    for row, values in zip(found, numbers, strict=True):
        given = dict(zip(kernel.system.states, values, strict=True))
        expected = [average_value(a, given) for a in averages]
        np.testing.assert_allclose(row[: len(averages)], expected, rtol=0, atol=2e-11)
