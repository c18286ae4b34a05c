"""One update of MPO, for every policy and critic: its losses, and what each of them may not see."""

import agents
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from agents import ACTIONS, OBS, Agent, agent
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from posteriori.algorithms.mpo import Mpo, State
from posteriori.algorithms.multipliers import LOG_ALPHA_LIMITS, MAX_EXCESS
from posteriori.algorithms.trajectory import Trajectory

every_kind = pytest.mark.parametrize(
    ("policy", "critic"), [(p, c) for p in agents.POLICIES for c in agents.CRITICS]
)
every_policy = pytest.mark.parametrize("policy", agents.POLICIES)


def same(one: PyTree, other: PyTree, atol: float = 0.0) -> bool:
    """Whether two trees hold the same numbers, if not told otherwise bit for bit."""
    pairs = zip(numbers(one), numbers(other), strict=True)
    return all(np.allclose(x, y, rtol=0, atol=atol) for x, y in pairs)


def gradients(before: State, batch: Trajectory, one: Agent) -> PyTree:
    """Return the gradients of a first update, as Adam keeps them: a tenth, in the first moment."""
    return moment(one.update(before, batch)[0])


def moment(state: State) -> PyTree:
    """Return Adam's first moment, which is one vector, in the networks' shape."""
    _, unravel = ravel_pytree(eqx.filter(state.online, eqx.is_inexact_array))
    return unravel(optax.tree.get(state.optimiser, "mu"))


def numbers(tree: PyTree) -> list[Array]:
    """Return the arrays of a tree, keys apart."""
    arrays = [x for x in jax.tree.leaves(tree) if eqx.is_array(x)]
    return [x for x in arrays if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]


def moved(tree: PyTree, by: float) -> PyTree:
    """Return a tree whose every number is another, the more so the larger `by`."""
    return jax.tree.map(lambda x: x + by * jnp.cos(jnp.arange(x.size)).reshape(x.shape), tree)


def apart(state: State, by: float = 0.3) -> State:
    """Return a state whose policy has left the target's, as it does after some updates."""
    policy = state.online.policy
    arrays, rest = eqx.partition(policy, eqx.is_inexact_array)
    return state._replace(online=state.online._replace(policy=eqx.combine(moved(arrays, by), rest)))


@every_kind
def test_an_update_changes_policy_and_critic_and_stays_finite(policy: str, critic: str) -> None:
    one = agent(policy, critic)
    state, metrics = one.state, {}
    for seed in range(3):
        state, metrics = one.update(state, agents.batch(policy, seed))
    assert metrics
    assert all(np.isfinite(x) for x in metrics.values())
    assert all(np.shape(x) == () for x in metrics.values())
    assert all(
        np.isfinite(x).all() for x in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))
    )
    assert not same(state.online.policy, one.state.online.policy)
    assert not same(state.online.critic, one.state.online.critic)
    assert int(state.updates) == 3


@every_kind
def test_a_second_update_compiles_nothing(policy: str, critic: str) -> None:
    # `agent` allows its update one trace; one more raises.
    one = agent(policy, critic)
    state, _ = one.update(one.state, agents.batch(policy, 0))
    state, _ = one.update(state, agents.batch(policy, 1))
    one.update(state, jax.tree.map(jnp.asarray, agents.batch(policy, 2)))


@every_kind
def test_nothing_beyond_the_end_of_an_episode_changes_anything(policy: str, critic: str) -> None:
    one, batch = agent(policy, critic), agents.batch(policy)
    over = np.cumsum(~batch.valid, axis=0)
    beyond = np.cumsum(over, axis=0) > 1  # rows after that of the last observation
    assert beyond.any()
    other = agents.batch(policy, 9)
    garbage = Trajectory(
        *(
            np.where(beyond.reshape(beyond.shape + (1,) * (x.ndim - 2)), 10 * y, x).astype(x.dtype)
            for x, y in zip(batch, other, strict=True)
        )
    )
    assert same(one.update(apart(one.state), batch), one.update(apart(one.state), garbage))


@every_kind
def test_a_terminal_observation_has_no_weight(policy: str, critic: str) -> None:
    one, batch = agent(policy, critic), agents.batch(policy)
    terminal = np.roll(batch.discount == 0, 1, axis=0)
    assert terminal[1:].any()
    other = np.where(terminal[..., None], 9.0, batch.obs).astype(np.float32)
    found = [gradients(apart(one.state), x, one) for x in (batch, batch._replace(obs=other))]
    assert same(found[0].policy, found[1].policy)
    # A distribution's mass is one but for rounding, wherever its points are moved.
    assert same(found[0].critic, found[1].critic, atol=1e-7)


