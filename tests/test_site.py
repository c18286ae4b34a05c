"""The documentation's site: its checks, its notebook, and that it needs no other server."""

import json
import os
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import jax
import matplotlib
import pytest
from playwright.sync_api import sync_playwright

import posteriori
from posteriori import train

DOCS = Path(__file__).parents[1] / "docs"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120_000  # milliseconds: the machine may be busy
NOTEBOOK = json.loads((DOCS / "learn" / "notebook.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
JAPANESE = sorted((DOCS / "ja").rglob("*.md"))
bigrams = runpy.run_path(str(DOCS / "_extensions" / "bigrams.py"))
problems = runpy.run_path(str(DOCS / "check_site.py"))["problems"]


def write(site: Path, **pages: str) -> Path:
    """Write pages by name."""
    for name, text in pages.items():
        (site / f"{name}.html").write_text(text)
    return site


def test_a_sound_site_has_no_problems(tmp_path: Path) -> None:
    site = write(
        tmp_path,
        one='<h1 id="top">1</h1><a href="two.html#end">2</a><a href="#top">up</a>',
        two='<p id="end"></p><a href="https://arxiv.org/abs/1806.06920">elsewhere</a>',
    )
    assert problems(site) == []


def test_a_dead_link_is_a_problem(tmp_path: Path) -> None:
    site = write(tmp_path, one='<a href="two.html">2</a><img src="three.svg">')
    assert problems(site) == [
        "one.html links to two.html: there is no such file",
        "one.html links to three.svg: there is no such file",
    ]


def test_a_dead_anchor_is_a_problem(tmp_path: Path) -> None:
    site = write(tmp_path, one='<a href="two.html#end">2</a>', two="<p></p>")
    assert problems(site) == ["one.html links to two.html#end: the page has no such anchor"]


@pytest.mark.parametrize(
    "tag", ['<script src="{}"></script>', '<link rel="stylesheet" href="{}">', '<img src="{}">']
)
def test_what_comes_from_another_server_is_a_problem(tag: str, tmp_path: Path) -> None:
    address = "https://cdn.example.org/katex.js"
    site = write(tmp_path, one=tag.format(address))
    assert problems(site) == [f"one.html fetches {address}, which is not of this site"]


def test_japanese_is_searched_by_pairs_of_characters() -> None:
    words = bigrams["split"]("MPOの信頼領域は、KL/εとsigma_0。")
    assert words == ["MPO", "の信", "信頼", "頼領", "領域", "域は", "KL", "ε", "と", "sigma_0"]
    # What is asked for is found, wherever it stands in a run of characters.
    assert set(bigrams["split"]("信頼領域")) <= set(words)


@pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium (Debian, Ubuntu: apt install chromium)"
)
def test_the_page_splits_a_query_as_the_index_is_split() -> None:
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    texts = [page.read_text() for page in JAPANESE]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=sandbox, timeout=PATIENCE
        )
        page = browser.new_page()
        page.add_script_tag(content=bigrams["JAVASCRIPT"])
        split = page.evaluate("(texts) => texts.map(splitQuery)", texts)
        browser.close()
    assert split == [bigrams["split"](text) for text in texts]


def test_the_fonts_of_the_formulas_are_in_the_repository() -> None:
    katex = DOCS / "_static" / "katex"
    style = (katex / "katex.min.css").read_text()
    fonts = set(re.findall(r"url\(([^)]+)\)", style))
    assert fonts == {f"fonts/{path.name}" for path in (katex / "fonts").iterdir()}
    assert fonts


def test_figures_of_the_derivation_come_for_light_and_dark_pages() -> None:
    text = (DOCS / "learn" / "derivation.md").read_text()
    names = re.findall(r"\]\(\.\./figures/(\w+)\.svg\)", text)
    assert len(names) == 4
    for name in names:
        assert (DOCS / "figures" / f"{name}-dark.svg").exists()


def test_the_notebook_holds_the_outputs_of_one_whole_run() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With fewer steps. `make notebook` runs it whole."""
    few: dict[str, Any] = {"steps": 400, "learning_starts": 300, "steps_per_update": 20, "envs": 1}

    def short(env: str, **settings: Any) -> posteriori.Run:
        return train(env, run_dir=tmp_path / "run", **{**settings, **few, "final_episodes": 2})

    matplotlib.use("Agg")
    monkeypatch.setattr(posteriori, "train", short)
    names: dict[str, Any] = {}
    with jax.numpy_rank_promotion("allow"):  # as it is outside of these tests
        for cell in CELLS:
            exec("".join(cell["source"]), names)
    # At the temperature that was found, the mean KL is the bound.
    assert float(names["kl"].mean()) == pytest.approx(names["epsilon"], rel=1e-3)
