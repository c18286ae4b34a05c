"""What the README and the docs say is so."""

import ast
import dataclasses
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posteriori import Config, Mpo, cli, train
from posteriori.runs.sinks import read_rows

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MPO = (ROOT / "docs" / "mpo.md").read_text()
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

SETTINGS = [f for owner in (Mpo, Config) for f in dataclasses.fields(owner) if f.name != "mpo"]
# Enough for two episodes of Pendulum-v1, an evaluation and a few updates.
SHORT: dict[str, Any] = {
    "steps": 400,
    "learning_starts": 300,
    "steps_per_update": 20,
    "envs": 1,
    "evaluate_every": 400,
}


def table(text: str, section: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    body = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line for line in body.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def codes(cell: str) -> list[str]:
    """Return what a cell has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Run the README's Python with fewer steps; return the run's folder and what it defined."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert "steps=20_000" in block
    short = ", ".join(f"{name}={value}" for name, value in SHORT.items())
    block = block.replace("steps=20_000", short)
    folder = tmp_path_factory.mktemp("readme")
    script = folder / "readme.py"
    script.write_text(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names = runpy.run_path(str(script))
        return names["run"].run_dir.resolve(), names


def test_the_python_of_the_readme_runs(written: tuple[Path, dict]) -> None:
    _, names = written
    assert names["run"].final.episodes == 100
    assert -16.3 <= float(names["reward"]) <= 0.0  # the bounds that Gymnasium documents
    assert np.array_equal(names["policy"](np.zeros(3)), names["run"].policy(np.zeros(3)))


def test_a_run_leaves_what_the_readme_lists(written: tuple[Path, dict]) -> None:
    folder, _ = written
    listed = {name for cells in table(README, "A run's folder") for name in codes(cells[0])}
    found = {path.name + "/" * path.is_dir() for path in folder.iterdir()}
    assert listed == found


def test_the_readme_lists_every_command() -> None:
    listed = [codes(cells[0])[0].split()[1] for cells in table(README, "Command line")]
    assert listed == list(cli._commands(["--help"]))


def test_the_readme_names_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"train", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(doc: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", doc.read_text())
    for path, anchor in links:
        target = (doc.parent / path) if path else doc
        assert target.exists(), path
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in [head.lower().replace(" ", "-") for head in heads]


def test_the_docs_give_every_setting_its_default() -> None:
    rows = {codes(cells[0])[0]: codes(cells[1])[0] for cells in table(MPO, "Settings")}
    documented = {name: ast.literal_eval(default) for name, default in rows.items()}
    assert documented == {field.name: field.default for field in SETTINGS}


def test_the_docs_give_every_metric_and_no_other(
    written: tuple[Path, dict], tmp_path: Path
) -> None:
    """Those of a Gaussian policy, from the README's run, and those of a categorical one."""
    rows = read_rows(written[0] / "metrics.jsonl")
    train("CartPole-v1", run_dir=tmp_path / "run", pictures=False, final_episodes=0, **SHORT)
    rows += read_rows(tmp_path / "run" / "metrics.jsonl")
    emitted = {name for row in rows for name in row} - {"step"}
    documented = {name for cells in table(MPO, "Metrics") for name in codes(cells[0])}
    assert {re.sub(r"/\d+$", "/i", name) for name in emitted} == documented