@every_kind
def test_the_last_observation_of_a_truncated_episode_counts(policy: str, critic: str) -> None:
    one, batch = agent(policy, critic), agents.batch(policy)
    last = ~batch.valid & (np.cumsum(batch.discount == 0, axis=0) == 0)
    assert last.any()
    other = np.where(last[..., None], 9.0, batch.obs).astype(np.float32)
    states = [one.update(apart(one.state), x)[0] for x in (batch, batch._replace(obs=other))]
    assert not same(states[0].online.critic, states[1].online.critic)
    assert not same(states[0].online.policy, states[1].online.policy)


@every_kind
def test_the_critic_learns_nothing_from_the_policy_being_fitted(policy: str, critic: str) -> None:
    one, batch = agent(policy, critic), agents.batch(policy)
    states = [one.update(s, batch)[0] for s in (one.state, apart(one.state))]
    assert same(states[0].online.critic, states[1].online.critic)


@every_kind
def test_the_policy_learns_from_the_target_critic_alone(policy: str, critic: str) -> None:
    one, batch = agent(policy, critic), agents.batch(policy)
    arrays, rest = eqx.partition(one.state.online.critic, eqx.is_inexact_array)
    other = eqx.combine(moved(arrays, 0.3), rest)
    online = one.state._replace(online=one.state.online._replace(critic=other))
    target = one.state._replace(target=one.state.target._replace(critic=other))
    states = [one.update(s, batch)[0] for s in (one.state, online, target)]
    assert same(states[0].online.policy, states[1].online.policy)
    assert same(states[0].log_alpha, states[1].log_alpha)
    assert not same(states[0].online.policy, states[2].online.policy)
    assert not same(states[0].online.critic, states[2].online.critic)


@every_policy
def test_a_multiplier_grows_exactly_where_its_kl_exceeds_the_bound(policy: str) -> None:
    one, batch = agent(policy), agents.batch(policy)
    for state, sign in ((one.state, -1), (apart(one.state), 1)):
        after, metrics = one.update(state, batch)
        for name, log_alpha in after.log_alpha.items():
            assert (float(metrics[f"kl/{name}"]) > 1) == (sign > 0)
            assert np.all(np.sign(log_alpha - state.log_alpha[name]) == sign)


def test_each_dimension_of_a_diagonal_policy_has_its_own_multiplier() -> None:
    one = agent("diagonal")
    assert {name: x.shape for name, x in one.state.log_alpha.items()} == {
        "mean": (ACTIONS,),
        "cov": (ACTIONS,),
    }
    bias = lambda state: state.online.policy.head.mean.bias  # noqa: E731
    state = eqx.tree_at(bias, one.state, bias(one.state).at[1].add(0.5))
    after, _ = one.update(state, agents.batch())
    change = {name: after.log_alpha[name] - x for name, x in state.log_alpha.items()}
    np.testing.assert_array_equal(np.sign(change["mean"]), [-1, 1, -1])
    np.testing.assert_array_equal(np.sign(change["cov"]), [-1, -1, -1])


@pytest.mark.parametrize(
    ("policy", "names"), [("full", {"mean", "cov"}), ("categorical", {"policy"})]
)
def test_other_policies_have_one_multiplier_a_trust_region(policy: str, names: set[str]) -> None:
    assert {name: x.shape for name, x in agent(policy).state.log_alpha.items()} == dict.fromkeys(
        names, (1,)
    )


@every_policy
def test_multipliers_are_projected_after_the_step_and_never_stuck(policy: str) -> None:
    one, batch = agent(policy), agents.batch(policy)
    low, high = LOG_ALPHA_LIMITS

    def at(state: State, limit: float) -> State:
        return state._replace(
            log_alpha={name: jnp.full_like(x, limit) for name, x in state.log_alpha.items()}
        )

    # KL is zero at first, so that multipliers fall; apart, it exceeds its bound, and they rise.
    near, far = one.state, apart(one.state)
    for state, limit in ((near, low), (far, high)):
        after, _ = one.update(at(state, limit), batch)
        assert all(np.all(x == limit) for x in after.log_alpha.values())
    assert all(np.all(x > low) for x in one.update(at(far, low), batch)[0].log_alpha.values())
    assert all(np.all(x < high) for x in one.update(at(near, high), batch)[0].log_alpha.values())


