"""A search space: the settings that a study chooses, and the values that each may take."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from posteriori.runs.config import Config, check, with_settings
from posteriori.runs.history import INCIDENTAL, flat

# By setting, `{"low": 1, "high": 8, "log": False}` or `{"choices": [0.95, 0.99]}`.
Space = dict[str, dict[str, Any]]

FIXED = {*INCIDENTAL, "keep_checkpoints"}  # what the study sets, or what changes no score
DEFAULTS: dict[str, Any] = flat(asdict(Config()))


class SpaceError(ValueError):
    """A search space that cannot be searched."""


def read_space(path: Path | str | None = None) -> Space:
    """Read a search space.

    Args:
        path: A TOML file with a table for each setting; the package's own by default.

    Raises:
        FileNotFoundError: there is no such file.
        SpaceError: it is no TOML, names what is no setting, or gives values that cannot be.
    """
    if path is None:
        text = resources.files("posteriori.runs.tuning").joinpath("space.toml").read_text("utf-8")
        return checked(tomllib.loads(text), "space.toml")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"--space must be a TOML file with a table for each setting, but there is no {path}. "
            "The how-to page on tuning shows one."
        )
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise SpaceError(f"{path} must be TOML, but reading it failed: {error}.") from error
    return checked(tables, str(path))


def checked(tables: Mapping[str, Any], source: str) -> Space:
    """Return a space in full, or refuse it.

    Args:
        tables: As TOML gives them.
        source: Where they stand, for errors.

    Raises:
        SpaceError: with the table and what to do.
    """
    if not tables:
        raise SpaceError(
            f"{source} must have a table for each setting to search, but it has none. "
            "Write [epsilon] with low and high."
        )
    space = {}
    for name, table in tables.items():
        try:
            space[name] = _axis(name, table)
            for value in ends(space[name]):
                check(settled({name: value}))
        except (TypeError, ValueError) as error:
            raise SpaceError(f"{source}, [{name}]: {error}") from error
    return space


def ends(axis: Mapping[str, Any]) -> list[Any]:
    """Return the values of an axis that bound all others, or all of them."""
    return axis["choices"] if "choices" in axis else [axis["low"], axis["high"]]


def settled(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """Return a config with values of a space; lists, as JSON and TOML have them, become tuples."""
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return with_settings(base or Config(), tuples)


def defaults_of(space: Space) -> dict[str, Any] | None:
    """Return the defaults of the settings of a space; None if one of them lies outside of it.

    A setting that the space holds at one value has that one.
    """
    held = {name: axis["choices"][0] for name, axis in space.items() if len(ends(axis)) == 1}
    found = {name: held.get(name, DEFAULTS[name]) for name in space}
    found = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
    inside = all(
        found[name] in axis["choices"]
        if "choices" in axis
        else axis["low"] <= found[name] <= axis["high"]
        for name, axis in space.items()
    )
    return found if inside else None


def _axis(name: str, table: Any) -> dict[str, Any]:
    settled({name: DEFAULTS.get(name)})  # which names what is like an unknown one
    if name in FIXED:
        raise SpaceError("must be a setting that learning depends on, but this one is the study's.")
    keys = set(table) if isinstance(table, dict) else set()
    if keys == {"choices"}:
        return {"choices": _choices(table["choices"])}
    if not {"low", "high"} <= keys <= {"low", "high", "log"}:
        raise SpaceError(
            f"must have low and high (and log = true or false), or choices alone, but it is "
            f"{table!r}. Write `low = 0.1` and `high = 0.5`."
        )
    return _range(table["low"], table["high"], table.get("log", False), DEFAULTS[name])


def _choices(values: Any) -> list[Any]:
    if not isinstance(values, list) or not values or len(set(map(repr, values))) < len(values):
        raise SpaceError(
            f"choices must be a list of different values, but it is {values!r}. One alone holds "
            "the setting at it."
        )
    return values


def _range(low: Any, high: Any, log: Any, usual: Any) -> dict[str, Any]:
    kinds = {int: (int,), float: (int, float)}.get(type(usual))
    if kinds is None:
        raise SpaceError(f"must have choices, since its default is {usual!r}. Write `choices`.")
    if type(low) not in kinds or type(high) not in kinds or type(log) is not bool:
        raise SpaceError(
            f"low and high must be {type(usual).__name__} like {usual!r}, and log true or false, "
            f"but they are {low!r}, {high!r} and {log!r}."
        )
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpaceError(
            f"low must be below high, but they are {low} and {high}. Hold a setting at one "
            "value with choices = [value]."
        )
    if log and low <= 0:
        raise SpaceError(f"low must be above 0 where log is true, but it is {low}. Raise it.")
    return {"low": type(usual)(low), "high": type(usual)(high), "log": log}
