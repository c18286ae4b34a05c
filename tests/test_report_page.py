"""The report in a browser: it opens without an error, shows the data's points, and can be used."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from reporting import make_run, make_study

from posteriori.runs.report.page import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium (Debian, Ubuntu: apt install chromium)"
)
PATIENCE = 120_000  # milliseconds: the machine may be busy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # which Chromium refuses to root
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox, timeout=PATIENCE)
        yield made
        made.close()


@contextmanager
def opened(browser: Browser, file: Path) -> Iterator[Page]:
    """Open a page; it must have no error in its console until it is closed."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    made = context.new_page()
    made.set_default_timeout(PATIENCE)
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    made.goto(file.as_uri())
    yield made
    assert errors == []
    context.close()


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Open a report of three runs: two seeds, and one of another setting with a warning."""
    folder = tmp_path_factory.mktemp("page")
    runs = [make_run(folder / f"s{seed}", seed=seed, level=100.0 * seed) for seed in range(2)]
    runs.append(make_run(folder / "n", n_step=5, level=60.0))
    text = "`kl` is <b>far</b>. Likely cause: steps. Try: others."
    notice = {"step": 5000, "name": "kl-runaway", "text": text}
    (runs[2] / "warnings.jsonl").write_text(json.dumps(notice) + "\n")
    (runs[2] / "videos").mkdir()
    for name in ("videos/0000010000", "videos/0000020000", "video"):
        (runs[2] / f"{name}.mp4").write_bytes(b"no video")
    with opened(browser, report(runs, folder / "report.html")) as made:
        made.wait_for_function("posteriori.plots.get('return').chart")
        yield made


@pytest.fixture(scope="module")
def study(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Open a report of a study whose runs are gone."""
    folder = tmp_path_factory.mktemp("study")
    made = make_study(folder / "s")
    with opened(browser, report([made.study], folder / "report.html")) as page:
        yield page


def curve(page: Page, plot: str, group: int, metric: str) -> dict[str, Any]:
    """Return what a plot draws of a group; it is made when it comes into view."""
    page.evaluate(f"document.querySelector('[data-plot={plot}]').scrollIntoView()")
    page.wait_for_function(f"posteriori.plots.get('{plot}').chart")
    return page.evaluate(
        """([plot, group, metric]) => {
            const found = posteriori.plots.get(plot).curves.find((curve) =>
                curve.group === posteriori.data.groups[group] && curve.line.metric === metric);
            return found && { x: found.x, y: found.y, low: found.low, high: found.high };
        }""",
        [plot, group, metric],
    )


def test_a_single_run_has_its_rows_and_the_reach_of_its_episodes(page: Page) -> None:
    assert curve(page, "return", 1, "evaluation/mean") == {
        "x": [10_000, 20_000],
        "y": [60, 110],
        "low": [50, 100],
        "high": [70, 120],
    }


def test_seeds_have_a_median_and_a_band(page: Page) -> None:
    # Seed 0 has 0, 50 and seed 1 has 100, 150.
    assert curve(page, "return", 0, "evaluation/mean") == {
        "x": [10_000, 20_000],
        "y": [50, 100],
        "low": [0, 50],
        "high": [100, 150],
    }


def test_what_is_drawn_is_what_the_curves_hold(page: Page) -> None:
    drawn = page.evaluate("posteriori.plots.get('return').chart.data.map((column) => [...column])")
    assert drawn[0] == list(range(1000, 20_001, 1000))
    assert [value for value in drawn[1] if value is not None] == [50, 100]


def test_the_axis_can_be_episodes_or_time(page: Page) -> None:
    try:
        page.click("text=episodes >> nth=0")
        assert curve(page, "return", 1, "evaluation/mean")["x"] == [100, 200]
        page.click("nav >> text=time >> nth=0")
        assert curve(page, "return", 1, "evaluation/mean")["x"] == [40, 80]
    finally:
        page.click("nav >> text=steps")


def test_seeds_can_be_told_apart(page: Page) -> None:
    page.click("text=each run")
    drawn = page.evaluate("posteriori.plots.get('return').curves.map((curve) => curve.y)")
    assert [0, 50] in drawn
    assert [100, 150] in drawn
    page.click("nav >> text=band")


def test_a_card_hides_its_group_everywhere(page: Page) -> None:
    page.click(".card >> nth=0")
    assert curve(page, "return", 0, "evaluation/mean") is None
    assert curve(page, "sigma", 0, "sigma") is None
    assert page.locator(".strip-row").count() == 1
    page.click(".card >> nth=0")
    assert page.locator(".strip-row").count() == 3


def test_zoom_is_shared_and_can_be_left(page: Page) -> None:
    assert curve(page, "critic", 0, "loss/critic")
    page.evaluate("document.querySelector('[data-plot=return]').scrollIntoView({block: 'center'})")
    box = page.locator("[data-plot=return] .u-over").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
    page.mouse.up()
    page.wait_for_function("posteriori.settings.zoom")
    scales = page.evaluate(
        "['return', 'critic'].map((key) => posteriori.plots.get(key).chart.scales.x.max)"
    )
    assert scales[0] == scales[1]
    assert 9_000 < scales[0] < 12_000
    page.click("#unzoom")
    page.wait_for_function("posteriori.plots.get('critic').chart.scales.x.max === 20000")


