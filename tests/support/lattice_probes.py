"""Systems whose rates are averages over several variables.

Every coefficient of the logits is a state, so that tests can try any coefficients with one compiled kernel.
"""

from itertools import combinations

import numpy as np
import sympy as sp

from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.softmax import Softmax
from derive.objects.states import StateKind, StateVariable
from derive.objects.system import OdeSystem
from kernels.averages.lattice_reference import average_and_error
from kernels.integrate.kernel import compile_system

Z = tuple(StandardNormal(f"z_{n + 1}") for n in range(5))


def probe_system(averages, states, steepest=1.0):
    """A system whose rates are the given averages.

    It has additional states where there are fewer states than averages. Its domain has offsets and slopes within ±20,
    and coefficients of squares within ±steepest.
    """
    spare = sp.symbols(f"spare_:{max(0, len(averages) - len(states))}", real=True)
    states = (*states, *spare)
    names = sp.symbols(f"E_:{len(averages)}", real=True)
    rates = (*names, *[sp.S.Zero] * (len(states) - len(names)))
    ends = (sp.Float(steepest) if s.name.startswith("k") else sp.Integer(20) for s in states)
    variables = tuple(
        StateVariable(state, StateKind.MODE_OVERLAP, (0,), (-end, end)) for state, end in zip(states, ends, strict=True)
    )
    gram = sp.ImmutableMatrix(0, 0, [])
    return OdeSystem("probe", variables, (), tuple(zip(names, averages, strict=True)), rates, gram)


def softmax_averages(
    normals, degrees=None, components=3, curved=False, extra=lambda shares, variables: [], crossed=False
):
    """The averages of all shares and of what `extra` makes of them, and the states in their logits.

    The states are A_l, B_ln and k_l for every component but the last, whose logit is 0. k_l multiplies c − degrees, or
    with `curved` the sum of all squares and c. With `crossed` there are also k_l_nn for the squares and k_l_nm for the
    products of two normal variables.
    """
    c = () if degrees is None else (ChiSquared("c", sp.sympify(degrees)),)
    variables = (*Z[:normals], *c)
    states, logits = [], []
    for l in range(components - 1):
        offset, *slopes = sp.symbols([f"A_{l}", *(f"B_{l}{n}" for n in range(normals))], real=True)
        logit = offset + sum(b * z for b, z in zip(slopes, Z, strict=False))
        states += [offset, *slopes]
        if curved or c:
            k = sp.Symbol(f"k_{l}", real=True)
            states.append(k)
            logit += k * (sum(z**2 for z in Z[:normals]) + sum(c) if curved else c[0] - degrees)
        if crossed:
            factors = [*((n, n) for n in range(normals)), *combinations(range(normals), 2)]
            products = sp.symbols([f"k_{l}_{n}{m}" for n, m in factors], real=True)
            states += products
            logit += sum(k * Z[n] * Z[m] for k, (n, m) in zip(products, factors, strict=True))
        logits.append(logit)
    shares = [Softmax(j + 1, *logits, sp.S.Zero) for j in range(components)]
    return [Expectation(f, *variables) for f in (*shares, *extra(shares, variables))], tuple(states)


def average_value(expectation, numbers):
    """The reference's value of an average, or of an expression in averages."""
    return average_and_error(expectation, numbers)[0]


def compiled(averages, states, tolerance=1e-11, steepest=1.0, device="cpu", **options):
    system = probe_system(averages, states, steepest)
    return compile_system(system, sp.S.One, (), {}, tolerance=tolerance, device=device, **options)


def random_numbers(kernel, count, scale, steepest=0.2, seed=0):
    """Random states, (count, states).

    Offsets and slopes are of order `scale`, coefficients of squares of order `steepest`.
    """
    numbers = np.random.default_rng(seed).normal(size=(count, len(kernel.system.states)))
    return numbers * [steepest if s.name.startswith("k") else scale for s in kernel.system.states]


def given(kernel, numbers):
    """One state as a mapping from symbols."""
    return dict(zip(kernel.system.states, map(float, numbers), strict=True))
