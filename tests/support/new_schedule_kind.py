"""Registers one more schedule kind, and then walks the record through the package. Run as a program of its own.

The record is registered before any other module is imported, which is what one more entry in `derive.problem.kinds`
amounts to. Every assertion below therefore holds for a new kind without any other change.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

from derive.problem.kinds import BOTH_NUMBERS, KINDS, Formula, Kind, Substitution

KIND = Kind(
    name="quadratic",
    meaning="T = 1 + (T0 - 1) (1 - t/t0)^2 for t < t0, then 1",
    formula=Formula("T", lambda t, T0, t0: 1 + (T0 - 1) * (1 - t / t0) ** 2, ends=True),
    settling=lambda T0, excess: 1 - math.sqrt(excess / (T0 - 1)),
    monotone=True,
    numbers=BOTH_NUMBERS,
    own_keys=(),
    needs=None,
    starts_at_zero_beta=False,
    adaptive=False,
    growth=Substitution(lambda u, T0, t0: t0 * (1 - u), start=1),
)
KINDS[KIND.name] = KIND

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import schedule_claims  # noqa: E402
import sympy as sp  # noqa: E402
from scipy.integrate import quad  # noqa: E402

from annealvi.annealing.betas import ANNEALED, TIMED_KINDS, beta_schedule  # noqa: E402
from annealvi.collapse import recommendation  # noqa: E402
from annealvi.collapse.trapping import lasting_beta  # noqa: E402
from annealvi.realnvp import schedule_sweep  # noqa: E402
from annealvi.sweeps.keys import numbers_of  # noqa: E402
from derive.asymptotics.equal_weights import PULL  # noqa: E402
from derive.asymptotics.growth_exponents import CRITICAL_TEMPERATURE, HOT_KINDS, PULL_SLOPE, hot_growth  # noqa: E402
from derive.asymptotics.transverse_growth import MEAN  # noqa: E402
from derive.objects.states import StateKind, StateVariable  # noqa: E402
from derive.objects.system import BETA, OdeSystem  # noqa: E402
from derive.problem.problem_file import load_problem, problem_to_toml  # noqa: E402
from derive.problem.schedules import START_TEMPERATURE, TIME_SCALE, make_schedule, settling_time  # noqa: E402
from derive.problem.specification import SCHEDULE_KINDS, BadInput, ScheduleSpec  # noqa: E402
from kernels.integrate.kernel import compile_system  # noqa: E402


def temperature(t: float, T0: float, t0: float) -> float:
    return 1 + (T0 - 1) * (1 - t / t0) ** 2 if t < t0 else 1.0


def claims_of_the_record() -> None:
    for name, check in vars(schedule_claims).items():
        if name.startswith("check_"):
            check(KIND)


def lists_of_kinds() -> None:
    for names in (SCHEDULE_KINDS, TIMED_KINDS, HOT_KINDS, recommendation.KINDS, schedule_sweep.KINDS):
        assert KIND.name in names


def problem_file() -> None:
    problem = load_problem("bimodal", ("schedule.kind=quadratic", "schedule.T0=20", "schedule.t0=50"))
    assert problem.schedule == ScheduleSpec("quadratic", 20.0, 50.0)
    assert 'kind = "quadratic"' in problem_to_toml(problem)
    for change in ("schedule.T0=inf", "schedule.tau=0.1"):
        with pytest.raises(BadInput, match="quadratic"):
            load_problem("bimodal", ("schedule.kind=quadratic", change))


def schedule() -> None:
    made = make_schedule(ScheduleSpec("quadratic", 20.0, 50.0))
    for t in (0.0, 13.0, 49.0, 50.0, 1e6):
        assert math.isclose(made.temperature_at(t), temperature(t, 20.0, 50.0), rel_tol=1e-13)
        assert math.isclose(made.beta_at(t), 1 / temperature(t, 20.0, 50.0), rel_tol=1e-13)
    assert math.isclose(temperature(settling_time(made, 0.01), 20.0, 50.0), 1.01)
    assert numbers_of(ScheduleSpec("quadratic", 20.0, 50.0)) == ("T0", "t0")
    assert lasting_beta(SimpleNamespace(schedule=made)) == 1.0  # type: ignore[arg-type]


def training_loops() -> None:
    betas = beta_schedule("quadratic", 20.0, 100)
    assert betas.steps == 100
    assert math.isclose(1 / betas(100), 1 + ANNEALED)


def growth_exponent() -> None:
    """By a path whose transverse rate is the antipodal pair's, so that no mixture needs to be derived."""
    rate = BETA * sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0) / 2
    found = hot_growth("quadratic", SimpleNamespace(transverse=rate, at_pair=lambda rate: rate))  # type: ignore[arg-type]
    numbers = {START_TEMPERATURE: 300, CRITICAL_TEMPERATURE: 40, TIME_SCALE: 70, PULL_SLOPE: 2}
    crossing, heat = schedule_claims.crossing_and_heat(KIND, 300.0, 40.0)
    assert math.isclose(float(found.crossing.subs(numbers)), 70 * crossing, rel_tol=1e-10)
    assert math.isclose(float(found.exponent.subs(numbers)), 70 * heat, rel_tol=1e-10)


def generated_kernel() -> None:
    """dy/dt = -beta y by the generated kernel, against the exponential of the integral of beta."""
    made, y = make_schedule(ScheduleSpec("quadratic", 20.0, 3.0)), sp.Symbol("m_1", real=True)
    state = StateVariable(y, StateKind.MODE_OVERLAP, (0,), (-sp.oo, sp.oo))
    system = OdeSystem("new kind", (state,), (), (), (-BETA * y,), sp.ImmutableMatrix([[1]]))
    values = dict(zip(made.parameters, made.values, strict=True))
    kernel = compile_system(system, made.beta, made.parameters, values, breakpoints=made.breakpoints, device="cpu")
    run = kernel.integrate(np.array([[1.0]]), [0.0, 2.0, 5.0], rtol=1e-9, atol=1e-12)
    heat = quad(lambda t: 1 / temperature(t, 20.0, 3.0), 0, 3.0)[0]
    assert math.isclose(run.y[0, -1, 0], math.exp(-heat - 2.0), rel_tol=1e-7)


if __name__ == "__main__":
    walk = (claims_of_the_record, lists_of_kinds, problem_file, schedule, training_loops, growth_exponent)
    for stage in (*walk, generated_kernel):
        stage()
        print(stage.__name__)
