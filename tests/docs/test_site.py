"""The site is built without a warning, fetches nothing from elsewhere, and its notebook runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parent.parent.parent / "docs"
#: What a page fetches to be shown: scripts, styles, fonts, pictures.
FETCHED = re.compile(r"""<(?:script|img|iframe)[^>]*\bsrc="([^"]*)"|<link[^>]*\bhref="([^"]*)"|url\(["']?([^)"']*)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", str(folder / "trees")]
    done = subprocess.run(
        [sys.executable, *command, str(DOCS), str(folder / "html")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    fetched = {
        address
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        for match in FETCHED.findall(path.read_text(encoding="utf-8"))
        for address in match
    }
    assert any(address.endswith(".css") or ".css?" in address for address in fetched)
    assert {address for address in fetched if re.match(r"(https?:)?//", address)} == set()


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    import prunectl

    page = (site / "api.html").read_text(encoding="utf-8")
    assert [name for name in prunectl.__all__ if f'id="prunectl.{name}"' not in page] == []


def test_formulas_are_drawn_by_the_browser_alone(site: Path) -> None:
    page = (site / "method.html").read_text(encoding="utf-8")
    assert page.count("<math") >= 10
    assert "<mfrac>" in page
    assert "$" not in re.sub(r"<(pre|code|script)\b.*?</\1>", "", page, flags=re.DOTALL)


@pytest.mark.slow
def test_the_notebook_of_the_tutorial_runs(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(site / "tutorial.ipynb", as_version=4)
    page = jupytext.read(DOCS / "tutorial.md")
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in page.cells]
    assert sum(cell.cell_type == "code" for cell in notebook.cells) >= 8
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # In the kernel `prunectl` is the one of these tests.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "it keeps" in printed
    assert (tmp_path / "small.c").is_file()
    assert (tmp_path / "out" / "tutorial" / "report.html").is_file()
