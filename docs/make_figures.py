"""Draw the figures of the derivation, with the library's own E-step and M-step.

python docs/make_figures.py              into docs/figures/, each for light and for dark pages
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posteriori.algorithms.em import e_step, m_step, temperature
from posteriori.algorithms.multipliers import needed, tighten
from posteriori.models.distributions import DiagonalGaussian, FullGaussian

EPSILON = 0.1  # the default bound of the E-step
START = FullGaussian(jnp.zeros(2), 0.5 * jnp.eye(2))
ACTIONS = jnp.linspace(-1.6, 1.6, 641)
OLD = DiagonalGaussian(jnp.zeros(1), jnp.full(1, 0.5))
INNER_STEPS, INNER_RATE = 400, 0.04  # an M-step's, of the policy's spread: it ends at the optimum
ROUNDS, SEEDS, ATOMS = 60, 32, 20


class Look(NamedTuple):
    """Colours for one kind of page. Okabe and Ito's, lighter where the page is dark."""

    ink: str
    faint: str
    colours: tuple[str, ...]


LOOKS = {
    "": Look("#24292f", "#c9ced4", ("#0072B2", "#D55E00", "#009E73", "#A8538A")),
    "-dark": Look("#d7dce2", "#4a5058", ("#56B4E9", "#F0A04B", "#3DD6A6", "#E79AC6")),
}


class Coupled(eqx.Module):
    """A Gaussian with one trust region, KL(old || it), for mean and covariance together."""

    gaussian: FullGaussian

    def decouple(self, old: "Coupled") -> dict[str, tuple[FullGaussian, jax.Array]]:
        """Return the one region."""
        new, before = self.gaussian, old.gaussian
        kl_mean = new.decouple(before)["mean"][1]
        shift = jax.scipy.linalg.solve_triangular(new.tril, new.mean - before.mean, lower=True)
        kl_cov = new.decouple(before)["cov"][1]
        return {"policy": (new, jnp.zeros_like(kl_mean) + 0.5 * jnp.sum(shift**2) + kl_cov)}


def hills(a: jax.Array) -> jax.Array:
    """Q of one state: a broad hill, and a narrow and higher one beside it."""
    return jnp.exp(-(((a + 0.5) / 0.45) ** 2)) + 1.6 * jnp.exp(-(((a - 0.75) / 0.22) ** 2))


def hill(a: jax.Array) -> jax.Array:
    """Q of one state: a single hill, away from where the old policy acts."""
    return jnp.exp(-(((a - 0.7) / 0.35) ** 2))


def fit(
    start: Any,
    old: Any,
    atoms: jax.Array,
    weights: jax.Array,
    epsilon: dict[str, float],
) -> Any:
    """Run the M-step to its optimum: Adam on the policy, the multipliers' own rule beside it."""
    optimiser = optax.adam(optax.cosine_decay_schedule(INNER_RATE, INNER_STEPS))
    spread = jnp.min(jnp.stack([jnp.min(s) for s in _spreads(start)]))
    regions = jax.eval_shape(lambda d: d.decouple(old), start)
    bounds = {name: jnp.asarray(bound) for name, bound in epsilon.items()}
    log_alpha = {
        name: jnp.full(kl.shape[-1], needed(EPSILON, bounds[name]))
        for name, (_, kl) in regions.items()
    }

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        policy, log_alpha, state = carry

        def loss(both: tuple) -> jax.Array:
            done = m_step(both[0], old, atoms, weights, both[1], bounds)
            return done.policy_loss + done.alpha_loss

        grad, dual = jax.grad(loss)((policy, jax.tree.map(jnp.exp, log_alpha)))
        change, state = optimiser.update(grad, state)
        change = jax.tree.map(lambda x: spread * x, change)
        slack = {name: x / bounds[name] for name, x in dual.items()}
        return (eqx.apply_updates(policy, change), tighten(log_alpha, slack, 0.05), state), None

    carry = (start, log_alpha, optimiser.init(start))
    (policy, _, _), _ = jax.lax.scan(step, carry, None, length=INNER_STEPS)
    return policy


