"""The derived limits of the bimodal system, which all tests share."""

from __future__ import annotations

from functools import cache

import annealvi
from derive.asymptotics.limits import Asymptotics
from derive.objects.expansion import Expansion


@cache
def limits() -> Asymptotics:
    return annealvi.asymptotics(annealvi.load_problem("bimodal"))


@cache
def expansion(name: str) -> Expansion:
    return {e.name: e for e in limits().expansions}[name]
