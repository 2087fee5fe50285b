"""Every notebook runs from top to bottom in a kernel of its own, and puts out what is committed."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = sorted(path.name for path in HERE.glob("*.ipynb"))
REFRESH = "its outputs are stale: python -m pytest notebooks --write"


@pytest.fixture(scope="module", params=NOTEBOOKS)
def notebook(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def executed(notebook: str, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Any:
    """The notebook as it comes out of a fresh kernel, in a folder with nothing in it."""
    somewhere = tmp_path_factory.mktemp("notebook")
    fresh = nbformat.read(HERE / notebook, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with pytest.MonkeyPatch.context() as patched:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patched.setenv(name, str(tmp_path_factory.mktemp("jupyter")))
        NotebookClient(
            fresh,
            timeout=60,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(somewhere)}},
        ).execute()
    fresh.metadata.language_info = {"name": "python"}
    assert list(somewhere.iterdir()) == []
    if pytestconfig.getoption("write"):
        (HERE / notebook).write_text(nbformat.writes(fresh) + "\n")
    return fresh


def said(notebook: Any) -> list[str]:
    """Return what each code cell puts out."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return ["".join(_text(output) for output in cell.outputs) for cell in code]


def _text(output: Any) -> str:
    data = output.get("data", {})
    return str(output.get("text") or data.get("text/markdown") or data.get("text/plain", ""))


def test_it_runs_and_puts_out_what_is_committed(notebook: str, executed: Any) -> None:
    committed = nbformat.read(HERE / notebook, as_version=4)
    assert said(executed) == said(committed), REFRESH
    assert [cell.source for cell in executed.cells] == [cell.source for cell in committed.cells]


def test_nothing_of_the_machine_is_in_it(notebook: str) -> None:
    text = (HERE / notebook).read_text()
    assert not re.search(r"/(home|root|tmp|Users|var|work)/|\d{4}-\d\d-\d\d|0x[0-9a-f]{6}", text)
    assert "Traceback" not in text


def test_the_three_memories_are_what_they_claim() -> None:
    committed = nbformat.read(HERE / "01_three_memories.ipynb", as_version=4)
    out = "\n".join(said(committed))
    steps = re.findall(r"^next: (.*)$", out, re.MULTILINE)
    assert "```mermaid" in out
    assert steps[:5] == [
        "begin_turn",
        "load_history recall_user_memory search_learnings",
        "respond",
        "tools",
        "respond",
    ]
    assert "NVIDIA: P/E 44" in out
    assert "Tesla: P/E 171" in out
    ana, ben = re.search(r"ana: (.*)\n\nben: (.*?)\n\n", out, re.DOTALL).groups()
    assert "The user is interested in AI stocks." in ana
    assert "interested" not in ben
    assert "pending: ['Comparing ETFs']\nlearned: []" in out
    assert "approved by kim" in out
    assert "put before the model: learning 1, revision 1" in out
