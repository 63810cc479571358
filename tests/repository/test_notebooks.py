"""A rendered notebook has the cells of its source, run from the first to the last without an error."""

from __future__ import annotations

import re

import jupytext
import nbformat
import pytest
from places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_every_source_has_its_notebook():
    assert len(NOTEBOOKS) >= 5
    assert {path.stem for path in NOTEBOOKS} == {path.stem for path in NOTEBOOKS[0].parent.glob("*.ipynb")}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def pair(request):
    """The cells of the source and the cells of the notebook."""
    return jupytext.read(request.param).cells, nbformat.read(request.param.with_suffix(".ipynb"), 4).cells


@pytest.mark.quick
def test_the_notebook_has_the_cells_of_its_source(pair):
    source, rendered = ([(cell.cell_type, cell.source) for cell in cells] for cells in pair)
    assert rendered == source


def test_the_notebook_was_run_in_order_and_without_errors(pair):
    code = [cell for cell in pair[1] if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)


def test_a_notebook_needs_public_names_alone(pair):
    imports = re.findall(
        r"^(?:from|import) ((?:annealvi|derive|kernels)[\w.]*)",
        "\n".join(cell.source for cell in pair[0]),
        re.MULTILINE,
    )
    assert set(imports) == {"annealvi"}
