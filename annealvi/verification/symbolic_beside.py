"""The checks that are SymPy and mpmath alone, in a process of their own: they take as long as compiling the kernels.

As a program, this module reads a pickled `Task` from standard input and writes the pickled `Found`, or the exception
that was raised, to standard output.
"""

from __future__ import annotations

import pickle
import sys
from typing import NamedTuple

from annealvi.verification.beside import Beside, last_words
from annealvi.verification.check import Check
from annealvi.verification.derivation_steps import derivation_checks
from annealvi.verification.theory import Theory, checked_theory
from derive.dynamics.derivation import Derivation


class Task(NamedTuple):
    """The derivation whose steps are checked, and the derivation whose limits are checked, if any."""

    steps_of: Derivation
    limits_of: Derivation | None


class Found(NamedTuple):
    """The outcomes of `derivation_checks` and of `checked_theory`."""

    steps: list[Check | str]
    theory: Theory | str | None


def start_symbolic(task: Task) -> Beside:
    """Start this module as a program."""
    return Beside("symbolic_beside", task)


def found_by(program: Beside) -> Found:
    """Wait for the program's outcomes; an exception that was raised there is raised here."""
    done = program.answer()
    if done.returncode != 0:
        raise RuntimeError(f"the process that checks the derivation failed: {last_words(done)}")
    found = pickle.loads(done.stdout)
    if isinstance(found, Exception):
        raise found
    return Found(*found)


def main() -> None:
    task = Task(*pickle.load(sys.stdin.buffer))
    found: tuple | Exception
    try:
        # Plain tuples, since this module is `__main__` here and its classes would be sought there.
        found = (
            list(derivation_checks(task.steps_of)),
            None if task.limits_of is None else checked_theory(task.limits_of),
        )
    except Exception as error:
        found = error
    pickle.dump(found, sys.stdout.buffer)


if __name__ == "__main__":
    main()