@every_policy
def test_a_larger_multiplier_holds_the_policy_closer(policy: str) -> None:
    one, batch = agent(policy), agents.batch(policy)
    state = apart(one.state)
    changed = state._replace(log_alpha=jax.tree.map(lambda x: x - 5, state.log_alpha))
    losses = [float(one.update(s, batch)[1]["loss/policy"]) for s in (state, changed)]
    assert losses[0] > losses[1]


@every_kind
def test_targets_are_copied_each_period_and_not_between(policy: str, critic: str) -> None:
    one = agent(policy, critic)
    state, target = one.state, one.state.target
    for update in range(1, 8):
        state, _ = one.update(state, agents.batch(policy, update))
        if update % one.mpo.target_period == 0:
            target = state.online
        assert same(state.target, target)
        assert same(state.target, state.online) == (update % one.mpo.target_period == 0)


def test_a_new_target_is_a_copy() -> None:
    state = agent().state
    pairs = zip(jax.tree.leaves(state.online), jax.tree.leaves(state.target), strict=True)
    assert same(state.online, state.target)
    assert all(x is not y for x, y in pairs if eqx.is_array(x))


def test_updates_draw_anew_and_depend_on_the_key_alone() -> None:
    one, batch = agent(), agents.batch()
    first, metrics = one.update(one.state, batch)
    again, same_metrics = one.update(one.state, batch)
    assert same(first, again) and same(metrics, same_metrics)
    _, other = one.update(one.state._replace(key=first.key), batch)
    assert float(metrics["temperature/return"]) != float(other["temperature/return"])


