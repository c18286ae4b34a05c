"""Search spaces: the package's own, and what a file of one's own may and may not say."""

from pathlib import Path
from typing import Any

import pytest

from posteriori.runs.config import Config
from posteriori.runs.tuning.space import SpaceError, defaults_of, read_space, settled


def space(folder: Path, text: str) -> dict[str, dict[str, Any]]:
    path = folder / "space.toml"
    path.write_text(text)
    return read_space(path)


def test_the_defaults_lie_in_the_own_space() -> None:
    own = read_space()
    defaults = defaults_of(own)
    assert defaults
    assert settled(defaults) == Config()
    assert {"epsilon", "epsilon_mean", "epsilon_cov", "n_step", "discount"} <= set(own)


def test_ranges_and_choices_are_read(tmp_path: Path) -> None:
    text = "[epsilon]\nlow = 1\nhigh = 2\n[widths]\nchoices = [[32], [64, 64]]\n"
    read = space(tmp_path, text + "[n_step]\nlow = 1\nhigh = 8\nlog = true\n")
    assert read == {
        "epsilon": {"low": 1.0, "high": 2.0, "log": False},
        "widths": {"choices": [[32], [64, 64]]},
        "n_step": {"low": 1, "high": 8, "log": True},
    }
    assert type(read["epsilon"]["low"]) is float
    assert defaults_of(read) is None  # 0.1 is no epsilon of this space
    assert settled({"widths": [64, 64]}).widths == (64, 64)


def test_one_choice_holds_a_setting_at_it(tmp_path: Path) -> None:
    read = space(tmp_path, "[envs]\nchoices = [4]\n[epsilon]\nlow = 0.01\nhigh = 1\n")
    assert defaults_of(read) == {"envs": 4, "epsilon": Config().mpo.epsilon}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"must have a table for each setting to search, but it has none"),
        ("[epsilon", r"must be TOML, but reading it failed"),
        ("[epsiln]\nlow = 1\nhigh = 2", r"\[epsiln\]: .*'epsiln' is none\. Did you mean epsilon"),
        ("[steps]\nlow = 1\nhigh = 2", r"\[steps\]: must be a setting that learning depends on"),
        ("[epsilon]\nlow = 1", r"\[epsilon\]: must have low and high .*Write `low = 0.1`"),
        ("epsilon = 3", r"\[epsilon\]: must have low and high"),
        ("[epsilon]\nlow = 2\nhigh = 2", r"low must be below high, but they are 2 and 2"),
        ("[epsilon]\nlow = 0.0\nhigh = 2.0\nlog = true", r"low must be above 0 where log is true"),
        ("[n_step]\nlow = 1.5\nhigh = 2", r"low and high must be int like 3"),
        ("[discount]\nlow = 0.9\nhigh = 1.5", r"\[discount\]: discount must be from 0 to 1"),
        ("[critic]\nlow = 1\nhigh = 2", r"\[critic\]: must have choices, since its default is"),
        ("[critic]\nchoices = []", r"choices must be a list of different values"),
        ("[critic]\nchoices = ['scalar', 'scalar']", r"must be a list of different values"),
        ("[critics]\nchoices = [0, 2]", r"\[critics\]: critics must be from 1 to"),
    ],
)
def test_a_space_that_cannot_be_is_an_error_that_says_where(
    text: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(SpaceError, match=rf"space\.toml.*{told}"):
        space(tmp_path, text)


def test_a_space_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--space must be a TOML file"):
        read_space(tmp_path / "nowhere.toml")