def test_the_pointer_is_told_what_is_there(page: Page) -> None:
    page.evaluate("document.querySelector('[data-plot=return]').scrollIntoView({block: 'center'})")
    box = page.locator("[data-plot=return] .u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 20)
    page.wait_for_selector("#tip:not([hidden])")
    text = page.inner_text("#tip")
    assert "n_step=5" in text
    assert "110" in text
    assert "100.0 to 120.0" in text
    page.mouse.move(0, 0)


def test_the_theme_can_be_changed(page: Page) -> None:
    def paper() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.click("#theme")
    assert paper() != light
    page.click("#theme")
    assert paper() == light


def test_headlines_settings_and_warnings_are_there(page: Page) -> None:
    cards = page.locator(".card").all_inner_texts()
    assert ["n_step=3" in cards[0], "n_step=5" in cards[1]] == [True, True]
    assert "100.0" in cards[0]  # the mean of the final scores 50 and 150
    assert "1 warning" in cards[1]
    assert ["2 finished" in cards[0], "finished" in cards[1]] == [True, True]
    # 10,000 steps are left, of which 250 are done in a second.
    half = "{ ...posteriori.data.runs[2], state: 'running', step: 10000 }"
    assert page.evaluate(f"stateText([{half}])") == "running, 0:40 left"
    assert page.inner_text(".differs").split() == ["n_step", "3", "5"]
    lines = page.inner_text("#warnings .warning").splitlines()
    assert [line.strip() for line in lines if line.strip()] == [
        "kl-runawayn, step 5,000",
        "kl is <b>far</b>.",
        "Likely cause: steps.",
        "Try: others.",
    ]
    assert page.inner_text("#warnings code") == "kl"


def test_videos_are_in_the_order_of_their_steps_and_the_chosen_one_stays(page: Page) -> None:
    names = page.locator("#video option").all_inner_texts()
    assert names == ["n, after 10,000 steps", "n, after 20,000 steps", "n, at the end"]
    choice, on = page.locator("#video select"), page.get_by_label("next video")
    assert (choice.input_value(), on.is_disabled()) == ("2", True)
    page.get_by_label("video before").click()
    page.evaluate("document.getElementById('video').dataset.of = ''; fill()")  # as news do
    assert (choice.input_value(), on.is_disabled()) == ("1", False)
    on.click()
    assert choice.input_value() == "2"


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1200, "height": 900})


def path_of(study: Page, trial: int) -> list[list[float]]:
    """Return the points of a trial's line: share of the width, and of the height from the top."""
    d = study.get_attribute(f"[data-trial='{trial}']", "d") or ""
    return [[float(x) for x in point.split(",")] for point in d.removeprefix("M").split("L")]


def test_each_trial_is_a_line_over_the_axes_of_its_settings(study: Page) -> None:
    # n_step 4 of 1 to 8, the middle of a logarithmic range and of choices, the highest score.
    (_, n_step), (_, learning_rate), (_, widths), (across, score) = path_of(study, 3)
    assert n_step == pytest.approx(100 * (1 - 3 / 7))
    assert (learning_rate, widths, across, score) == pytest.approx((50, 50, 100, 0))
    assert path_of(study, 0)[3] == [100, 100]  # the lowest score
    assert len(path_of(study, 6)) == 3  # it was pruned, and has no score
    assert study.locator("[data-trial='7']").count() == 0  # it failed


def test_the_colour_of_a_line_is_its_score_s_and_the_theme_s(study: Page) -> None:
    def colour(trial: int) -> str:
        return study.evaluate(
            f"getComputedStyle(document.querySelector('[data-trial=\"{trial}\"]')).stroke"
        )

    light = colour(3)
    assert len({colour(trial) for trial in range(6)}) == 6
    study.click("#theme")
    assert colour(3) != light
    study.click("#theme")


def test_the_history_has_each_score_and_the_best_so_far(study: Page) -> None:
    study.wait_for_function("[...posteriori.histories.values()][0].chart")
    drawn = study.evaluate("[...posteriori.histories.values()][0].chart.data")
    assert drawn == [list(range(6)), [10, 60, 90, 100, 90, 60], [10, 60, 90, 100, 100, 100]]


def test_importances_command_and_failures_are_there(study: Page) -> None:
    assert study.inner_text(".importance").split() == (
        ["n_step", "75%", "policy_learning_rate", "25%", "widths", "0%"]
    )
    assert "--n-step 4" in study.inner_text(".study .command code")
    assert study.locator(".trials tbody tr").first.inner_text().split()[:2] == ["3", "100.0"]
    study.click("summary:has-text('1 failed')")
    assert "<b>seed1</b>: lost" in study.inner_text(".study")
    assert not study.is_visible("#cards")  # there are no runs
    ends = study.locator(".axis").last.locator("span").all_inner_texts()
    assert ends == ["10.0", "100.0"]  # of the scores


def test_the_pointer_on_a_line_is_told_its_trial(study: Page) -> None:
    study.dispatch_event(".hit >> nth=-1", "pointermove")
    assert "trial 3, the best" in study.inner_text("#tip")
    assert "64 × 64" in study.inner_text("#tip")
    assert study.locator("[data-trial='3'].on").count() == 1
    study.dispatch_event(".hit >> nth=-1", "pointerleave")
    assert study.locator(".on").count() == 0


def test_pruned_trials_can_be_left_out(study: Page) -> None:
    assert study.is_visible("[data-trial='6']")
    study.click("label:has-text('1 pruned')")
    assert not study.is_visible("[data-trial='6']")
    study.click("label:has-text('1 pruned')")


def test_a_study_fits_a_phone(study: Page) -> None:
    study.set_viewport_size({"width": 390, "height": 844})
    assert study.evaluate("document.documentElement.scrollWidth") <= 390
    study.set_viewport_size({"width": 1200, "height": 900})