def expected_goals(one: Agent, batch: Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the critic's goals [B], and the values and log-weights [N B] of all actions."""
    mean, std, unit = (np.asarray(x, np.float64) for x in jax.tree.leaves(one.scaling))
    obs = jnp.asarray(np.clip((batch.obs - mean) / std, -10, 10), jnp.float32)
    reward, discount, valid = (np.asarray(x) for x in (batch.reward, batch.discount, batch.valid))
    policy, critic = one.state.target
    goals, values, log_weights = [], [], []
    for b in range(obs.shape[1]):
        total, factor, row = oracles.n_step(
            reward[:, b] / unit, one.mpo.discount * discount[:, b], valid[:, b]
        )
        row = row if factor > 0 else 0  # where nothing is bootstrapped, the first row is improved
        log_p = np.asarray(policy(obs[row, b]).log_prob(jnp.eye(ACTIONS)))
        q = np.asarray(critic(obs[row, b], jnp.eye(ACTIONS)).mean())
        goals.append(total + factor * np.dot(np.exp(log_p), q))
        values.append(q)
        log_weights.append(log_p)
    return np.array(goals), np.array(values).T, np.array(log_weights).T


def test_the_losses_of_a_discrete_policy_are_those_of_a_slow_walk() -> None:
    # Exact, since its atoms are enumerated. At the first update the policy is the old one: KL = 0.
    one, batch = agent("categorical", "scalar"), agents.batch("categorical")
    goals, q, log_w = expected_goals(one, batch)
    _, metrics = one.update(one.state, batch)
    first = jnp.asarray(np.clip((batch.obs[0] - 0.1) / 2.0, -10, 10))
    predicted = one.state.online.critic(first, jnp.asarray(batch.action[0])).mean()
    loss = 0.5 * np.mean((goals - np.asarray(predicted)) ** 2)
    assert float(metrics["loss/critic"]) == pytest.approx(loss, rel=1e-4)
    eta = oracles.minimise_dual(q, log_w, one.mpo.epsilon)
    assert float(metrics["temperature/return"]) == pytest.approx(eta, rel=1e-3)
    gain = oracles.improved(q, log_w, eta) - np.exp(log_w)  # over the policy's own likelihood
    likelihood = np.sum(gain * log_w, axis=0)
    # A small difference of likelihoods, which float32 rounds otherwise on every kind of processor.
    assert float(metrics["loss/policy"]) == pytest.approx(-likelihood.mean(), abs=5e-7)
    assert float(metrics["value"]) == pytest.approx(q.mean(), rel=1e-4)


@pytest.mark.parametrize("policy", ["diagonal", "categorical"])
def test_where_all_actions_are_equal_few_samples_do_not_move_the_policy(policy: str) -> None:
    # A critic that knows one value, and a policy so narrow that no action is outside the box.
    one, batch = agent(policy), agents.batch(policy)
    state = eqx.tree_at(
        lambda s: s.target.critic.head.v.weight, one.state, replace_fn=jnp.zeros_like
    )
    if policy == "diagonal":
        narrow = lambda s: (s.target.policy.head.std.bias, s.online.policy.head.std.bias)  # noqa: E731
        state = eqx.tree_at(narrow, state, replace_fn=lambda x: x - 5)
    for x in numbers(gradients(state, batch, one).policy):
        np.testing.assert_allclose(x, 0.0, atol=1e-7)


@pytest.mark.parametrize("critic", agents.CRITICS)
def test_the_critic_sees_the_action_that_would_be_executed(critic: str) -> None:
    # A policy far above the box: whatever is drawn, 1 is executed in every dimension.
    one, batch = agent("diagonal", critic), agents.batch()
    bias = lambda state: state.target.policy.head.mean.bias  # noqa: E731
    state = eqx.tree_at(bias, one.state, jnp.full(ACTIONS, 50.0, float))
    whole = batch._replace(discount=np.ones_like(batch.discount), valid=np.ones_like(batch.valid))
    _, metrics = one.update(state, whole)
    obs = one.scaling.observation(whole.obs[-1])
    value = state.target.critic(obs, jnp.ones((obs.shape[0], ACTIONS))).mean()
    assert float(metrics["value"]) == pytest.approx(float(value.mean()), rel=1e-4)


@every_kind
def test_a_discount_of_zero_leaves_the_reward(policy: str, critic: str) -> None:
    # Whether it is the algorithm's or every transition's, the bootstrap has no part.
    one, batch = agent(policy, critic), agents.batch(policy)
    over = batch._replace(discount=np.zeros_like(batch.discount))
    arrays, rest = eqx.partition(one.state.target.critic, eqx.is_inexact_array)
    other = one.state._replace(
        target=one.state.target._replace(critic=eqx.combine(moved(arrays, 0.3), rest))
    )
    found = [gradients(s, over, one).critic for s in (one.state, other)]
    assert same(*found, atol=1e-7)


@pytest.mark.parametrize("distance", [0.0, 0.004, 0.01, 0.3])
def test_a_multiplier_follows_its_constraints_slack(distance: float) -> None:
    # In log alpha, by the learning rate times KL / epsilon - 1, which one large KL may not exceed.
    one = agent("full")
    state = apart(one.state, distance)
    after, metrics = one.update(state, agents.batch())
    for name, log_alpha in after.log_alpha.items():
        excess = min(float(metrics[f"kl/{name}"]) - 1, MAX_EXCESS)
        expected = one.mpo.dual_learning_rate * excess
        np.testing.assert_allclose(log_alpha - state.log_alpha[name], expected, atol=2e-6)


@every_policy
@pytest.mark.parametrize("excess", [0.0, 1.0, 4.0])
def test_a_stiff_trust_region_shortens_the_policys_step_alone(policy: str, excess: float) -> None:
    # The stiffest counts, by how far it is beyond sqrt(epsilon / bound). KL is 0 at first, so the
    # gradients, and Adam's steps, are those of any other multiplier.
    one, batch = agent(policy), agents.batch(policy)
    last = list(one.state.log_alpha)[-1]
    soft = one.state.log_alpha
    stiff = soft | {last: soft[last].at[-1].add(excess)}
    steps = []
    for log_alpha in (soft, stiff):
        after = one.update(one.state._replace(log_alpha=log_alpha), batch)[0].online
        steps.append(jax.tree.map(jnp.subtract, numbers(after), numbers(one.state.online)))
    of_policy = len(numbers(one.state.online.policy))
    whole, short = steps
    assert same([x * np.exp(-excess) for x in whole[:of_policy]], short[:of_policy], atol=1e-7)
    assert same(whole[of_policy:], short[of_policy:])


def test_a_long_gradient_is_shortened_each_network_for_itself() -> None:
    # Adam's first moment is a tenth of the gradient that it was given. A KL of 1e4 times its bound
    # makes the policy's gradient long; the critic's, of rewards of order 1, is not.
    one = agent("full")
    after, _ = one.update(apart(one.state, 1.0), agents.batch())
    tenth, limit = moment(after), one.mpo.max_gradient_norm
    np.testing.assert_allclose(10 * optax.tree.norm(tenth.policy), limit, rtol=1e-4)
    assert 0 < 10 * optax.tree.norm(tenth.critic) < limit


def test_the_learning_rates_are_those_of_the_settings() -> None:
    # Adam's first step is the learning rate, against the gradient's sign. A KL of zero has all
    # its slack, 1, and lowers a multiplier's logarithm by its rate.
    one = agent(critic_weight_decay=0.0)
    after, _ = one.update(one.state, agents.batch())
    for name, x in after.log_alpha.items():
        np.testing.assert_allclose(
            x - one.state.log_alpha[name], -one.mpo.dual_learning_rate, rtol=1e-3
        )
    change = jax.tree.map(
        lambda x, y: np.max(np.abs(x - y)),
        *(eqx.filter(s.online, eqx.is_inexact_array) for s in (after, one.state)),
    )
    rates = one.mpo.policy_learning_rate, one.mpo.critic_learning_rate
    for network, rate in zip(change, rates, strict=True):
        np.testing.assert_allclose(max(jax.tree.leaves(network)), rate, rtol=1e-2)


def test_weights_of_the_critic_alone_decay() -> None:
    pair = [agent(critic_weight_decay=decay) for decay in (0.0, 0.1)]
    lasting, decaying = (x.update(x.state, agents.batch())[0].online for x in pair)
    assert same(lasting.policy, decaying.policy)
    trees = lasting.critic, decaying.critic, pair[0].state.online.critic
    share = 0.1 * pair[0].mpo.critic_learning_rate
    for x, y, begun in zip(*map(numbers, trees), strict=True):
        np.testing.assert_allclose(x - y, share * begun, atol=1e-7)


def test_a_multiplier_starts_at_all_that_an_optimum_can_need() -> None:
    networks = agents.networks("full", "scalar", OBS, ACTIONS)
    mpo = Mpo(epsilon=0.4, epsilon_mean=0.1, epsilon_cov=0.001)
    log_alpha = mpo.init(jax.random.key(0), networks, jnp.zeros(OBS)).log_alpha
    np.testing.assert_allclose(np.exp(log_alpha["mean"]), 2.0, rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_alpha["cov"]), 20.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("settle_after", "updates", "pace"),
    [(100, 0, 1.0), (100, 100, 1.0), (100, 200, 0.5), (100, 1000, 0.1), (0, 10**6, 1.0)],
)
def test_the_pace_falls_as_one_over_updates_after_those_at_full_speed(
    settle_after: int, updates: int, pace: float
) -> None:
    mpo = Mpo(settle_after=settle_after)
    assert float(mpo.pace(jnp.asarray(updates))) == pytest.approx(pace)
    # KL is a squared distance.
    bounds = mpo.bounds(mpo.pace(jnp.asarray(updates)))
    assert float(bounds["mean"]) == pytest.approx(mpo.epsilon_mean * pace**2)
    assert float(bounds["cov"]) == pytest.approx(mpo.epsilon_cov * pace**2)
    assert float(bounds["policy"]) == pytest.approx(mpo.epsilon_policy * pace**2)


