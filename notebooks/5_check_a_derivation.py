# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Check a derivation: three slips in a draft
#
# Somebody has derived the equations of the study ([arXiv:2602.12923](https://arxiv.org/abs/2602.12923)) by hand, in
# their own letters, and typed them in LaTeX. Are they right? `annealvi.compare`, or `annealvi compare draft.tex` on a
# command line, reads the displays of the draft and compares them with the equations that the package derives from the
# objective. This draft has three slips.

# %%
import tempfile
from pathlib import Path

from IPython.display import Math, display

import annealvi
from annealvi import style

DRAFT = r"""
Let $x$ and $y$ be the overlaps of the two means with the first mode, and $q$ that of the means,
\[ x = m_1, \quad y = m_2, \quad q = s. \]
With the pull and the exchange
\begin{align}
  F(u) &= \int Dz\, \tanh(R^2 u + h + R z), \qquad h = \frac12 \ln\frac{w_1^\star}{w_2^\star}, \\
  G(a) &= \mathbb{E}_z\left[\frac{1}{1 + e^{\Delta + a + \sqrt{2\Delta}\, z}}\right], \qquad \Delta = R^2 (1 - q),
\end{align}
and $\lambda$ for the logarithm of the ratio of the weights, the flow is
\begin{align}
  \lambda &= \ln(w_1/w_2), \\
  \dot x &= w_1 \bigl[ \beta F(x) (1 + x^2) - G(\lambda) (y - q x) \bigr], \\
  \dot y &= w_2 \bigl[ \beta F(y) (1 - y^2) - G(-\lambda) (x - q x) \bigr], \\
  \dot q &= w_1 \beta F(x) (y - q x) + w_2 \beta F(y) (x - q y) - w_1 G(\lambda) (1 - q^2).
\end{align}
"""

folder = Path(tempfile.mkdtemp())
draft = folder / "draft.tex"
draft.write_text(DRAFT)
problem = annealvi.load_problem("bimodal")
found = annealvi.compare(problem, draft)
print(found)
assert found.verdict == "different"
assert found.repaired is not None

# %% [markdown]
# All three are found: the sign of $x^2$ in the projection, the index of the exchange in $\dot y$, and the exchange in
# $\dot q$, of which there are two equal parts, one for each component. For the last one two repairs are told, since
# twice the part that is there does as well as the other part.
#
# The repaired equations come back in the letters of the draft, and can be compared again.

# %%
repaired = found.repaired_latex()
display(Math(repaired.replace("align*", "aligned")))
again = folder / "repaired.tex"
again.write_text(repaired)
found = annealvi.compare(problem, again)
print(found)
assert found.verdict == "equal"

# %% [markdown]
# Equations need not look like the package's to be equal: the exchange $G$ is written here as the average of a Fermi
# function, whereas the package derives one of a hyperbolic secant. Nor does a unit of time matter, as long as it is one
# for all equations; it is named.

# %%
slower = DRAFT.replace("(1 + x^2)", "(1 - x^2)").replace("(x - q x) \\bigr]", "(x - q y) \\bigr]")
slower = slower.replace("- w_1 G(\\lambda) (1 - q^2)", "- 2 w_1 G(\\lambda) (1 - q^2)")
for rate in ("x", "y", "q"):
    slower = slower.replace(f"\\dot {rate} &= ", f"\\dot {rate} &= R^{{-2}} \\Bigl( ")
slower = slower.replace("\\bigr], \\\\", "\\bigr] \\Bigr), \\\\").replace("(1 - q^2).", "(1 - q^2) \\Bigr).")
draft.write_text(slower)
found = annealvi.compare(problem, draft)
print(found)
assert (found.verdict, str(found.time_unit)) == ("equal-up-to-time-unit", "R**(-2)")

# %% [markdown]
# ## Claims
#
# Formulas for results are put to the test in the same way. Is the probability of collapse $e^{-t_0/T_0}$, as a rule of
# thumb might have it? And is the critical temperature its leading term at large separation?

# %%
claims = {"T_c": "2/pi*R**2*exp(R**2/2)", "P": "exp(-t0/T0)"}
found = annealvi.compare(problem, {}, claims=claims, ranges={"R": (3, 8)})
print(found)
assert [claim.verdict for claim in found.claims] == ["different", "different"]

# %%
temperature, collapse = found.claims
with style.figure(style.TWO_COLUMNS, 2.4, columns=2) as (figure, (left, right)):
    points = temperature.along("R")
    left.plot([p.at["R"] for p in points], [p.ratio for p in points], **style.line(0))
    left.axhline(1, color=style.FAINT, linewidth=0.7)
    left.set_xlabel(style.LABELS["R"])
    left.set_ylabel("claimed / computed $T_c$")
    points = collapse.along("T0")
    places = [p.at["T0"] for p in points]
    right.errorbar(places, [p.ours for p in points], [p.error for p in points], **style.points(0), label="ensembles")
    right.plot(places, [p.claim for p in points], **style.line(1), label="claimed")
    right.set_xlabel(style.LABELS["schedule.T0"])
    right.set_ylabel("P(collapse)")
    right.set_ylim(0, None)
    right.legend()
figure

# %% [markdown]
# *Left: the claimed critical temperature is right to leading order at large separation, and the verdict says so. Right:
# the claimed probability is not even of the right order.*
#
# [Check my own derivation](../docs/how-to/check.md) has all that is understood, in LaTeX and in TOML, and what the
# verdicts mean.
