"""The main job: every check of a problem's equations, kernels and simulation, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from annealvi.session.session import Session
from annealvi.verification.against_particles import (
    SETTINGS,
    PathComparison,
    compare_paths,
    compare_velocity,
    path_checks,
    velocity_checks,
)
from annealvi.verification.check import Check
from annealvi.verification.derivation_steps import derivation_checks, system_check
from annealvi.verification.kernel_numbers import (
    COARSE_TOLERANCE,
    cuda_check,
    kernel_checks,
    order_check,
    widest_average,
    worst_state_check,
)
from annealvi.verification.kernel_numbers import TOLERANCE as KERNEL_TOLERANCE
from annealvi.verification.kl_gradient import grid_checks, mutant_check, references
from annealvi.verification.theory import Theory, checked_theory
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput


@dataclass(frozen=True)
class Verification:
    """checks: in the order run. comparisons: the paths behind the particle checks. notes: what did not run, and why.

    measured_errors: of the kernel's averages, see `kernels.averages.tables.MeasuredError`. theory: limits, symmetric
    states and holds, where there is one of the problem; its checks are among `checks`. seconds: wall time.
    """

    problem: str
    device: str
    checks: tuple[Check, ...]
    comparisons: tuple[PathComparison, ...]
    measured_errors: tuple[Any, ...]
    theory: Theory | None
    notes: tuple[str, ...]
    seconds: float

    SHOWN: ClassVar = ("problem", "passed", "checks", "seconds", "device")
    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.show.printing import as_html
        from annealvi.verification.report import print_checks

        return as_html(print_checks, self)

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "problem": self.problem,
            "device": self.device,
            "seconds": self.seconds,
            "checks": [{**asdict(check), "passed": check.passed} for check in self.checks],
            "notes": list(self.notes),
        }


@checked
def verify(
    session: Session, device: str = "auto", seed: int = 0, progress: Callable[[str], None] | None = None
) -> Verification:
    """Run every check. device: where kernels and particles run; "auto" is a GPU where one is usable.

    seed: of the particles. progress: called with a line that says what runs now.
    """
    if session.problem.space.dimension == 1 and session.problem.flow.manifold == "sphere":
        raise BadInput(
            "space.dimension", "1, where a sphere is two points and nothing moves", "verify in at least 2 dimensions"
        )
    begun = time.perf_counter()
    checks: list[Check] = []
    notes: list[str] = []

    def now(what: str) -> None:
        if progress is not None:
            progress(f"[{time.perf_counter() - begun:5.1f} s, {len(checks)} checks done] {what}")

    def take(outcome: Check | str) -> None:
        """A check, or the line that says why it did not run."""
        if isinstance(outcome, Check):
            checks.append(outcome)
        else:
            notes.append(outcome)

    now("compiling the generated kernels")
    kernel = session.compile(device, KERNEL_TOLERANCE if widest_average(session) <= 2 else COARSE_TOLERANCE)
    now("derivation steps in coordinates, 30 digits")
    rule = session.problem.schedule.kind if session.rule is not None else None
    for check in derivation_checks(session.with_rule() if rule == "adaann" else session.derivation):
        take(check)
        now(check.name if isinstance(check, Check) else check)
    take(system_check(session.derivation))
    now("gradient of the KL on grids")
    grid = references(session.problem)
    for outcome in grid_checks(session.problem, session.derivation, grid, session.values):
        take(outcome)
    now("kernels against mpmath")
    checks.extend(kernel_checks(session, device))
    take(worst_state_check(session))
    take(order_check(session))
    now("limits of the theory")
    theory = checked_theory(session.derivation)
    if isinstance(theory, Theory):
        checks.extend(theory.checks.values())
    else:
        notes.append(theory)
    now("one velocity by particles")
    checks.extend(velocity_checks(session, compare_velocity(session, device, seed)))
    comparisons = []
    if rule is not None:
        notes.append(
            f"schedule.kind {rule}: paths are compared under fixed schedules; of the rule, only "
            f"what is derived of it is checked"
        )
    for setting in SETTINGS:
        comparisons.append(
            compare_paths(session, setting, device, seed, _percentage(now, f"particles, {setting.name}"))
        )
    checks.extend(path_checks(comparisons))
    now("CUDA against CPU")
    take(cuda_check(session))
    now("one-term mutants")
    mutants, survivors = mutant_check(session.derivation, grid)
    take(mutants)
    notes.extend(f"survived: {mutant.label}" for mutant in survivors)
    return Verification(
        session.problem.name,
        kernel.device,
        tuple(checks),
        tuple(comparisons),
        kernel.measured_errors,
        theory if isinstance(theory, Theory) else None,
        tuple(notes),
        time.perf_counter() - begun,
    )


def _percentage(now: Callable[[str], None], label: str) -> Callable[[int, int], None]:
    return lambda done, total: now(f"{label}: {100 * done // total} %")
