"""Curves, figures and the report: made from the store alone, and saying what the store says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from prunectl.experiments.analysis.curves import panels, run_draws
from prunectl.experiments.analysis.readings import read_panels
from prunectl.experiments.analysis.safe_sparsity import Walk, walks
from prunectl.experiments.analysis.summary import numbers_of, readable, summarise
from prunectl.experiments.drawing.style import look
from prunectl.experiments.drawing.tables import aligned, markdown
from prunectl.experiments.report.figures import return_figure, stability_figure
from prunectl.experiments.report.write import write_report
from prunectl.experiments.stability.bounds import Checks, Count
from prunectl.experiments.sweeping.store import FILE, Store, StoreError
from prunectl.pruning import Method
from tests.experiments.fakes import cell, episodes, outcome, record_curves, subject

STOCK = Method("stock-global", "magnitude", "uniform", "none")
BARE = Method(recovery="none")
FULL = Method(recovery="reconstruct")
#: Normalised return by asked sparsity; random is 0 and dense 100 on average.
CURVES = {
    STOCK: {0.25: 100.0, 0.5: 50.0, 0.75: 0.0},
    BARE: {0.25: 100.0, 0.5: 90.0, 0.75: 10.0},
    FULL: {0.25: 100.0, 0.5: 100.0, 0.75: 100.0},
}


def as_markdown(summary: pd.DataFrame) -> str:
    shown = readable(summary)
    return markdown(shown, right=numbers_of(shown))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished sweep of two controllers by three methods; deployed sparsity is 0.2 above the asked one."""
    with Store.writing(tmp_path) as store:
        record_curves(store, {"one": CURVES, "two": CURVES}, integrity=True)
    return tmp_path


def test_panels_hold_what_the_store_holds(folder: Path) -> None:
    with Store.reading(folder) as store:
        found = panels(store)
    assert [(panel.controller, panel.task) for panel in found] == [("one", "CartPole-v1"), ("two", "CartPole-v1")]
    panel = found[0]
    assert [curve.method for curve in panel.curves] == list(CURVES)
    curve = panel.curves[1]
    np.testing.assert_allclose(curve.asked, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve.sparsity["deployed"], [0.45, 0.7, 0.95])
    np.testing.assert_allclose(curve.integrity, [0.75, 0.5, 0.25])
    np.testing.assert_array_equal(curve.returns, [[[90, 110], [80, 100], [0, 20]]])
    np.testing.assert_array_equal(panel.dense, [90, 110])
    np.testing.assert_array_equal(panel.random, [-10, 10])