def reweighting(look: Look) -> Figure:
    """The E-step in one state, at several temperatures, and on ten sampled actions."""
    log_w = jax.nn.log_softmax(OLD.log_prob(ACTIONS[:, None]))
    q, width = hills(ACTIONS), float(ACTIONS[1] - ACTIONS[0])
    figure, (left, middle, right) = _panels(3, look)
    left.plot(ACTIONS, q, color=look.colours[1], label="$Q(s,a)$")
    left.plot(ACTIONS, jnp.exp(log_w) / width, color=look.ink, label=r"$\pi_{\rm old}(a|s)$")
    middle.plot(ACTIONS, jnp.exp(log_w) / width, color=look.ink, label=r"$\eta=\infty$, KL = 0")
    for colour, eta in zip((*look.colours[2:], look.colours[0]), (2.0, 0.7, 0.25), strict=True):
        log_q, _ = e_step(q[:, None], log_w[:, None], jnp.asarray(eta), EPSILON)
        kl = jnp.sum(jnp.exp(log_q[:, 0]) * (log_q[:, 0] - log_w))
        label = rf"$\eta={eta}$, KL = {kl:.2f}"
        middle.plot(ACTIONS, jnp.exp(log_q[:, 0]) / width, color=colour, label=label)
    atoms, atom_log_w = OLD.atoms(jax.random.key(4), 10)
    atom_q = hills(atoms)
    eta = temperature(atom_q, atom_log_w[:, None], EPSILON)
    log_q, _ = e_step(atom_q, atom_log_w[:, None], eta, EPSILON)
    right.vlines(atoms[:, 0], 0, jnp.exp(log_q[:, 0]), color=look.colours[0], lw=2)
    right.plot(atoms[:, 0], jnp.exp(log_q[:, 0]), "o", color=look.colours[0], label="$q_j$")
    label = r"$w_j=\frac{1}{N}$"
    right.axhline(0.1, color=look.ink, lw=1, ls="--", label=label)
    for axes, title in (
        (left, r"$Q(s,a)$, $\pi_{\rm old}(a|s)$"),
        (middle, r"$q(a|s) \propto \pi_{\rm old}(a|s)\,e^{Q(s,a)/\eta}$"),
        (right, rf"$N=10$, $\varepsilon=0.1$: $\eta^*={float(eta):.2f}$"),
    ):
        _dress(axes, look, title, "$a$")
    right.set_ylim(0, 0.26)
    return figure


def dual(look: Look) -> Figure:
    """The dual of a batch of sampled states, its minimum, and what `-log N` is for."""
    keys = jax.random.split(jax.random.key(1), 2)
    shift = 0.5 * jax.random.normal(keys[0], (64,))
    atoms = 0.5 * jax.random.normal(keys[1], (ATOMS, 64))
    q, log_w = hills(atoms + shift), jnp.full((ATOMS, 64), -jnp.log(float(ATOMS)))
    etas = jnp.geomspace(0.06, 6, 200)
    figure, (left, right) = _panels(2, look)
    for colour, epsilon in zip(look.colours, (0.03, 0.1, 0.3), strict=False):
        g = jax.vmap(lambda eta, e=epsilon: e_step(q, log_w, eta, e)[1])(etas)
        best = temperature(q, log_w, epsilon)
        left.plot(etas, g, color=colour, label=rf"$\varepsilon={epsilon}$")
        left.plot(best, e_step(q, log_w, best, epsilon)[1], "o", color=colour)
        right.axhline(epsilon, color=colour, lw=1, ls="--")
        right.plot(best, epsilon, "o", color=colour)
    wrong = jax.vmap(lambda eta: e_step(q, log_w + jnp.log(float(ATOMS)), eta, EPSILON)[1])(etas)
    label = r"$\varepsilon=0.1$, $-\log N$ left out"
    left.plot(etas, wrong, color=look.colours[1], ls=":", label=label)
    log_q = jax.vmap(lambda eta: e_step(q, log_w, eta, EPSILON)[0])(etas)
    kl = jnp.mean(jnp.sum(jnp.exp(log_q) * (log_q - log_w), axis=1), axis=1)
    right.plot(etas, kl, color=look.ink)
    for axes, title in (
        (left, r"$g(\eta)$"),
        (right, r"${\rm mean}_s\,{\rm KL}(q\,\|\,\pi_{\rm old})$"),
    ):
        axes.set_xscale("log")
        _dress(axes, look, title, r"$\eta$", legend=axes is left)
    left.set_ylim(0.3, 3.6)
    right.set_yscale("log")
    return figure


