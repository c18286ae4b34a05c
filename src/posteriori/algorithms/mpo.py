"""Maximum a posteriori policy optimisation (MPO), with decoupled trust regions.

Sources: MPO, arXiv 1806.06920; the decoupled trust regions, arXiv 1812.02256.

One `Mpo` serves every policy and critic: what differs between them is asked of their `Distribution`
and `Value`.

Differs: the temperature is solved exactly in each update (the papers take gradient steps on it);
the policy is improved at the last observation of each n-step window, where the critic's bootstrap
needs the same target values; and it settles, in steps and trust regions that shrink with time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from posteriori.algorithms.em import e_step, m_step, temperature
from posteriori.algorithms.finite import first_bad
from posteriori.algorithms.multipliers import needed, stiffness, tighten
from posteriori.algorithms.returns import n_step
from posteriori.algorithms.trajectory import Trajectory
from posteriori.models.actions import Actions, Preference
from posteriori.models.distributions import Distribution
from posteriori.models.networks import Critic, Ensemble, Policy
from posteriori.models.scaling import Scaling

# The settings' learning rates multiply its steps. One vector of all parameters, since on a CPU
# operations on many small arrays take longer to start than to do.
ADAM = optax.flatten(optax.adam(1.0))
USUAL_PERIOD = 100  # updates between copies to the targets, at which KL bounds are given (Acme)


class Networks(NamedTuple):
    """The actor and its critic, of one or several members."""

    policy: Policy
    critic: Critic | Ensemble


class State(NamedTuple):
    """All that learning changes."""

    online: Networks
    target: Networks
    log_alpha: dict[str, Float[Array, " C"]]
    optimiser: optax.OptState
    key: PRNGKeyArray
    updates: Int[Array, ""]


Metrics = dict[str, Float[Array, ""]]
BAD = "gradient/bad"  # which of the gradient's leaves is the first that is not finite; 0: none


@dataclass(frozen=True)
class Mpo:
    """Hyperparameters of MPO.

    Args:
        epsilon: KL bound of the E-step, nats: how far the improved policy may leave the old
            one (arXiv 1806.06920).
        epsilon_bounds: The same for the preference for actions inside the box. Acme's 0.001 leaves
            a fifth of the walker's actions outside, where the policy is not told what they cost.
        epsilon_mean: KL bound of the policy's mean, nats, per dimension, averaged over a target
            period of 100 updates; over another it is (target_period / 100)^2 times as large, which
            is the same speed.
        epsilon_cov: KL bound of the policy's covariance, likewise. It limits how fast exploration
            shrinks.
        epsilon_policy: KL bound of a categorical policy, nats, likewise.
        samples: Actions drawn from the policy in each state.
        discount: Discount of rewards, per environment step.
        policy_learning_rate: Adam's, of the policy.
        critic_learning_rate: Adam's, of the critic.
        critic_weight_decay: Share of the critic's weights that an update takes off, in units of its
            learning rate (AdamW, arXiv 1711.05101).
        dual_learning_rate: Of the logarithm of the trust regions' multipliers, per update and unit
            of KL / epsilon - 1.
        max_gradient_norm: Of each network's gradient, which a longer one is shortened to (Acme).
            Without it one large KL raises Adam's second moment and stops the policy for long.
        target_period: Updates between two copies of the networks to their targets.
        settle_after: Updates at full speed. After u of them the policy's steps, and the distances
            that its trust regions allow, are settle_after / u as long (Robbins & Monro, 1951: steps
            whose sum is infinite, and whose sum of squares is not). 0 is never.
    """

    epsilon: float = 0.1
    epsilon_bounds: float = 0.01
    epsilon_mean: float = 0.0025
    epsilon_cov: float = 1e-5
    epsilon_policy: float = 0.01
    samples: int = 10
    discount: float = 0.99
    policy_learning_rate: float = 9e-4
    critic_learning_rate: float = 7e-4
    critic_weight_decay: float = 0.043
    dual_learning_rate: float = 1e-2
    max_gradient_norm: float = 40.0
    target_period: int = 100
    settle_after: int = 50_000

    def init(self, key: PRNGKeyArray, networks: Networks, example: Float[Array, " O"]) -> State:
        """Start learning from given networks.

        Args:
            key: Consumed by the draws of all later updates.
            networks: The policy and its critic.
            example: An observation; only its shape matters.
        """
        distribution = jax.eval_shape(networks.policy, example)
        regions = jax.eval_shape(lambda d: d.decouple(d), distribution)
        bounds = self.bounds(self.pace(jnp.zeros((), jnp.int32)))
        log_alpha = {
            name: jnp.full(kl.shape[-1], needed(self.epsilon, bounds[name]))
            for name, (_, kl) in regions.items()
        }
        return State(
            online=networks,
            target=jax.tree.map(lambda x: x.copy() if eqx.is_array(x) else x, networks),
            log_alpha=log_alpha,
            optimiser=ADAM.init(eqx.filter(networks, eqx.is_inexact_array)),
            key=key,
            updates=jnp.zeros((), jnp.int32),
        )

    def update(
        self,
        state: State,
        batch: Trajectory,
        scaling: Scaling,
        actions: Actions,
    ) -> tuple[State, Metrics]:
        """Do one step of policy evaluation, E-step and M-step.

        Args:
            state: From `init` or the last update.
            batch: Windows of n+1 rows for n-step returns, in the environment's units.
            scaling: The networks' units of observation and reward.
            actions: The action space; its preferences are objectives beside the return.
        """
        next_key, atoms_key = jax.random.split(state.key)
        pace = self.pace(state.updates)
        bounds = self.bounds(pace)
        obs = scaling.observation(batch.obs)
        returns = n_step(batch.reward / scaling.reward, self.discount * batch.discount, batch.valid)
        # A terminal observation has no action to improve, nor a value to bootstrap from: such a
        # window is improved at its first row, and what is bootstrapped there is multiplied by 0.
        at = jnp.where(returns.discount > 0, returns.end, 0)
        state_at = obs[at, jnp.arange(obs.shape[1])]
        old = state.target.policy(state_at)
        atoms, log_w = old.atoms(atoms_key, self.samples)
        values = state.target.critic(state_at, actions.clip(atoms))
        goal = values.mix(log_w).backup(returns.reward, returns.discount)
        objectives = {"return": values.mean(), **actions.preferences(atoms)}
        weights, metrics = self._improve(objectives, log_w, actions.own)

        def loss(online: Networks, alpha: dict[str, Array]) -> tuple[Array, Metrics]:
            critic_loss = jnp.mean(online.critic(obs[0], batch.action[0]).loss(goal))
            policy = online.policy(state_at)
            pull = {name: x + len(objectives) for name, x in alpha.items()}  # see `_improve`
            fit = m_step(policy, old, atoms, weights, pull, bounds)
            losses = {"loss/critic": critic_loss, "loss/policy": fit.policy_loss}
            total = critic_loss + fit.policy_loss + fit.alpha_loss
            return total, losses | _health(policy, fit.kl, alpha, bounds)

        grad = eqx.filter_grad(lambda params: loss(*params), has_aux=True)
        params = (state.online, jax.tree.map(jnp.exp, state.log_alpha))
        (gradient, dual_gradient), loss_metrics = grad(params)
        metrics |= loss_metrics | {"pace": pace, BAD: first_bad((gradient, dual_gradient))}
        return self._step(state, gradient, dual_gradient, next_key), metrics

    def _improve(
        self, objectives: dict[str, Array], log_w: Array, own: Sequence[tuple[str, Preference]] = ()
    ) -> tuple[Float[Array, " N B"], Metrics]:
        """Sum the E-step's weights over objectives, each with its own temperature.

        The old policy's weights are taken off each. What they fit, E_old[log pi], is exactly
        -KL(old || pi) and a constant, which `update` adds to the penalty: the same loss in
        expectation, without the noise of the samples' own mean and spread.
        """
        total, metrics = jnp.zeros_like(log_w), {"value": jnp.mean(objectives["return"])}
        epsilons = {"return": self.epsilon, "bounds": self.epsilon_bounds}
        epsilons |= {name: preference.epsilon for name, preference in own}
        for name, q in objectives.items():
            epsilon = epsilons[name]
            eta = temperature(q, log_w, epsilon)
            log_q, _ = e_step(q, log_w, eta, epsilon)
            weights = jnp.exp(log_q)
            total += weights - jnp.exp(log_w)
            ess = 1.0 / (jnp.sum(weights**2, axis=0) * weights.shape[0])
            metrics |= {f"temperature/{name}": eta, f"ess/{name}": jnp.mean(ess)}
        return total, metrics

    def _step(
        self,
        state: State,
        gradient: PyTree,
        dual_gradient: dict[str, Array],
        key: PRNGKeyArray,
    ) -> State:
        params = eqx.filter(state.online, eqx.is_inexact_array)
        short: PyTree = Networks(self._shorten(gradient.policy), self._shorten(gradient.critic))
        step: PyTree
        step, optimiser = ADAM.update(short, state.optimiser)
        pace = self.pace(state.updates)
        bounds = self.bounds(pace)
        rate = self.policy_learning_rate * pace / stiffness(state.log_alpha, self.epsilon, bounds)
        change = Networks(
            jax.tree.map(lambda x: rate * x, step.policy),
            jax.tree.map(self._decaying, step.critic, params.critic),
        )
        online = eqx.apply_updates(state.online, change)
        slack = {name: x / bounds[name] for name, x in dual_gradient.items()}
        updates = state.updates + 1
        copy = updates % self.target_period == 0
        pick = lambda new, old: jnp.where(copy, new, old) if eqx.is_array(new) else new  # noqa: E731
        return State(
            online=online,
            target=jax.tree.map(pick, online, state.target),
            log_alpha=tighten(state.log_alpha, slack, self.dual_learning_rate),
            optimiser=optimiser,
            key=key,
            updates=updates,
        )

    def _shorten(self, gradient: PyTree) -> PyTree:
        clip = optax.clip_by_global_norm(self.max_gradient_norm)
        return clip.update(gradient, optax.EmptyState())[0]

    def pace(self, updates: Int[Array, ""]) -> Float[Array, ""]:
        """Return the policy's speed as a share of its full speed."""
        full_until = jnp.where(self.settle_after == 0, jnp.inf, self.settle_after)
        return jnp.minimum(1.0, full_until / jnp.maximum(updates, 1))

    def bounds(self, pace: Float[Array, ""]) -> dict[str, Float[Array, ""]]:
        """Return the KL bound of every trust region that a policy may have, nats.

        KL is, for short distances, their square, and a distance is a speed times the period in
        which the target networks stand still.
        """
        full = {
            "mean": self.epsilon_mean,
            "cov": self.epsilon_cov,
            "policy": self.epsilon_policy,
        }
        distance = pace * self.target_period / USUAL_PERIOD
        return {name: bound * distance**2 for name, bound in full.items()}

    def _decaying(self, step: Array, weight: Array) -> Array:
        return self.critic_learning_rate * (step - self.critic_weight_decay * weight)


def _health(
    policy: Distribution,
    kls: dict[str, Array],
    alpha: dict[str, Array],
    bounds: dict[str, Array],
) -> Metrics:
    """Return constraints as ratios to their bounds (1 = at the bound), and the spread."""
    metrics: Metrics = {}
    for name, kl in kls.items():
        ratio = kl / bounds[name]
        metrics |= {f"kl/{name}": jnp.mean(ratio), f"kl/{name}/max": jnp.max(ratio)}
        metrics |= {f"alpha/{name}": jnp.mean(alpha[name])}
    for name, value in policy.spread().items():
        mean = jnp.mean(value, axis=tuple(range(value.ndim - 1)))
        metrics |= {name: jnp.mean(mean)}
        metrics |= {f"{name}/{i}": x for i, x in enumerate(mean)}
    return metrics
