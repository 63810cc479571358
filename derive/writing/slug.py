"""Names as parts of LaTeX labels, macros and file names, which allow only ASCII letters, digits, - and _."""

from __future__ import annotations

import re


def slug(name: str) -> str:
    """Turn a name into a slug: `dm/dt of near components` becomes dm-dt-of-near-components.

    A name of which nothing is left becomes "unnamed".
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-") or "unnamed"
