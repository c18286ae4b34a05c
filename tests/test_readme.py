"""What the README and the docs say is so."""

import contextlib
import dataclasses
import io
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

import posteriori
from posteriori import Config, Mpo, Run, Tuned, cli, train
from posteriori.runs.sinks import read_rows

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TRANSLATED = [page.relative_to(DOCS / "ja") for page in sorted((DOCS / "ja").rglob("*.md"))]
DERIVATIONS = [DOCS / "learn" / "derivation.md", DOCS / "ja" / "learn" / "derivation.md"]

SETTINGS = {f.name for owner in (Mpo, Config) for f in dataclasses.fields(owner)} - {"mpo"}
# Enough for two episodes of Pendulum-v1, an evaluation and a few updates.
SHORT: dict[str, Any] = {
    "steps": 400,
    "learning_starts": 300,
    "steps_per_update": 20,
    "envs": 1,
    "evaluate_every": 400,
}


def python(page: Path) -> list[str]:
    """Return the page's blocks of Python."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


def table(text: str, section: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    body = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line for line in body.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def codes(cell: str) -> list[str]:
    """Return what a cell has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def numbers(text: str) -> set[str]:
    """Return the numbers in a text."""
    return set(re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", text))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A `train` that trains less, and once for each environment."""
    runs: dict[str, Run] = {}

    def shortened(env: str, **settings: Any) -> Run:
        for sink in settings.pop("sinks", []):
            sink(1000, {"evaluation/mean": np.float32(1.5)})
        assert set(settings) <= SETTINGS | {"config"}
        if env not in runs:
            folder = tmp_path_factory.mktemp("runs") / env
            runs[env] = train(env, run_dir=folder, **SHORT)
        return runs[env]

    return shortened


def tuned(env: str, **settings: object) -> Tuned:
    """A study of one trial, in no time."""
    assert set(settings) <= {"steps", "trials"}
    trial = {"number": 0, "state": "complete", "values": {"epsilon": 0.2}, "score": -150.0}
    return Tuned(Path(), env, 400, 2, 40, {"epsilon": {"low": 0.1, "high": 0.3}}, None, [trial])


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if python(page)],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_the_python_of_a_page_runs(
    page: Path, short: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block after the other, in one namespace."""
    monkeypatch.setattr(posteriori, "train", short)
    monkeypatch.setattr(posteriori, "tune", tuned)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow := MagicMock())  # not among our dependencies
    names: dict[str, Any] = {}
    for block in python(page):
        exec(compile(block, str(page), "exec"), names)
    if page.name == "trackers.md":
        mlflow.log_metrics.assert_called_with({"evaluation/mean": 1.5}, step=1000)
        ((parameters,), _) = mlflow.log_params.call_args
        assert parameters["epsilon"] == 0.1
    if page.name == "README.md":
        assert names["run"].final.episodes == 100
        assert -16.3 <= float(names["reward"]) <= 0.0  # the bounds that Gymnasium documents
        assert np.array_equal(names["policy"](np.zeros(3)), names["run"].policy(np.zeros(3)))


def test_a_run_leaves_what_the_readme_lists(short: Callable[..., Run]) -> None:
    folder = short("Pendulum-v1").run_dir
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


def anchor(heading: str) -> str:
    """Return the anchor that GitHub, and the site, give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|inv:|#posteriori)([^)#]*)(?:#([^)]+))?\)", page.read_text())
    for path, fragment in links:
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if fragment:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert fragment in [anchor(head) for head in heads]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_code_that_a_page_links_to_exists(page: Path) -> None:
    """Such as `posteriori.models.values.CategoricalValue.mix`: a module, then attributes of it."""
    for name in re.findall(r"\]\(#(posteriori\.[\w.]+)\)", page.read_text()):
        resolve_name(name)


def test_the_derivations_lead_to_the_code() -> None:
    """Of E-step, M-step, update and multipliers at least, and the same in both languages."""
    english, japanese = (
        set(re.findall(r"\(#posteriori\.([\w.]+)\)", page.read_text())) for page in DERIVATIONS
    )
    algorithm = {
        "em.e_step",
        "em.temperature",
        "em.m_step",
        "mpo.Mpo.update",
        "multipliers.tighten",
    }
    assert {f"algorithms.{name}" for name in algorithm} <= english
    assert english == japanese


def test_the_derivations_have_the_same_formulas() -> None:
    """In both languages, but for words in them and the full stops after them."""
    english, japanese = (
        [
            re.sub(r"\\text\{[^}]*\}|[\s.,]", "", formula)
            for formula in re.findall(r"\$\$(.*?)\$\$", page.read_text(), re.S)
        ]
        for page in DERIVATIONS
    )
    assert english == japanese
    assert sum("tag" in formula for formula in english) == 11


@pytest.mark.parametrize("page", TRANSLATED, ids=str)
def test_a_translation_has_what_the_page_has(page: Path) -> None:
    """The same headings, pictures, and names of settings, metrics and commands."""
    english, japanese = (
        re.sub(r"```.*?```", "", (folder / page).read_text(), flags=re.S)
        for folder in (DOCS, DOCS / "ja")
    )
    heads, codes, pictures = r"^(#+) ", r"`([^`\n]+)`", r"!\[[^\]]*\]\([./]*([^)]*)\)"
    assert re.findall(heads, english, re.M) == re.findall(heads, japanese, re.M)
    for names in (codes, pictures):
        assert set(re.findall(names, english)) == set(re.findall(names, japanese))


def test_every_metric_is_explained_in_japanese() -> None:
    """In the same order, with the formulas, names and numbers that the English has."""
    english, japanese = (
        [
            (codes(cells[0]), " ".join(cells))
            for section in re.findall(r"^## (.*)$", page, re.M)
            for cells in table(page, section)
        ]
        for page in ((folder / "metrics.md").read_text() for folder in (DOCS, DOCS / "ja"))
    )
    for (names, row), (translated_names, translated) in zip(english, japanese, strict=True):
        assert names == translated_names
        formula = r"\$[^$]+\$"
        assert sorted(re.findall(formula, row)) == sorted(re.findall(formula, translated)), names
        assert set(codes(row)) == set(codes(translated)), names
        assert numbers(row) <= numbers(translated), names


def test_every_health_warning_is_explained_in_japanese() -> None:
    """In the same order, with the numbers of the English and the settings of its cure."""
    english, japanese = (
        dict(part.split("\n", 1) for part in (folder / "health.md").read_text().split("\n## ")[1:])
        for folder in (DOCS, DOCS / "ja")
    )
    assert list(english) == list(japanese)
    for name, rule in english.items():
        translated = japanese[name]
        assert set(codes(rule)) == set(codes(translated)), name
        assert numbers(rule) <= numbers(translated), name
        cure = set(re.findall(r"[a-z_]+", rule.split("* Try: ")[1])) & SETTINGS
        assert cure <= set(re.findall(r"[a-z_]+", translated.splitlines()[-1])), name


def test_the_settings_page_has_every_setting_once() -> None:
    groups = tomllib.loads((DOCS / "settings.toml").read_text())
    assert sorted(name for group in groups.values() for name in group) == sorted(SETTINGS)
    page = (DOCS / "settings.md").read_text()
    assert sorted(re.findall(r"```\{settings\} (\w+)", page)) == sorted(groups)
    for group in groups.values():
        for note in group.values():
            assert note.keys() == {"unit", "change", "source"}
            assert note["change"]
            assert note["source"]


def test_every_setting_is_explained_in_japanese() -> None:
    """In the same order, a unit where there is one, and with the names that the English has."""
    english, japanese = (
        tomllib.loads((folder / "settings.toml").read_text()) for folder in (DOCS, DOCS / "ja")
    )
    order = [
        [(group, name) for group in notes for name in notes[group]] for notes in (english, japanese)
    ]
    assert order[0] == order[1]
    for group, name in order[0]:
        note, translated = english[group][name], japanese[group][name]
        assert translated.keys() == {"meaning", *note}
        assert bool(note["unit"]) == bool(translated["unit"])
        assert all(translated[key] for key in ("meaning", "change", "source"))
        assert set(codes(note["change"])) == set(codes(translated["change"])), name


def test_the_docs_give_every_metric_and_no_other(short: Callable[..., Run]) -> None:
    """Those of a Gaussian policy, and those of a categorical one."""
    rows = [
        row
        for env in ("Pendulum-v1", "CartPole-v1")
        for row in read_rows(short(env).run_dir / "metrics.jsonl")
    ]
    emitted = {name for row in rows for name in row} - {"step"}
    page = (DOCS / "metrics.md").read_text()
    sections = re.findall(r"^## (.*)$", page, re.M)
    documented = [name for s in sections for cells in table(page, s) for name in codes(cells[0])]
    assert {re.sub(r"/\d+$", "/i", name) for name in emitted} == set(documented)
    assert len(documented) == len(set(documented))


def test_the_commands_and_options_that_the_docs_name_exist() -> None:
    """In code, such as `posteriori evaluate RUN --best`."""
    commands = cli._commands(["--help"])
    named = {
        (command, option)
        for page in PAGES
        for line in re.findall(r"(?:^|`)posteriori ([a-z]+[^`\n]*)", page.read_text(), re.M)
        for command in [line.split()[0]]
        for option in ["", *re.findall(r"(?<=--)[a-z][a-z-]+", line.split("#")[0])]
    }
    shown: dict[str, str] = {}
    for command in {command for command, option in named if option}:
        shown[command] = _help(command)
    assert {command for command, _ in named} <= set(commands)
    for command, option in named:
        assert not option or f"--{option}" in shown[command], (command, option)


def _help(command: str) -> str:
    """Return what `posteriori COMMAND --help` prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return out.getvalue()
