"""The report page in a browser: it draws, follows its choices, and is usable without a mouse."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from prunectl.experiments.analysis.findings import findings
from prunectl.experiments.report.page import Picture, assemble
from prunectl.experiments.report.page.data import Table, page_data
from prunectl.experiments.stability.bounds import Checks, Count
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.experiments.fakes import cell, episodes, outcome, subject

NASTY = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>{{script}}<!--"
STOCK = Method("stock-global", "magnitude", "uniform", "none")
BARE = Method(recovery="none")
FULL = Method(recovery="reconstruct")
#: Mean return by total sparsity; deployed sparsity is 0.05 above it, random is 0 and dense 100.
CURVES = {STOCK: {0.5: 60.0, 0.9: 5.0}, BARE: {0.5: 90.0, 0.9: 70.0}, FULL: {0.5: 99.0, 0.9: 95.0}}
FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update"),
    *("disable-sync", "no-first-run", "disable-quic", "window-size=1280,1000"),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three controllers on two tasks, two pruning seeds; one cell failed, one was not computed.

    Of the controller on the second task stability was recorded; V rises at 0.9.
    """
    folder = tmp_path_factory.mktemp("page")
    subjects = [subject("one"), subject(NASTY), subject("swinger", "Pendulum-v1")]
    with Store.writing(folder) as store:
        cells = []
        for number, of in enumerate(subjects):
            starts = 100 if of.task == "Pendulum-v1" else None
            held, rising = (Checks(Count(1, 100), Count(n, 100)) if starts else None for n in (0, 100))
            cells.append(cell(of, stability=starts))
            store.record(cells[-1], outcome([90.0, 110.0], task=of.task, checks=held))
            for method, curve in CURVES.items():
                for sparsity, mean in curve.items():
                    for seed in (0, 1):
                        cells.append(cell(of, method, sparsity, seed, stability=starts))
                        found_so = held if sparsity < 0.9 else rising
                        returns = [mean - 10 - number, mean + 10 - number]
                        store.record(cells[-1], outcome(returns, sparsity + 0.05, sparsity, 0.5, of.task, found_so))
        failed = cell(subjects[1], FULL, 0.99)
        store.plan([*cells, failed, cell(subjects[0], FULL, 0.99)])
        store.record_failure(failed, "=HYPERLINK(1)<b>no</b>")
        for task in ("CartPole-v1", "Pendulum-v1"):
            store.record_random(episodes([-10.0, 10.0], task))
        found = findings(store)
        (folder / "config.yaml").write_text(yaml.safe_dump({"controllers": [NASTY], "methods": NASTY}))
        record = {"command": NASTY, "versions": {NASTY: [NASTY], "__proto__": NASTY}}
        (folder / "provenance.json").write_text(json.dumps(record))
        data = page_data(found, [Table("summary", "Summary", found.summary, "A remark.", chosen=True)], folder)
    path = folder / "report.html"
    path.write_text(assemble(f"sweep {NASTY}", data, [Picture("figure", b"", "A figure.")]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(executable_path=driver)) as chrome:
        yield chrome


@pytest.fixture
def shown(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    """The page, freshly loaded, on light paper."""
    theme(browser, "light")
    browser.get(page.as_uri())
    WebDriverWait(browser, 30).until(
        lambda chrome: chrome.execute_script("return 'ready' in document.documentElement.dataset")
    )
    return browser


def theme(browser: webdriver.Chrome, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def at(browser: webdriver.Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def choose(browser: webdriver.Chrome, name: str) -> None:
    Select(at(browser, "#offer")).select_by_visible_text(name)


def curves(browser: webdriver.Chrome) -> dict[str, tuple[list[float], list[float]]]:
    """The points that can be pointed at, by method."""
    script = "return document.getElementById('chart').data.filter((t) => t.meta).map((t) => [t.name, t.text, t.y])"
    return {name: ([float(text) for text in x], y) for name, x, y in browser.execute_script(script)}


def column(browser: webdriver.Chrome, section: str, number: int) -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"{section} tbody tr > :nth-child({number})")
    return [entry.text for entry in cells]


def test_it_loads_without_an_error_and_without_the_network(shown: webdriver.Chrome, page: Path) -> None:
    assert shown.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in shown.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = {entry["request"]["url"] for entry in requests if entry["documentURL"] == page.as_uri()}
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {page.as_uri()}
    assert "3 controllers on 2 tasks · 3 methods · 39 of 41 cells computed · 1 failed" in at(shown, "#facts").text
    assert list(curves(shown)) == [method.label for method in CURVES]
    assert at(shown, "#failed tbody").text.startswith(NASTY)
    assert "<b>no</b>" in at(shown, "#failed tbody").text
    assert NASTY in at(shown, "#provenance").text
    assert shown.title == f"sweep {NASTY}: report"
    assert shown.find_elements(By.CSS_SELECTOR, "img[onerror]") == []
    assert shown.execute_script("return window.ran") is None


def test_a_script_that_gets_in_does_not_run(shown: webdriver.Chrome) -> None:
    """What an attacker would bring: the policy lets the page's own scripts run, by their hashes, and no other."""
    put_in = """
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.ran = 1'>");
        const base = document.createElement("base");
        base.href = "https://example.org/";
        document.head.append(base);
    """
    shown.execute_script(put_in)
    WebDriverWait(shown, 10).until(lambda chrome: chrome.execute_script("return [...document.images].at(-1).complete"))
    assert shown.execute_script("return [window.ran ?? null, document.baseURI.startsWith('file:')]") == [None, True]
    assert len([entry for entry in shown.get_log("browser") if "Content Security Policy" in entry["message"]]) >= 2


def test_choices_change_the_curves(shown: webdriver.Chrome) -> None:
    choose(shown, "one")
    assert curves(shown) == {
        method.label: ([0.55, 0.55, 0.95, 0.95], [value / 100 for value in curve.values() for _ in (0, 1)])
        for method, curve in CURVES.items()
    }
    at(shown, "input[name=axis][value=total]").click()
    at(shown, "input[name=height][value=return]").click()
    assert curves(shown)[BARE.label] == ([0.5, 0.5, 0.9, 0.9], [90, 90, 70, 70])
    at(shown, "input[name=recovery][value=none]").click()
    assert list(curves(shown)) == [FULL.label]
    assert at(shown, "#shown").text.startswith("1 of 3 curves shown")
    assert column(shown, "#values", 1) == [FULL.label]
    assert column(shown, "#values", 2) == ["99.0"]
    assert set(column(shown, "#cells", 2)) == {"dense", FULL.label}
    Select(at(shown, "#task")).select_by_visible_text("Pendulum-v1")
    assert at(shown, "#view").text == "swinger on Pendulum-v1"
    assert curves(shown)[FULL.label][1] == [97, 97, 93, 93]


def test_the_axis_is_logarithmic_in_what_is_left_unless_it_is_to_be_linear(shown: webdriver.Chrome) -> None:
    choose(shown, "one")
    at(shown, "input[name=axis][value=total]").click()
    script = """
        const chart = document.getElementById("chart");
        const { xaxis } = chart._fullLayout;
        const markers = chart.data.find((trace) => trace.meta).x.map((x) => xaxis.c2p(x));
        return [xaxis.title.text, xaxis.range[1], xaxis.c2p(0), ...markers];
    """
    title, end, *places = shown.execute_script(script)
    assert title == "total sparsity, logarithmic in what is left"
    assert end == pytest.approx(-np.log(0.9 * 0.1))  # the last is 0.9, and a tenth of what is left then has room
    # Half of it gone is log(2) of the way to log(10), nine tenths gone.
    assert (places[1] - places[0]) / (places[3] - places[0]) == pytest.approx(np.log(2) / np.log(10), abs=1e-3)
    ticks = shown.find_elements(By.CSS_SELECTOR, "#chart .xaxislayer-above .xtick text")
    assert [tick.text for tick in ticks] == ["0", "0.5", "0.8", "0.9"]
    at(shown, "input[name=scale][value=even]").click()
    title, end, *places = shown.execute_script(script)
    assert (title, end) == ("total sparsity", 1.01)
    assert (places[1] - places[0]) / (places[3] - places[0]) == pytest.approx(5 / 9, abs=1e-3)


def test_the_mouse_shows_a_cell(shown: webdriver.Chrome) -> None:
    choose(shown, NASTY)
    point = shown.find_elements(By.CSS_SELECTOR, "#chart .scatterlayer .trace path.point")[-1]
    ActionChains(shown).move_to_element(point).perform()
    WebDriverWait(shown, 10).until(lambda chrome: "surgeon" in at(chrome, "#cell").text)
    lines = at(shown, "#cell").text.replace("\n", " ")
    assert f"{FULL.label} · {NASTY} on CartPole-v1" in lines
    for fact in (
        *("sparsity asked 0.90", "sparsity, deployed 0.9500", "sparsity, total 0.9000", "normalised return 0.940"),
        *("return, mean 94.00", "return, std 10.00", "integrity 0.500", "actor 30-2 → 1-2", "value not deployed"),
        *("Returns of 2 episodes, from seed 0 on 84.0, 104.0", "plan 0.5", "evaluate 1.5"),
    ):
        assert fact in lines
    assert FULL.label in at(shown, ".hoverlayer").text


def test_stability_is_shown_of_the_cell_and_in_the_summary(shown: webdriver.Chrome) -> None:
    choose(shown, "swinger")
    at(shown, "#chart").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    lines = at(shown, "#cell").text.replace("\n", " ")
    assert "does not settle 1 of 100 (< 4.7%) V does not fall 100 of 100 (< 100.0%)" in lines
    heads = [head.text for head in shown.find_elements(By.CSS_SELECTOR, "#summary thead button")]
    assert column(shown, "#summary", heads.index("safe deployed") + 1) == ["0.55"] * 3
    assert column(shown, "#summary", heads.index("settling deployed") + 1) == ["≥ 0.95"] * 3
    choose(shown, "one")
    assert column(shown, "#summary", heads.index("safe deployed") + 1) == ["–"] * 3


def test_the_arrow_keys_walk_over_the_cells(shown: webdriver.Chrome) -> None:
    choose(shown, "one")
    chart = at(shown, "#chart")
    chart.send_keys(Keys.ARROW_RIGHT)
    assert at(shown, "#cell").text.startswith(STOCK.label)
    chart.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert at(shown, "#cell").text.startswith(BARE.label)
    spoken = at(shown, "#spoken").get_attribute("textContent")
    assert spoken == f"{BARE.label}: deployed sparsity 0.950, normalised return 0.700"


def test_tables_sort_and_give_csv(shown: webdriver.Chrome) -> None:
    choose(shown, "one")
    heads = [head.text for head in shown.find_elements(By.CSS_SELECTOR, "#cells thead button")]
    place = heads.index("normalised") + 1
    button = at(shown, f"#cells thead th:nth-child({place}) button")
    button.send_keys(Keys.ENTER)
    rising = [float(text) for text in column(shown, "#cells", place)]
    assert rising == sorted(rising)
    assert at(shown, "#cells th[aria-sort]").get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    falling = [float(text) for text in column(shown, "#cells", place)]
    assert falling == rising[::-1]
    assert at(shown, "#cells th[aria-sort]").get_attribute("aria-sort") == "descending"
    shown.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    at(shown, "#cells .bar button").click()
    WebDriverWait(shown, 10).until(lambda chrome: "Copied 13 rows" in at(chrome, "#cells .bar").text)
    rows = list(csv.DictReader(io.StringIO(shown.execute_script("return window.copied"))))
    assert [float(row["normalised_return"]) for row in rows] == falling
    assert {row["controller"] for row in rows} == {"one"}
    assert (rows[0]["grouping"], rows[0]["seed"], rows[-1]["grouping"]) == ("", "", "stock-global")


def test_csv_quotes_what_needs_it_and_what_is_missing_sorts_last(shown: webdriver.Chrome) -> None:
    columns: list[dict[str, Any]] = [
        {"name": "a,b", "values": ['say "no"', None, "two\nlines"]},
        {"name": "c", "values": [1.5, -2, 0]},
    ]
    text = shown.execute_script("return csv(arguments[0], [2, 0, 1])", columns)
    assert list(csv.reader(io.StringIO(text))) == [["a,b", "c"], ["two\nlines", "0"], ['say "no"', "1.5"], ["", "-2"]]
    formulas = [{"name": "x", "values": ["=1+1", "@a", "+1", "\t=1", "-a", "a=b"]}, {"name": "y", "values": [-1] * 6}]
    text = shown.execute_script("return csv(arguments[0], [0, 1, 2, 3, 4, 5])", formulas)
    assert [row[0] for row in csv.reader(io.StringIO(text))] == ["x", "'=1+1", "'@a", "'+1", "'\t=1", "'-a", "a=b"]
    assert {row[1] for row in csv.reader(io.StringIO(text))} == {"y", "-1"}
    orders = "return [false, true].map((falling) => sorted([0, 1, 2, 3, 4], arguments[0], falling))"
    assert shown.execute_script(orders, [None, 10, 9, None, -1]) == [[4, 2, 1, 0, 3], [1, 2, 4, 0, 3]]


def test_marking_a_method_brings_out_its_curve(shown: webdriver.Chrome) -> None:
    at(shown, "#values thead th:nth-child(3) button").click()
    # At 0.9, seven eighths of the way from 0.55 to 0.95; the three controllers are 0, 0.01 and 0.02 below the curve.
    rising = ["0.109", "0.715", "0.945"]
    assert column(shown, "#values", 3) == rising
    at(shown, "#values tbody tr:nth-child(2) .method").send_keys(Keys.ENTER)
    script = "return document.getElementById('chart').data.filter((t) => t.meta).map((t) => [t.name, t.opacity])"
    opacity = dict(shown.execute_script(script))
    assert opacity[BARE.label] == 1
    assert opacity[STOCK.label] < 0.5
    marked = shown.switch_to.active_element
    assert marked.text == BARE.label
    assert marked.get_attribute("aria-pressed") == "true"
    assert column(shown, "#values", 3) == rising


def test_light_and_dark(shown: webdriver.Chrome) -> None:
    def papers() -> set[str]:
        body = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
        return {body, shown.execute_script("return document.getElementById('chart').layout.paper_bgcolor")}

    def baseline() -> str:
        script = "return document.getElementById('chart').data.find((t) => t.name === arguments[0]).marker.color"
        return str(shown.execute_script(script, STOCK.label))

    assert papers() == {"rgb(255, 255, 255)"}
    assert baseline() == "#000000"
    theme(shown, "dark")
    WebDriverWait(shown, 10).until(lambda chrome: at(chrome, "#theme").get_attribute("aria-pressed") == "true")
    assert papers() == {"rgb(21, 24, 28)"}
    assert baseline() == "#f0f0f0"
    at(shown, "#theme").click()
    assert papers() == {"rgb(255, 255, 255)"}


def test_the_keyboard_reaches_every_control_and_each_has_a_name(shown: webdriver.Chrome) -> None:
    script = """
        const controls = [...document.querySelectorAll("a, button, select, input, pre, #chart, .wide")];
        return controls.filter((control) => control.checkVisibility() && !control.closest(".modebar"));
    """
    controls: list[WebElement] = shown.execute_script(script)
    # A group of radio buttons is one stop, at the one that is checked.
    stops = [c for c in controls if c.get_attribute("type") != "radio" or c.is_selected()]
    reached = set()
    for _ in range(len(stops) + 5):
        ActionChains(shown).send_keys(Keys.TAB).perform()
        reached.add(shown.switch_to.active_element.id)
    assert not [stop.get_attribute("outerHTML") for stop in stops if stop.id not in reached]
    assert [control.get_attribute("outerHTML") for control in controls if not control.accessible_name] == []


def test_on_a_narrow_screen_nothing_sticks_out(shown: webdriver.Chrome) -> None:
    metrics = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        widths = "return [document.documentElement.scrollWidth, document.querySelector('#chart svg').clientWidth]"
        WebDriverWait(shown, 10).until(lambda chrome: max(chrome.execute_script(widths)) <= 400)
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
