"""Train three short runs of a pendulum, and photograph what shows them for `howto/report.md`.

python docs/make_screenshots.py      into docs/figures/; needs Chromium; the runs stay in build/
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from rich.console import Console

from posteriori.runs.listing import summarise
from posteriori.runs.report.page import report
from posteriori.runs.report.server import Watched, serve
from posteriori.runs.sinks import read_rows
from posteriori.runs.terminal import LiveView

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "build" / "screenshots"
STEPS = 12_000
# Small networks and batches: two minutes each on an idle core.
QUICK = (
    f"--steps {STEPS} --steps-per-update 2 --learning-starts 1000 --widths 64 64 --critics 1 "
    "--batch-size 64 --evaluate-every 1000 --evaluate-episodes 5 --final-episodes 50"
).split()
LIVE = {"seed0": ["--seed", "0"], "seed1": ["--seed", "1"]}
FAULTY = {"faulty": ["--no-scale-rewards"]}  # returns far outside of the critic's support
PATIENCE = 300_000  # milliseconds: the machine may be busy
# Sections of the report, by what is in them.
SECTIONS = {
    "final": "strips",
    "constraints": "constraints",
    "exploration": "spread",
    "losses": "losses",
}
STYLE = "nav { position: static !important } section { padding: 8px }"


def main() -> None:
    """Make what runs are missing, then the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures")
    out = parser.parse_args().out
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=sandbox, timeout=PATIENCE
        )
        if not (RUNS / "seed0").exists():
            with training(LIVE):
                dashboard(browser, out)
        if not (RUNS / "faulty").exists():
            with training(FAULTY):
                pass
        terminal(browser, out)
        for scheme in ("light", "dark"):
            pages(browser, out, scheme)
        browser.close()


@contextmanager
def training(runs: dict[str, list[str]]) -> Iterator[None]:
    """Train runs at the same time; wait for them at the end."""
    command = [Path(sys.executable).with_name("posteriori"), "train", "Pendulum-v1", *QUICK]
    processes = [
        subprocess.Popen([*command, *options, "--run-dir", RUNS / name, "--quiet"])
        for name, options in runs.items()
    ]
    yield
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit("Training must succeed, but it failed; see above.")


def dashboard(browser: Browser, out: Path) -> None:
    """Wait until the runs are half done, and take the live page."""
    while not all((RUNS / name / "metrics.jsonl").exists() for name in LIVE) or any(
        summarise(RUNS / name).step < STEPS / 2 for name in LIVE
    ):
        time.sleep(1)
    with serve(Watched(RUNS), port=0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page(viewport={"width": 1000, "height": 860}, device_scale_factor=1.5)
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        page.wait_for_function("window.posteriori?.plots.get('return')?.chart")
        save(page.screenshot(), out / "report-dashboard.png")
        page.close()
        server.shutdown()


def terminal(browser: Browser, out: Path) -> None:
    """Take the terminal's view of the first run, as it was in the middle."""
    run = RUNS / "seed0"
    console = Console(file=io.StringIO(), width=80, record=True)
    view = LiveView(STEPS, f"Pendulum-v1 in {run.relative_to(RUNS.parent)}", console)
    for row in read_rows(run / "metrics.jsonl"):
        if row["step"] <= 0.7 * STEPS:
            view.board.add(row["step"], row)
    console.print(view)
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.set_content(console.export_svg(title="posteriori train"))
    save(page.locator("svg").screenshot(omit_background=True), out / "report-terminal.png")
    page.close()


def pages(browser: Browser, out: Path, scheme: str) -> None:
    """Take the report: what is seen first, then sections of it."""
    suffix = "-dark" if scheme == "dark" else ""
    context = browser.new_context(
        color_scheme=scheme,  # pyright: ignore[reportArgumentType] - "light" or "dark"
        viewport={"width": 1000, "height": 920},
        device_scale_factor=1.5,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(report([RUNS / name for name in (*LIVE, *FAULTY)], RUNS / "report.html").as_uri())
    page.wait_for_function("posteriori.plots.get('return').chart")
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    save(page.screenshot(), out / f"report-top{suffix}.png")
    page.add_style_tag(content=STYLE)
    for name, part in SECTIONS.items():
        section = page.locator(f"section:has(#{part})")
        drawn(page, section)
        save(section.screenshot(), out / f"report-{name}{suffix}.png")
    context.close()


def drawn(page: Page, section: Locator) -> None:
    """Wait until the plots of a section are there: each is made when it comes into view."""
    for plot in section.locator("[data-plot]").all():
        plot.scroll_into_view_if_needed()
        key = plot.get_attribute("data-plot")
        page.wait_for_function(f"posteriori.plots.get('{key}').chart")


def save(png: bytes, path: Path) -> None:
    """Write a picture with a palette."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