def test_seeds_are_an_axis_and_a_sparsity_that_one_seed_lacks_is_left_out(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        cells = [cell(method=FULL, sparsity=s, seed=seed) for s in (0.3, 0.6) for seed in (0, 1)]
        store.plan(cells)
        for number, entry in enumerate(cells[:3]):
            store.record(entry, outcome([number, number], entry.sparsity, entry.sparsity))
        store.record_failure(cells[3], "no")
        (panel,) = panels(store)
    (curve,) = panel.curves
    np.testing.assert_array_equal(curve.returns, [[[0, 0]], [[1, 1]]])
    assert panel.dense is None
    assert panel.random is None


def test_the_summary_is_what_the_curves_say(folder: Path) -> None:
    with Store.reading(folder) as store:
        table = summarise(read_panels(panels(store), 0))
    one = table[table["controller"] == "one"].set_index("method")
    # Total axis, 1 at 0.25 and 0.5 at 0.5: 0.95 is a tenth of the way, 0.275. Deployed: all 0.2 further.
    assert one.loc["stock-global", "s95_total"] == pytest.approx(0.275)
    assert one.loc["stock-global", "s95_deployed"] == pytest.approx(0.475)
    assert one.loc["component + surgeon", "s95_total"] == pytest.approx(0.375)
    assert one.loc["component + surgeon + reconstruct", "s95_total"] == pytest.approx(0.75)
    assert one["s95_total_open"].tolist() == [False, False, True]
    # What is left falls by 3/4, 2/3 and 1/2.
    steps = np.log([4 / 3, 3 / 2, 2])
    assert one.loc["stock-global", "log_area_total"] == pytest.approx(steps @ [1, 0.75, 0.25] / steps.sum())
    assert one["integrity_half"].tolist() == pytest.approx([0.5, 0.5, 0.5])
    # Episodes are paired and differ by the same amount everywhere: nothing is uncertain.
    assert one["s95_total_low"].tolist() == pytest.approx(one["s95_total"].tolist())
    assert one["s95_total_sure"].tolist() == pytest.approx(one["s95_total"].tolist())
    assert one["s95_total_sure_open"].tolist() == [False, False, True]
    assert set(one["over"]) == {"episodes"}
    means = table[table["controller"] == "mean of 2"].set_index("method")
    assert means.loc["stock-global", "s95_total"] == pytest.approx(0.275)
    assert means["s95_total_open"].tolist() == [False, False, True]  # the mean of lower bounds is one


def test_the_safe_sparsity_stands_beside_s95_where_stability_was_recorded(tmp_path: Path) -> None:
    held, rising, falls = (Checks(Count(0, 100), Count(n, 100)) for n in (0, 50, 0))
    wobbly = Checks(Count(50, 100), Count(0, 100))
    with Store.writing(tmp_path) as store:
        cells = {
            "one": (held, {0.25: held, 0.5: rising, 0.75: falls}),
            "two": (held, {0.25: held, 0.5: held, 0.75: held}),
            "three": (wobbly, {0.25: held, 0.5: held, 0.75: held}),
            "elsewhere": (None, {0.25: None, 0.5: None, 0.75: None}),
        }
        planned = []
        for name, (dense, pruned) in cells.items():
            starts = None if dense is None else 100
            planned.append(cell(subject(name), stability=starts))
            store.record(planned[-1], outcome([90.0, 110.0], checks=dense))
            for sparsity, found in pruned.items():
                planned.append(cell(subject(name), FULL, sparsity, stability=starts))
                store.record(planned[-1], outcome([90.0, 110.0], sparsity, sparsity, checks=found))
        store.plan(planned)
        store.record_random(episodes([-10.0, 10.0]))
        table = summarise(read_panels(panels(store), 0), walks(store.results()))
    columns = table.columns.tolist()
    assert columns.index("s95_deployed_open") < columns.index("safe_deployed") < columns.index("s95_total")
    own = table.set_index("controller")
    assert own.loc["one", ["safe_deployed", "settling_deployed"]].tolist() == [0.25, 0.75]
    assert own["safe_deployed_open"].tolist() == [False, True, False, False, True]
    assert own["stability_starts"].tolist() == [100, 100, 100, pd.NA, pd.NA]
    assert own.loc["mean of 4", "safe_deployed"] == pytest.approx((0.25 + 0.75 + 0) / 3)
    rows = [line.split("|") for line in as_markdown(table).splitlines()]
    place = [text.strip() for text in rows[0]].index("safe deployed")
    assert [row[place].strip() for row in rows[2:]] == ["0.25", "≥ 0.75", "none", "-", "≥ 0.33"]
    files, _ = write_report(tmp_path)
    assert "stability.png" in {path.name for path in files}
    assert "Safe is the highest deployed sparsity" in (tmp_path / "summary.md").read_text()
    assert "safe, mean" not in (tmp_path / "summary.md").read_text()


def test_a_line_is_broad_up_to_the_safe_sparsity(folder: Path) -> None:
    lost = Walk(100, (0.0, 0.45, 0.7, 0.95), (True,) * 4, (True, True, False, True))
    never = Walk(100, (0.0, 0.45), (True, True), (False, True))
    with Store.reading(folder) as store:
        found = read_panels(panels(store), 0)
    stable = {("two", "CartPole-v1", None, BARE): lost, ("two", "CartPole-v1", None, FULL): never}
    assert stability_figure(found, {}) is None
    figure = stability_figure(found, stable)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_title() == "two"
    lines = {line.get_linewidth(): line for line in axes.get_lines() if line.get_xdata()[0] == 0.0}  # type: ignore[index]
    np.testing.assert_allclose(lines[5].get_xdata(), [0, 0.45])
    np.testing.assert_allclose(lines[5].get_ydata(), [1, 1])
    assert sum(line.get_linewidth() == 5 for line in axes.get_lines()) == 1


def test_components_pruned_alone_are_told_apart(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        planned = [cell(subject(name)) for name in ("one", "two")]
        for dense in planned[:2]:
            store.record(dense, outcome([90.0, 110.0]))
        for name in ("one", "two"):
            for only, returns in (("actor", [40.0, 60.0]), ("value", [90.0, 110.0])):
                planned.append(cell(subject(name), FULL, 0.5, only=only))
                store.record(planned[-1], outcome(returns, 0.5, 0.5))
        store.plan(planned)
        store.record_random(episodes([-10.0, 10.0]))
        found = read_panels(panels(store), 0)
    table = summarise(found)
    assert table["only"].tolist() == ["actor", "value"] * 3
    assert table["controller"].tolist()[-2:] == ["mean of 2", "mean of 2"]
    assert table["s95_total_open"].tolist() == [False, True] * 3
    assert as_markdown(table).splitlines()[:2] == [
        "| controller | only | method | s95 deployed | sure deployed | log area deployed | s95 total | sure total | "
        "log area total | integrity at 0.5 |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert len(summarise([read for read in found if read.panel.controller == "one"])) == 2  # no mean over components


def test_uncertainty_comes_from_episodes_that_disagree(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        cells = [cell(episodes=4), cell(method=FULL, sparsity=0.5, episodes=4)]
        store.plan(cells)
        store.record(cells[0], outcome([100.0] * 4))
        store.record(cells[1], outcome([100.0, 100.0, 0.0, 0.0], 0.5, 0.5))
        store.record_random(episodes([0.0] * 4))
        (panel,) = panels(store)
        found = run_draws(panel, panel.curves[0], np.random.default_rng(0))
        row = summarise(read_panels([panel], 0)).iloc[0]
    assert found is not None
    assert found[0].tolist() == [[0.5]]
    assert set(found[1].ravel()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert row["s95_total"] == pytest.approx(0.05)
    assert row["s95_total_low"] < 0.05 < row["s95_total_high"]


def test_the_sure_sparsity_is_the_last_at_which_95_of_100_draws_keep_095(tmp_path: Path) -> None:
    """Two of twenty episodes fail at 0.8, which is then passed by most draws but not by 95 of 100."""
    failing = [100.0] * 18 + [70.0] * 2
    with Store.writing(tmp_path) as store:
        cells = [cell(episodes=20), *(cell(method=FULL, sparsity=s, episodes=20) for s in (0.5, 0.8))]
        store.plan(cells)
        store.record(cells[0], outcome([100.0] * 20))
        store.record(cells[1], outcome([100.0] * 20, 0.5, 0.5))
        store.record(cells[2], outcome(failing, 0.8, 0.8))
        store.record_random(episodes([0.0] * 20))
        (read,) = read_panels(panels(store), 0)
    (own,) = read.curves
    assert own.draws is not None
    kept = own.kept["deployed"]
    assert (kept.s95, kept.open, kept.sure_open) == (0.8, True, False)  # 0.97
    assert 0.5 < kept.sure < 0.8
    assert np.mean(own.draws.s95 >= kept.sure) == pytest.approx(0.95, abs=0.05)  # draws come in steps
    assert kept.low <= kept.sure


@pytest.mark.parametrize("axis", ["deployed", "total"])
def test_a_panel_draws_each_method_and_both_references(folder: Path, axis: str) -> None:
    with Store.reading(folder) as store:
        figure = return_figure(read_panels(panels(store), 0), axis)
    assert [axes.get_title() for axes in figure.axes] == ["one\nCartPole-v1", "two\nCartPole-v1"]
    lines = figure.axes[0].get_lines()
    drawn = {(tuple(np.round(line.get_xdata(), 6)), tuple(line.get_ydata())) for line in lines}
    shift = 0.2 if axis == "deployed" else 0.0
    for curve in CURVES.values():
        x = [round(sparsity + shift, 6) for sparsity in curve]
        if axis == "total":
            assert ((0.0, *x), (100.0, *curve.values())) in drawn
        else:  # nothing was measured for a long way from the dense controller: a hint alone
            assert (tuple(x), tuple(curve.values())) in drawn
            assert ((0.0, x[0]), (100.0, 100.0)) in drawn
    assert ((0, 1), (100.0, 100.0)) in drawn
    assert ((0, 1), (0.0, 0.0)) in drawn
    by_method = dict(zip(CURVES, (line for line in lines if line.get_marker() != "None"), strict=False))
    assert by_method[BARE].get_color() == by_method[FULL].get_color() != by_method[STOCK].get_color()
    assert by_method[BARE].get_linestyle() == "--"
    assert by_method[FULL].get_linestyle() == "-"
    assert figure.axes[0].get_xlabel() == f"{axis} sparsity"
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [*(method.label for method in CURVES), "dense", "random actions"]
    for method, line in by_method.items():
        assert to_hex(line.get_color()).upper() == look(method).colour


def test_the_report_needs_the_store_and_nothing_else_and_is_the_same_again(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / FILE).write_bytes((folder / FILE).read_bytes())
    files, text = write_report(elsewhere)
    assert {path.name for path in files} == {
        *(
            f"{kind}_{axis}.{end}"
            for kind in ("return", "overall")
            for axis in ("deployed", "total")
            for end in ("pdf", "png")
        ),
        *(f"{kind}.{end}" for kind in ("profile", "improvement", "pareto", "cuts") for end in ("pdf", "png")),
        *(f"leaderboard.{end}" for end in ("pdf", "png", "csv", "md")),
        *(f"contrasts.{end}" for end in ("pdf", "png", "csv", "md")),
        "aggregate.csv",
        "aggregate.md",
        "summary.csv",
        "summary.md",
        "report.html",
    }
    assert all(path.stat().st_size > 0 for path in files)
    assert (elsewhere / "return_deployed.pdf").read_bytes().startswith(b"%PDF")
    page = (elsewhere / "report.html").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 6
    assert len(pd.read_csv(elsewhere / "summary.csv")) == 9
    assert "≥ 0.75 [0.75, 0.75]" in text
    assert "have not been computed" not in text
    first = {path.name: path.read_bytes() for path in files}
    assert {path.name: path.read_bytes() for path in write_report(elsewhere)[0]} == first


def test_what_a_sweep_lacks_is_said(folder: Path) -> None:
    with Store.writing(folder) as store:
        results = store.results()
        failed = cell(subject("one"), FULL, 0.99)
        planned = [cell(subject(row.controller)) for row in results[results["grouping"].isna()].itertuples()]
        store.plan([*planned, cell(subject("one"), FULL, 0.25), failed])
        store.record_failure(failed, "nothing <left> to prune")
    _, text = write_report(folder)
    for shown in (text, (folder / "summary.md").read_text()):
        assert "Of 4 cells 1 failed and 0 have not been computed" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("two\nlines\r\n| x |", r"two lines \| x \|"),
        ("<script>1</script>", "&lt;script>1&lt;/script>"),
        ("<!--", "&lt;!--"),
        ("&lt;img&#62;", "&amp;lt;img&amp;#62;"),
        ("![x](http://a)", r"![x\](http://a)"),
        ("< -10", "< -10"),
        ("≥ 0.97 [0.91, 0.98]", "≥ 0.97 [0.91, 0.98]"),
    ],
)
def test_a_text_stays_one_cell_of_markdown(text: str, shown: str) -> None:
    table = markdown(pd.DataFrame({"name": [text], text: [1]}))
    assert table == f"| name | {shown} |\n| --- | ---: |\n| {shown} | 1 |\n"


def test_texts_that_a_spreadsheet_would_compute_are_texts(tmp_path: Path) -> None:
    """In every CSV that a sweep or a report writes; numbers below 0 stay numbers."""
    name = "=HYPERLINK(1)$a_{$"
    with Store.writing(tmp_path) as store:
        record_curves(store, {name: {FULL: {0.5: -20.0}}, "@two": {FULL: {0.5: 90.0}}})
        failed = cell(subject(name), FULL, 0.9)
        store.record_failure(failed, "-1 | <b>")
        store._connection.execute("INSERT INTO planned VALUES (?, 99)", (failed.key,))
        store.export()
    write_report(tmp_path)  # its figures draw the name as it is
    results = pd.read_csv(tmp_path / "results.csv")
    assert set(results["controller"]) == {f"'{name}", "'@two"}
    assert results["error"].dropna().tolist() == ["'-1 | <b>"]
    assert results["mean_return"].min() == -20
    assert set(pd.read_csv(tmp_path / "summary.csv")["controller"]) == {f"'{name}", "'@two", "mean of 2"}
    assert f"| {name} |" in (tmp_path / "summary.md").read_text()


def test_a_store_with_nothing_pruned_is_a_clear_error(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([cell()])
        store.record(cell(), outcome([1.0, 2.0]))
    with pytest.raises(StoreError, match="no pruned controller"):
        write_report(tmp_path)


def test_tables_have_a_row_a_method(folder: Path) -> None:
    with Store.reading(folder) as store:
        shown = readable(summarise(read_panels(panels(store), 0)))
    header, *lines = aligned(shown, right=numbers_of(shown)).splitlines()
    assert len(lines) == 6 + 3
    assert {len(line) for line in lines} == {len(header)}
    assert lines[0].startswith("one ")
    assert lines[0].endswith(" 0.50")
    rows = markdown(shown, right=numbers_of(shown)).splitlines()
    assert len(rows) == 2 + 6 + 3
    assert all(line.startswith("| ") and line.count("|") == rows[0].count("|") for line in rows)


def test_what_a_report_no_longer_says_does_not_stay(folder: Path) -> None:
    written, _ = write_report(folder)
    gone = {folder / f"{name}.{ending}" for name in ("leaderboard", "contrasts") for ending in ("csv", "md", "png")}
    assert gone <= set(written)
    own = folder / "notes.md"
    own.write_text("mine")
    with Store.writing(folder) as store:
        record_curves(store, {"one": {FULL: CURVES[FULL]}})
    written, _ = write_report(folder)
    assert not any(path.exists() for path in gone - set(written))
    assert folder / "contrasts.csv" not in written
    assert own.read_text() == "mine"
    assert all(path.exists() for path in written)
