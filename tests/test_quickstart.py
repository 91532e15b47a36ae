"""The notebook runs as it is, and shows what it stores."""

import json
import re

import pytest
from shared import ENVIRONMENT, ROOT, import_or_skip

nbclient, nbformat = import_or_skip("nbclient"), import_or_skip("nbformat")
import_or_skip("ipykernel")

STORED = nbformat.read(ROOT / "notebooks/quickstart.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def arcs(notebook):
    """What is drawn: (cause's y, emotion's y) of each arc, and the labels with their emotions."""
    (output,) = code_cells(notebook)[-1].outputs
    drawing = output.data["image/svg+xml"]
    ends = re.findall(r'd="M\d+ (\d+) C\S+ \S+ \S+ (\d+) \d+ \d+"', drawing)
    return [tuple(map(int, pair)) for pair in ends], re.findall(r">(\w+) \d\.\d\d<", drawing)


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def test_it_is_stored_as_it_ran():
    cells = code_cells(STORED)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "dialogues/s" in json.dumps(cells[3].outputs), "its training"
    text = json.dumps(STORED)
    assert str(ROOT.parent) not in text
    assert '"error"' not in text
    assert len(text) < 40_000


@pytest.mark.slow
@pytest.mark.long
def test_it_runs(monkeypatch):
    # Optimised, because it trains for longer than it compiles; see conftest.py.
    more = {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    monkeypatch.setattr("os.environ", ENVIRONMENT | more)
    notebook = nbformat.from_dict(json.loads(json.dumps(STORED)))
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources
    ).execute()
    assert "dialogues/s" in json.dumps(code_cells(notebook)[3].outputs)
    predicted = re.findall(r"\[(\d+), (\d+)\] (\w+) 0\.\d{3}", printed(code_cells(notebook)[4]))
    ends, labels = arcs(notebook)
    assert ends == [(28 * int(j) - 5, 28 * int(i) - 5) for i, j, _ in predicted]
    assert labels == [emotion for *_, emotion in predicted]
    # Of the three that its turns are about, another version of JAX may miss one.
    meant = {("3", "2", "anger"), ("6", "5", "joy"), ("9", "8", "fear")}
    assert len(meant & set(predicted)) >= 2
    assert len(predicted) <= 5
    # What is stored is the same but for rounding, and so at most one pair.
    assert len(set(ends) ^ set(arcs(STORED)[0])) <= 1
    # The corpus is generated from a seed.
    assert printed(code_cells(notebook)[2]) == printed(code_cells(STORED)[2])
