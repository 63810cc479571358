"""Derivations that consist of given steps alone, so that a test checks these and no others."""

from __future__ import annotations

from dataclasses import replace

from derive.dynamics.derivation import Derivation
from derive.objects.step import Step


def with_steps(derivation: Derivation, *steps: Step) -> Derivation:
    """The derivation with these steps, written out for its own numbers of modes and components, and no general ones."""
    return replace(derivation, general=replace(derivation.general, steps=()), steps=steps)
