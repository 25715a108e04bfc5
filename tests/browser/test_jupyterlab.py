"""Every notebook in JupyterLab, as a reader has it: all cells run, and figures, sliders and the playground appear."""

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
LONGEST = 900_000  # milliseconds for a whole notebook; on two idle cores each takes a minute or two

# What has come of the cells so far, read from JupyterLab's own model of the notebook.
STATE = """() => {
  const cells = [...jupyterapp.shell.currentWidget.content.model.cells].filter((cell) => cell.type === "code");
  const outputs = cells.map((cell) => cell.toJSON().outputs);
  return {
    counts: cells.map((cell) => cell.executionCount),
    errors: outputs.flat().filter((output) => output.output_type === "error").map((error) => error.evalue),
  };
}"""
DONE = f"() => {{ const {{ counts, errors }} = ({STATE})(); return errors.length || counts.every(Number.isInteger); }}"


@pytest.fixture
def run_all(jupyterlab, open_page):
    """Open a notebook, run all of its cells, and return the page; its kernel ends with the test."""
    page = open_page(height=1000)
    page.set_default_timeout(LONGEST)

    def opened_and_run(name: str):
        page.goto(jupyterlab.address(name))
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.context?.isReady"
            " && jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
        )
        page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        assert not any(page.evaluate(STATE)["counts"])
        page.evaluate("() => void jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(DONE, polling=500)
        return page

    yield opened_and_run
    if "jupyterapp" in page.evaluate("() => Object.keys(window)"):
        page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")


def cell(page, index: int):
    return page.locator(".jp-Notebook .jp-Cell").nth(index)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_cells_run_and_their_figures_appear(path, run_all):
    page = run_all(path.name)
    stored = nbformat.read(path, as_version=4).cells

    state = page.evaluate(STATE)
    assert state["errors"] == []
    assert state["counts"] == list(range(1, len(state["counts"]) + 1))
    assert len(state["counts"]) == sum(each.cell_type == "code" for each in stored)

    drawn = [
        index
        for index, each in enumerate(stored)
        if any("image/png" in output.get("data", {}) for output in each.get("outputs", []))
    ]
    assert drawn, "no cell of this notebook draws a figure"
    blank = []
    for index in drawn:  # the figure, or in its place what a live front end shows: the figure below sliders, a canvas
        picture = cell(page, index).locator(".jp-OutputArea :is(img, canvas)").first
        picture.scroll_into_view_if_needed()
        if not picture.evaluate("each => (each.naturalWidth ?? each.width) > 100 && each.clientHeight > 50"):
            blank.append(index)
    assert blank == []


def test_a_slider_moves_and_the_figure_changes(run_all):
    page = run_all("01_gradient_descent.ipynb")
    with_sliders = page.locator(".jp-Cell", has=page.locator(".jupyter-widgets .noUi-handle")).first
    with_sliders.scroll_into_view_if_needed()
    handle, figure = with_sliders.locator(".noUi-handle").first, with_sliders.locator("img").first
    before = figure.get_attribute("src")
    said = with_sliders.locator(".widget-readout").first.inner_text()

    handle.focus()
    handle.press("ArrowRight")
    page.wait_for_function(
        "([img, old]) => img.isConnected === false || img.src !== old", arg=[figure.element_handle(), before]
    )
    assert with_sliders.locator(".widget-readout").first.inner_text() != said
    after = with_sliders.locator("img").first.get_attribute("src")
    assert after.startswith("data:image/png") and after != before