@pytest.mark.parametrize("period", [50, 300])
def test_trust_regions_allow_the_same_speed_whatever_the_target_period(period: int) -> None:
    usual, other = (Mpo(target_period=p).bounds(jnp.ones(())) for p in (100, period))
    for name, bound in usual.items():
        # A KL is a squared distance: in twice the time, four times as much.
        assert float(other[name]) == pytest.approx(float(bound) * (period / 100) ** 2)


@every_policy
def test_a_settling_policy_takes_shorter_steps_in_smaller_trust_regions(policy: str) -> None:
    # At twice the updates at full speed: half the step, at a KL four times as large beside its
    # bound. The KL is made small enough that a multiplier's slack is not cut short.
    one, batch = agent(policy), agents.batch(policy)
    early = apart(one.state, 0.001)
    late = early._replace(updates=jnp.full((), 2 * one.mpo.settle_after, jnp.int32))
    found = [one.update(state, batch) for state in (early, late)]
    for name, before in early.log_alpha.items():
        fast, slow = (float(metrics[f"kl/{name}"]) for _, metrics in found)
        assert slow == pytest.approx(4 * fast, rel=1e-4)
        rise = found[1][0].log_alpha[name] - before
        expected = one.mpo.dual_learning_rate * min(slow - 1, MAX_EXCESS)
        np.testing.assert_allclose(np.mean(rise), expected, atol=2e-6)
    steps = [
        [x - y for x, y in zip(numbers(after.online), numbers(early.online), strict=True)]
        for after, _ in found
    ]
    of_policy = len(numbers(early.online.policy))
    fast, slow = steps
    # Adam normalises by the gradient, whose penalty is the same: multipliers have not moved yet.
    assert same([0.5 * x for x in fast[:of_policy]], slow[:of_policy], atol=1e-7)
    assert same(fast[of_policy:], slow[of_policy:])
