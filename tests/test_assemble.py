"""Assembling: each policy and critic for the spaces that it fits, and errors for the others."""

import json
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from posteriori import Config, Mpo
from posteriori.models.distributions import Categorical, DiagonalGaussian, FullGaussian
from posteriori.models.values import CategoricalValue, ScalarValue
from posteriori.runs.assemble import assemble, describe, spaces

OBS = gym.spaces.Box(-np.inf, np.inf, (3,))
BOX = gym.spaces.Box(np.array([-0.3, -5], np.float32), np.array([2, 1], np.float32))
DISCRETE = gym.spaces.Discrete(4)


class Sum(eqx.Module):
    """A torso that gives the sum of its inputs, `width` times over."""

    width: int = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, " I"]) -> Float[Array, " F"]:
        """Return the sums."""
        return jnp.full(self.width, jnp.sum(x))


def built(action_space: gym.Space, torso: Any = None, **settings: Any) -> Any:
    """Return the agent of some settings."""
    config = Config(**({"widths": (8,), "mpo": Mpo(samples=2)} | settings))
    return assemble(config, OBS, action_space, "Test-v0", torso)


@pytest.mark.parametrize(
    ("policy", "space", "kind"),
    [
        ("auto", BOX, DiagonalGaussian),
        ("diagonal", BOX, DiagonalGaussian),
        ("full", BOX, FullGaussian),
        ("auto", DISCRETE, Categorical),
        ("categorical", DISCRETE, Categorical),
    ],
)
def test_a_policy_is_of_the_kind_asked_for(policy: str, space: gym.Space, kind: type) -> None:
    agent = built(space, policy=policy)
    answer = agent.state.online.policy(jnp.zeros((5, 3)))
    assert isinstance(answer, kind)
    assert answer.mode().shape == (5, agent.actions.size)


@pytest.mark.parametrize(
    ("critic", "kind"), [("scalar", ScalarValue), ("categorical", CategoricalValue)]
)
def test_a_critic_is_of_the_kind_asked_for(critic: str, kind: type) -> None:
    agent = built(BOX, critic=critic, support_points=7, support_limit=3.0)
    value, _ = agent.state.online.critic(jnp.zeros((5, 3)), jnp.zeros((5, 2))).members
    assert isinstance(value, kind)
    if isinstance(value, CategoricalValue):
        np.testing.assert_allclose(value.support, np.arange(-3, 4), atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "space", "text"),
    [
        (
            "diagonal",
            DISCRETE,
            "--policy diagonal needs a continuous action space, but Test-v0 has a Discrete of 4. "
            "Use --policy categorical.",
        ),
        ("full", DISCRETE, "--policy full needs a continuous action space, but Test-v0 has a D"),
        (
            "categorical",
            BOX,
            "--policy categorical needs a discrete action space, but Test-v0 has a Box of 2. "
            "Use --policy diagonal.",
        ),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(policy: str, space: gym.Space, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        built(space, policy=policy)


def test_the_standard_deviation_starts_where_it_is_told_to() -> None:
    policy = built(BOX, initial_std=0.2).state.online.policy
    np.testing.assert_allclose(policy(jnp.ones(3)).std, [0.2, 0.2], rtol=0.02)


def test_widths_are_those_of_the_settings() -> None:
    for critic in built(BOX, widths=(5, 7)).state.online.critic.members:
        assert [layer.weight.shape for layer in critic.torso.layers] == [(5, 3 + 2), (7, 5)]


@pytest.mark.parametrize("number", [1, 3])
def test_there_are_as_many_critics_as_asked_for_and_no_two_alike(number: int) -> None:
    ensemble = built(BOX, critics=number, pessimism=0.25).state.online.critic
    assert ensemble.pessimism == 0.25
    values = [float(critic(jnp.ones(3), jnp.ones(2)).mean()) for critic in ensemble.members]
    assert len(set(values)) == number


def test_the_seed_decides_the_networks() -> None:
    one, again, other = (
        jax.tree.leaves(eqx.filter(built(BOX, seed=seed).state.online, eqx.is_array))
        for seed in (0, 0, 1)
    )
    assert all((x == y).all() for x, y in zip(one, again, strict=True))
    assert any((x != y).any() for x, y in zip(one, other, strict=True))


def test_a_torso_of_ones_own_serves_policy_and_critic() -> None:
    sizes: list[int] = []

    def make(size: int, key: Array) -> Sum:  # noqa: ARG001 - it has nothing to draw
        sizes.append(size)
        return Sum(6, 6)

    agent = built(BOX, torso=make)
    assert sizes == [3, 3 + 2, 3 + 2]
    assert agent.state.online.policy.head.mean.in_features == 6
    # It sees the sum alone.
    policy = agent.state.online.policy
    np.testing.assert_array_equal(
        policy(jnp.array([1.0, 2.0, 3.0])).mode(), policy(jnp.array([6.0, 0.0, 0.0])).mode()
    )


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda size, key: Sum(6, 5), ValueError, r"\[size\], here \[5\], .* shape \[6\]"),  # noqa: ARG005
        (lambda size, key: jnp.tanh, TypeError, "an attribute size, an int, but it made a "),  # noqa: ARG005
    ],
)
def test_a_torso_without_its_size_is_refused(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        built(BOX, torso=make)


@pytest.mark.parametrize("space", [BOX, DISCRETE, gym.spaces.Discrete(3, start=2)])
def test_spaces_come_back_from_their_description(space: gym.Space) -> None:
    plain = json.loads(json.dumps(describe(OBS, space)))
    assert spaces(plain) == (OBS, space)