def trust_region(look: Look) -> Figure:
    """One M-step within several bounds, and what sixty rounds make of the spread."""
    log_w = jax.nn.log_softmax(OLD.log_prob(ACTIONS[:, None]))[:, None]
    q, width = hill(ACTIONS)[:, None], float(ACTIONS[1] - ACTIONS[0])
    log_q, _ = e_step(q, log_w, temperature(q, log_w, 0.5), 0.5)
    start = DiagonalGaussian(OLD.mean[None], OLD.std[None])
    figure, (left, right) = _panels(2, look)
    left.fill_between(ACTIONS, jnp.exp(log_q[:, 0]) / width, color=look.faint, label="$q(a|s)$")
    densities = lambda policy: jnp.exp(policy.log_prob(ACTIONS[:, None, None]))[:, 0]  # noqa: E731
    left.plot(ACTIONS, densities(start), color=look.ink, label=r"$\pi_{\rm old}$")
    for colour, bound in zip(look.colours, (0.003, 0.03, 1e3), strict=False):
        weights = jnp.exp(log_q)
        epsilon = {"mean": bound, "cov": bound}
        policy = fit(start, start, ACTIONS[:, None, None], weights, epsilon)
        left.plot(ACTIONS, densities(policy), color=colour, label=_bound(bound))
    for colour, bound in zip(look.colours, (0.0003, 0.003, 1e3), strict=False):
        sigma = _spread_over_rounds(bound)
        middle = np.median(sigma, axis=0)
        low, high = np.quantile(sigma, (0.25, 0.75), axis=0)
        right.plot(middle, color=colour, label=_bound(bound, "_\\Sigma"))
        right.fill_between(np.arange(ROUNDS + 1), low, high, color=colour, alpha=0.25, lw=0)
    _dress(left, look, r"$\pi(a|s)$", "$a$")
    _dress(right, look, r"$\sigma$", "EM")
    right.set_yscale("log")
    right.set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
    right.minorticks_off()
    return figure


def decoupling(look: Look) -> Figure:
    """Rounds of EM towards a far optimum: one bound for both, and one for each."""
    goal = jnp.array([1.6, 1.0])
    figure, both = _panels(2, look, height=3.6)
    cases = (
        (lambda g: Coupled(g), {"policy": 0.02}, r"KL$(\pi_{\rm old}\,\|\,\pi) \leq 0.02$"),
        (
            lambda g: g,
            {"mean": 0.02, "cov": 0.0002},
            r"KL$_\mu \leq 0.02$,  KL$_\Sigma \leq 0.0002$",
        ),
    )
    for axes, (wrap, epsilon, title) in zip(both, cases, strict=True):
        steps = _rounds_of_two(wrap, epsilon, goal, 16)
        for i, policy in enumerate(steps):
            if i % 4 == 0:
                _ellipse(axes, policy, look, i, 16)
        axes.plot(*np.stack([p.mean for p in steps]).T, ".-", color=look.faint, lw=1, zorder=0)
        axes.plot(*goal, "*", color=look.colours[1], ms=13, label=r"$\arg\max_a Q$")
        axes.set_aspect("equal")
        axes.set(xlim=(-1.0, 2.2), ylim=(-0.9, 1.6))
        _dress(axes, look, title, "$a_1$")
        axes.set_ylabel("$a_2$", color=look.ink)
    return figure


def _spreads(policy: Any) -> list[jax.Array]:
    """Return what tells how narrow a policy is."""
    gaussian = policy.gaussian if isinstance(policy, Coupled) else policy
    return [gaussian.std if isinstance(gaussian, DiagonalGaussian) else jnp.diagonal(gaussian.tril)]


