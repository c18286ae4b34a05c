"""Settings: what is refused, and that `config.json` gives back what was written."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest

from posteriori import PRESETS, Config, Mpo
from posteriori.runs.config import check, with_settings
from posteriori.runs.folder import RunFolder

NUMBERS = [
    (field.name, value)
    for owner in (Config(), Mpo())
    for field in dataclasses.fields(owner)
    if type(value := getattr(owner, field.name)) in (int, float)
]
MAY_BE_ZERO = {
    "seed",
    "env_restarts",
    "learning_starts",
    "noise_exponent",
    "clip_rewards",
    "evaluate_every",
    "video_every",
    "final_episodes",
    "discount",
    "settle_after",
    "pessimism",
    "critic_weight_decay",
}


def given(**settings: object) -> Config:
    """Return the defaults with settings replaced."""
    return with_settings(Config(), settings)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_passes_the_check(name: str) -> None:
    check(PRESETS[name])


@pytest.mark.parametrize(("name", "usual"), NUMBERS)
def test_a_negative_number_is_refused(name: str, usual: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .*, but it is -1.* default is {usual}"):
        check(given(**{name: type(usual)(-1)}))


@pytest.mark.parametrize("name", [name for name, _ in NUMBERS])
def test_zero_is_refused_unless_it_means_something(name: str) -> None:
    usual = dict(NUMBERS)[name]
    config = given(**{name: type(usual)(0)})
    if name in MAY_BE_ZERO:
        check(config)
    else:
        with pytest.raises(ValueError, match=f"{name} must be "):
            check(config)


@pytest.mark.parametrize("name", [name for name, usual in NUMBERS if type(usual) is float])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, but it is {value}"):
        check(given(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value", "kind", "given_as"),
    [
        ("steps", 1e5, "int", "float 100000.0"),
        ("seed", True, "int", "bool True"),
        ("seed", "1", "int", "str '1'"),
        ("scale_rewards", 1, "bool", "int 1"),
        ("epsilon", "0.1", "float", "str '0.1'"),
        ("widths", 64, "tuple", "int 64"),
        ("widths", [64], "tuple", "list [64]"),
        ("widths", (), "tuple", "tuple ()"),
        ("widths", (64, 0.5), "tuple", "tuple (64, 0.5)"),
        ("policy", None, "str", "NoneType None"),
    ],
)
def test_a_value_of_another_type_is_refused(
    name: str, value: object, kind: str, given_as: str
) -> None:
    config, mpo = Config(), Mpo()
    owner = mpo if hasattr(mpo, name) else config
    text = f"{name} must be {kind} like {getattr(owner, name)!r}, but it is {given_as}."
    # The types are checked in these tests, so that a constructor would refuse it first.
    object.__setattr__(owner, name, value)
    object.__setattr__(config, "mpo", mpo)
    with pytest.raises(TypeError, match=re.escape(text)):
        check(config)


def test_an_algorithm_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"mpo must be an Mpo, but it is 'fast'. Use Mpo\("):
        given(mpo="fast")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"widths": (64, 0)}, "widths must be from 1 to 9007199254740992, but it is (64, 0)."),
        ({"discount": 1.01}, "discount must be from 0 to 1, but it is 1.01."),
        ({"noise_exponent": 2.5}, "noise_exponent must be from 0 to 2, but it is 2.5."),
        ({"support_points": 1}, "support_points must be from 2 to 10001, but it is 1."),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, but it is 4294967296."),
        (
            {"replay_size": 40, "envs": 8, "n_step": 5},
            "replay_size must exceed n_step times envs, but it is 40 with n_step 5 and envs 8. "
            "Raise replay_size.",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        check(given(**settings))


def test_a_choice_that_is_none_is_refused() -> None:
    config = Config()
    object.__setattr__(config, "policy", "gaussian")
    text = "policy must be one of auto, diagonal, full, categorical, but it is 'gaussian'."
    with pytest.raises(ValueError, match=re.escape(text)):
        check(config)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "policy_leraning_rate",
            "'policy_leraning_rate' is none. Did you mean policy_learning_rate",
        ),
        ("width", "'width' is none. Did you mean widths?"),
        ("xyz", "'xyz' is none. See `posteriori train --help`."),
    ],
)
def test_an_unknown_setting_is_refused_with_what_comes_near(name: str, text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        given(**{name: 1})


def test_settings_reach_the_run_and_its_algorithm() -> None:
    config = with_settings(PRESETS["tutorial"], {"seed": 3, "epsilon": 0.2})
    assert (config.seed, config.mpo.epsilon) == (3, 0.2)
    assert config.mpo.epsilon_cov == PRESETS["tutorial"].mpo.epsilon_cov
    assert with_settings(Config(), {"mpo": Mpo(samples=3), "epsilon": 0.2}).mpo == Mpo(
        samples=3, epsilon=0.2
    )


def test_no_name_is_a_setting_of_both_the_run_and_the_algorithm() -> None:
    run, algorithm = ({f.name for f in dataclasses.fields(owner)} for owner in (Config, Mpo))
    assert not run & algorithm


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        Config(widths=(64, 32, 16), policy="full", mpo=Mpo(epsilon_cov=1e-7, samples=30)),
    ],
)
def test_config_json_gives_back_the_settings(config: Config, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", env="Pendulum-v1", seed=config.seed)
    folder.write_config("Pendulum-v1", config)
    assert folder.read_config() == ("Pendulum-v1", config)
