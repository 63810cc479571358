"""Names as parts of LaTeX labels, macros and file names, for which only ASCII letters, digits, hyphens and underscores
are safe."""

from __future__ import annotations

import re


def slug(name: str) -> str:
    """`dm/dt of near components` is dm-dt-of-near-components; a name of which nothing is left is "unnamed"."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-") or "unnamed"