def _spread_over_rounds(bound: float) -> np.ndarray:
    """EM in one state from few samples of a Q that is noise alone: nothing should happen."""
    epsilon = {"mean": 0.003, "cov": bound}

    @jax.jit
    def round_(policy: DiagonalGaussian, key: jax.Array) -> tuple[DiagonalGaussian, jax.Array]:
        atoms_key, noise_key = jax.random.split(key)
        atoms, log_w = policy.atoms(atoms_key, ATOMS)
        q = jax.random.normal(noise_key, log_w.shape)
        log_q, _ = e_step(q, log_w, temperature(q, log_w, EPSILON), EPSILON)
        new = fit(policy, policy, atoms, jnp.exp(log_q), epsilon)
        return new, new.std[0, 0]

    def run(key: jax.Array) -> jax.Array:
        start = DiagonalGaussian(OLD.mean[None], OLD.std[None])
        _, sigma = jax.lax.scan(round_, start, jax.random.split(key, ROUNDS))
        return jnp.concatenate([start.std[0], sigma])

    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), SEEDS)))


def _rounds_of_two(
    wrap: Callable[[FullGaussian], Any], epsilon: dict[str, float], goal: jax.Array, rounds: int
) -> list[FullGaussian]:
    """EM in one state with two action dimensions, and so many samples that they do not matter."""

    @jax.jit
    def round_(policy: FullGaussian, key: jax.Array) -> FullGaussian:
        atoms, log_w = policy.atoms(key, 1024)
        q = -jnp.sqrt(jnp.sum((atoms - goal) ** 2, axis=-1))[:, None]
        eta = temperature(q, log_w[:, None], EPSILON)
        log_q, _ = e_step(q, log_w[:, None], eta, EPSILON)
        new = fit(wrap(policy), wrap(policy), atoms, jnp.exp(log_q[:, 0]), epsilon)
        return new.gaussian if isinstance(new, Coupled) else new

    steps = [START]
    for key in jax.random.split(jax.random.key(0), rounds):
        steps.append(round_(steps[-1], key))
    return steps


def _ellipse(axes: Axes, policy: FullGaussian, look: Look, i: int, last: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    x, y = np.asarray(policy.mean)[:, None] + np.asarray(policy.tril) @ circle
    colour = look.ink if i == 0 else look.colours[0]
    labels = {0: r"$\pi_{\rm old}$ ($1\sigma$)", last: f"{last} EM"}
    alpha = 1 if i == 0 else 0.35 + 0.65 * i / last
    axes.plot(x, y, color=colour, alpha=alpha, label=labels.get(i))


def _bound(bound: float, of: str = "_M") -> str:
    return rf"$\varepsilon{of}=\infty$" if bound >= 1e3 else rf"$\varepsilon{of}={bound:g}$"


def _panels(n: int, look: Look, height: float = 3.2) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9.2, height), layout="constrained")
    figure.patch.set_alpha(0)
    panels = figure.subplots(1, n)
    for axes in panels:
        axes.patch.set_alpha(0)
        axes.tick_params(which="both", colors=look.ink, labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(look.ink)
    return figure, panels


def _dress(axes: Axes, look: Look, title: str, x: str, *, legend: bool = True) -> None:
    axes.set_title(title, color=look.ink, fontsize=11)
    axes.set_xlabel(x, color=look.ink)
    if legend:
        axes.legend(frameon=False, labelcolor=look.ink, fontsize=9)


FIGURES: dict[str, Callable[[Look], Figure]] = {
    "e_step": reweighting,
    "dual": dual,
    "trust_region": trust_region,
    "decoupling": decoupling,
}


def main() -> None:
    """Draw those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    parser.add_argument("--only", choices=list(FIGURES), nargs="*", default=list(FIGURES))
    arguments = parser.parse_args()
    # The same figure gives the same file.
    matplotlib.rcParams["svg.hashsalt"] = "posteriori"
    for name in arguments.only:
        for suffix, look in LOOKS.items():
            out = arguments.out / f"{name}{suffix}.svg"
            FIGURES[name](look).savefig(out, transparent=True, metadata={"Date": None})
            print(out)


if __name__ == "__main__":
    main()
