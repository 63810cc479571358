#!/usr/bin/env bash
# Writes the derivation's LaTeX from the code and typesets it; an undefined reference or a box more than 10 pt too wide is an error.
set -euo pipefail
cd "$(dirname "$0")"
uv run annealvi derive --format latex --out generated > /dev/null
uv run python - << 'EOF'
from pathlib import Path

from derive.built_in import BUILT_IN
from derive.rendering import closed_system_as_latex, general_as_latex
from derive.symbolic_problem import derive_problem

for name in ("simplex", "two-scales", "learned-weights"):
    derivation = derive_problem(BUILT_IN[name])
    Path(f"generated/general-{name}.tex").write_text(general_as_latex(derivation) + "\n", encoding="utf-8")
    Path(f"generated/closed-{name}.tex").write_text(closed_system_as_latex(derivation) + "\n", encoding="utf-8")
EOF
latexmk -pdf -quiet -interaction=nonstopmode -halt-on-error main.tex > build.log 2>&1 || { tail -30 main.log; exit 1; }
if grep -nE 'undefined (reference|citation)|multiply.defined|Overfull \\hbox \(([1-9][0-9]+)\.' main.log; then
  echo "paper/main.tex: the lines above must be mended" >&2
  exit 1
fi
echo "paper/main.pdf: $(pdfinfo main.pdf 2> /dev/null | awk '/^Pages/ {print $2}') pages"
