"""The architecture: imports point downwards, optional dependencies stay in one file each."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import posteriori

PACKAGE = Path(posteriori.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Lowest first: a layer imports itself and what stands before it.
LAYERS = ("models", "algorithms", "experience", "runs", "cli_view", "cli_tune", "cli")
OPTIONAL = ("envpool", "imageio_ffmpeg", "matplotlib", "optuna", "tensorboardX", "wandb")
# A module with such a name has no subject.
VAGUE = {"base", "common", "helpers", "misc", "tools", "types", "utils"}
LONGEST_FILE = 300
LONGEST_BODY = 30


def name_of(file: Path) -> str:
    """Return the path below the package, to name the case: `runs/run.py`."""
    return file.relative_to(PACKAGE).as_posix()


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)


def imported(source: str) -> Iterator[str]:
    """Yield the full name of each module or member that a source imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def upward(layer: str, source: str) -> list[str]:
    """Return the imports of this package that a file of a layer may not have."""
    below = LAYERS[: LAYERS.index(layer) + 1]
    own = [name for name in imported(source) if name.partition(".")[0] in ("posteriori", "")]
    return [name for name in own if name.split(".")[1] not in below]


@pytest.mark.parametrize(
    ("layer", "source", "refused"),
    [
        ("models", "from posteriori.models import values", []),
        ("algorithms", "from posteriori.models.values import Value", []),
        ("models", "import posteriori.algorithms.em", ["posteriori.algorithms.em"]),
        ("experience", "def f():\n    from posteriori.runs import run", ["posteriori.runs.run"]),
        ("runs", "from posteriori import Mpo", ["posteriori.Mpo"]),
        ("runs", "from . import run", ["..run"]),
    ],
)
def test_upward_imports_are_found(layer: str, source: str, refused: list[str]) -> None:
    assert upward(layer, source) == refused


@every_file
def test_imports_point_downwards(file: Path) -> None:
    layer = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if layer == "__init__":
        assert list(imported(file.read_text())) == ["lazy_loader.attach_stub"]
    else:
        assert upward(layer, file.read_text()) == []


def test_every_layer_is_there() -> None:
    assert {path.stem for path in PACKAGE.iterdir()} >= set(LAYERS)


def test_the_run_loop_imports_no_algorithm() -> None:
    names = list(imported((PACKAGE / "runs" / "run.py").read_text()))
    assert [name for name in names if name.startswith("posteriori.algorithms")] == []


@pytest.mark.parametrize("dependency", OPTIONAL)
def test_an_optional_dependency_is_imported_in_one_file(dependency: str) -> None:
    users = [
        name_of(file)
        for file in FILES
        if any(name.split(".")[0] == dependency for name in imported(file.read_text()))
    ]
    assert len(users) <= 1


@every_file
def test_a_file_is_short_and_named_for_its_subject(file: Path) -> None:
    assert file.stem not in VAGUE
    lines = len(file.read_text().splitlines())
    assert lines <= LONGEST_FILE


@every_file
def test_function_bodies_are_short(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :] or node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
            assert lines <= LONGEST_BODY, f"{name_of(file)}: {node.name} has {lines} lines"


@pytest.mark.parametrize("name", dir(posteriori))
def test_a_public_name_says_what_it_is_for(name: str) -> None:
    member = getattr(posteriori, name)
    if inspect.isclass(member) or inspect.isroutine(member):
        text = vars(member).get("__doc__") if inspect.isclass(member) else member.__doc__
        # A dataclass without a docstring is given its own signature for one.
        assert text and not text.startswith(f"{name}(")
