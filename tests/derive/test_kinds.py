"""The records of the schedule kinds: each claim agrees with the formula's own numbers, and wrong claims are noticed."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace

import numpy as np
import pytest
import sympy as sp
from schedule_claims import (
    check_growth,
    check_monotone,
    check_numbers,
    check_settling_time,
    check_start_and_end,
    check_start_at_zero_beta,
)

from derive.problem.kinds import KINDS, Formula, Kind, Substitution
from derive.problem.schedules import make_schedule
from derive.problem.specification import ADAPTIVE_KINDS, ScheduleSpec

WITH_FORMULA = [kind for kind in KINDS.values() if kind.formula is not None and not kind.adaptive]
WITH_GROWTH = [kind for kind in KINDS.values() if kind.growth is not None]
SETTLING = [kind for kind in KINDS.values() if kind.settling is not None]
by_name = pytest.mark.parametrize("kind", WITH_FORMULA, ids=lambda kind: kind.name)


def test_a_record_that_leaves_a_field_out_is_an_error() -> None:
    assert all(field.default is MISSING and field.default_factory is MISSING for field in fields(Kind))
    given = vars(KINDS["linear"])
    for name in given:
        with pytest.raises(TypeError, match=name):
            Kind(**{key: value for key, value in given.items() if key != name})


def test_each_record_is_found_by_its_own_name_and_tells_what_it_is() -> None:
    assert all(name == kind.name and kind.meaning for name, kind in KINDS.items())
    assert {kind.name for kind in KINDS.values() if kind.timed} == {kind.name for kind in SETTLING}
    assert {kind.name for kind in WITH_GROWTH} <= {kind.name for kind in KINDS.values() if kind.timed}


@by_name
def test_the_formula_starts_at_T0_and_ends_at_one_where_it_settles(kind: Kind) -> None:
    check_start_and_end(kind)


@by_name
def test_monotone_is_what_a_fine_grid_of_the_formula_shows(kind: Kind) -> None:
    check_monotone(kind)
    with pytest.raises(AssertionError):
        check_monotone(replace(kind, monotone=False))


def test_a_bump_is_seen_where_the_record_denies_it() -> None:
    falling = KINDS["linear"].formula
    assert falling is not None
    bump = Formula("T", lambda t, T0, t0: falling.value(t, T0, t0) + 5 * t / t0 * (1 - t / t0) * (T0 - 1), ends=True)
    with pytest.raises(AssertionError):
        check_monotone(replace(KINDS["linear"], formula=bump))


@pytest.mark.parametrize("kind", SETTLING, ids=lambda kind: kind.name)
def test_the_settling_time_is_the_last_crossing_of_the_formula(kind: Kind) -> None:
    check_settling_time(kind)
    assert kind.settling is not None
    for factor in (0.9999, 1.0001):
        with pytest.raises(AssertionError):
            check_settling_time(replace(kind, settling=lambda T0, excess, f=factor: f * kind.settling(T0, excess)))


@by_name
def test_the_numbers_are_those_of_the_formula(kind: Kind) -> None:
    check_numbers(kind)
    with pytest.raises(AssertionError):
        check_numbers(replace(kind, numbers=(*kind.numbers, "t1")))


@by_name
def test_a_start_at_zero_beta_is_claimed_where_the_formula_has_one(kind: Kind) -> None:
    check_start_at_zero_beta(kind)
    with pytest.raises(AssertionError):
        check_start_at_zero_beta(replace(kind, starts_at_zero_beta=not kind.starts_at_zero_beta))


@pytest.mark.parametrize("kind", WITH_GROWTH, ids=lambda kind: kind.name)
def test_the_growth_substitution_integrates_beta(kind: Kind) -> None:
    check_growth(kind)
    right = kind.growth
    assert right is not None
    late = Substitution(right.time, right.start + 1)
    irrational = Substitution(lambda u, T0, t0: right.time(u**sp.pi, T0, t0), right.start)
    for wrong in (late, irrational):
        with pytest.raises(AssertionError):
            check_growth(replace(kind, growth=wrong))


@pytest.mark.parametrize(
    ("kind", "falling", "rising"),
    [
        ("table", {"points": ((0, 9), (5, 1))}, {"points": ((0, 9), (5, 2), (6, 3), (7, 1))}),
        ("expression", {"expression": "1 + 9*exp(-t)"}, {"expression": "1 + 9*(t + 1)*exp(-t/2)"}),
    ],
)
def test_where_the_user_gives_the_temperatures_both_happen(kind: str, falling: dict, rising: dict) -> None:
    assert KINDS[kind].monotone is None
    times = np.linspace(0, 30, 400)
    for given, rises in ((falling, False), (rising, True)):
        schedule = make_schedule(ScheduleSpec(kind, **given))
        assert (np.diff([schedule.temperature_at(t) for t in times]) > 1e-12).any() == rises


@pytest.mark.parametrize("kind", ADAPTIVE_KINDS)
def test_a_rule_never_lowers_beta(kind: str) -> None:
    from annealvi import AdaAnn, EffectiveSampleSize

    assert KINDS[kind].monotone is True
    rule = {"adaann": AdaAnn(0.1, 50.0), "ess": EffectiveSampleSize(0.9, 50.0)}[kind]
    random = np.random.default_rng(3)
    betas = [rule.beta, *(rule.update(random.normal(size=40) * random.choice([0.1, 1, 30])) for _ in range(40))]
    assert (np.diff(betas) >= 0).all()
    assert betas[-1] > betas[0]
