"""Health: what the metrics of a run that is about to fail look like, as a table of named rules.

A rule that holds in so many rows of metrics on end warns once in a run. `docs/health.md` has the
same table: `python -m posteriori.runs.health` prints it, and a test compares them.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from posteriori.runs.config import Config
from posteriori.runs.sinks import Row

Measure = Callable[[Row, Config], float]  # NaN where the row cannot tell


@dataclass(frozen=True)
class Rule:
    """What a warning looks at, and what it says.

    Args:
        name: Of the warning.
        formula: What is measured, in names of metrics and settings.
        measure: The same, of a row.
        limit: It warns where the measure is above this.
        below: Or, if so, below it.
        rows: In so many rows on end.
        healthy: What sound runs have.
        cause: The likely one.
        cure: What to try first.
    """

    name: str
    formula: str
    measure: Measure
    limit: float
    rows: int
    healthy: str
    cause: str
    cure: str
    below: bool = False

    def broken(self, value: float) -> bool:
        """Whether a measure is beyond the limit."""
        return value < self.limit if self.below else value > self.limit

    def text(self, value: float) -> str:
        """Say what was found, with cause and cure."""
        sign = "<" if self.below else ">"
        return (
            f"{self.formula} is {value:.3g} ({sign} {self.limit:g} in {self.rows} rows; healthy: "
            f"{self.healthy}). Likely cause: {self.cause} Try: {self.cure}"
        )


class Health:
    """Follows the rules over a run's rows."""

    def __init__(self, config: Config):
        self.config = config
        self._on_end: Counter[str] = Counter()

    def check(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield name and text of each rule that has now held long enough."""
        for rule in RULES:
            value = rule.measure(row, self.config)
            if math.isnan(value):
                continue
            self._on_end[rule.name] = self._on_end[rule.name] + 1 if rule.broken(value) else 0
            if self._on_end[rule.name] == rule.rows:
                yield rule.name, rule.text(value)


def _of(name: str) -> Measure:
    return lambda row, _: float(row.get(name, math.nan))


def _over(prefix: str, choose: Callable[[list[float]], float]) -> Measure:
    """Measure the largest or least of `prefix/...`, sub-metrics aside."""

    def measure(row: Row, _: Config) -> float:
        values = [
            float(value)
            for name, value in row.items()
            if name.startswith(f"{prefix}/") and name.count("/") == 1
        ]
        return choose(values) if values else math.nan

    return measure


def _gaussian(measure: Measure) -> Measure:
    """Leave categorical policies out, which may rightly become certain."""
    return lambda row, config: measure(row, config) if "sigma" in row else math.nan


def _others(row: Row, config: Config) -> float:
    """Of the actions beside the best one, the share that carries weight."""
    if config.mpo.samples < 2:
        return math.nan
    effective = row.get("ess/return", math.nan) * config.mpo.samples
    return (effective - 1) / (config.mpo.samples - 1)


def _unevenness(row: Row, config: Config) -> float:
    """How far the weights are from equal, in units of what the E-step's bound allows."""
    return (1 - row.get("ess/return", math.nan)) / (1 - math.exp(-2 * config.mpo.epsilon))


def _share_of_support(row: Row, config: Config) -> float:
    return abs(row.get("value", math.nan)) / config.support_limit if _categorical(config) else NAN


def _share_of_returns(row: Row, config: Config) -> float:
    """The value beside the largest return that the settings allow, where they set one."""
    if _categorical(config):
        return NAN
    horizon = 1 / (1 - config.mpo.discount) if config.mpo.discount < 1 else NAN
    clipped = config.clip_rewards * horizon if config.clip_rewards else NAN
    largest = config.support_limit if config.scale_rewards else clipped
    return abs(row.get("value", math.nan)) / largest


def _nats_per_critic(row: Row, config: Config) -> float:
    return row.get("loss/critic", math.nan) / config.critics if _categorical(config) else NAN


def _categorical(config: Config) -> bool:
    return config.critic == "categorical"


NAN = math.nan

RULES = (
    Rule(
        name="sigma-collapsed",
        formula="least `sigma/i`",
        measure=_over("sigma", min),
        limit=0.01,
        below=True,
        rows=5,
        healthy="0.05 to 0.5 half action ranges; it falls slowly",
        cause="exploration shrank faster than the critic learnt.",
        cure="a lower epsilon_cov (a tenth), a lower settle_after, or a larger initial_std.",
    ),
    Rule(
        name="sigma-exploding",
        formula="largest `sigma/i`",
        measure=_over("sigma", max),
        limit=2.0,
        rows=5,
        healthy="below 1",
        cause="the critic does not tell actions apart, so that noise widens the policy.",
        cure="a lower epsilon_cov, more critics, or a look at whether rewards depend on actions.",
    ),
    Rule(
        name="temperature-at-bound",
        formula="`temperature/return`",
        measure=_gaussian(_of("temperature/return")),
        limit=1e-5,
        below=True,
        rows=5,
        healthy="above 1e-3, in scaled return",
        cause="no temperature reaches epsilon: the critic sees hardly any difference of actions.",
        cure="scale_rewards, a smaller epsilon, or a look at whether rewards depend on actions.",
    ),
    Rule(
        name="ess-one-action",
        formula="`(N ess/return - 1) / (N - 1)`",
        measure=_gaussian(_others),
        limit=0.1,
        below=True,
        rows=5,
        healthy="above 0.7 with the defaults (`ess/return` near `exp(-2 epsilon)`)",
        cause="a single sampled action carries all the weight in each state.",
        cure="a smaller epsilon, or more samples.",
    ),
    Rule(
        name="ess-all-actions",
        formula="`(1 - ess/return) / (1 - exp(-2 epsilon))`",
        measure=_gaussian(_unevenness),
        limit=0.02,
        below=True,
        rows=10,
        healthy="0.07 and more",
        cause="all actions are worth the same to the critic, so that nothing is learnt.",
        cure="a look at whether rewards ever differ from zero, then a longer learning_starts.",
    ),
    Rule(
        name="kl-runaway",
        formula="largest of `kl/mean`, `kl/cov`, `kl/policy`",
        measure=_over("kl", max),
        limit=5.0,
        rows=3,
        healthy="0.1 to 2.5 times the bound",
        cause="the policy's steps are too long for its trust region.",
        cure="a lower policy_learning_rate, a higher dual_learning_rate, "
        "or a shorter target_period.",
    ),
    Rule(
        name="multiplier-runaway",
        formula="largest of `alpha/mean`, `alpha/cov`, `alpha/policy`",
        measure=_over("alpha", max),
        limit=1e5,
        rows=3,
        healthy="below 1e3",
        cause="the penalty outweighs the likelihood, and the policy stands still or drifts.",
        cure="a lower policy_learning_rate, or a larger epsilon_cov.",
    ),
    Rule(
        name="actions-clipped",
        formula="`rollout/clipped`",
        measure=_of("rollout/clipped"),
        limit=0.95,
        rows=10,
        healthy="below 0.5; bang-bang tasks more",
        cause="the policy's mean lies far outside the box, where the critic sees no difference.",
        cure="a larger epsilon_bounds, or a smaller initial_std.",
    ),
    Rule(
        name="critic-outside-support",
        formula="`|value| / support_limit`, where the critic is categorical",
        measure=_share_of_support,
        limit=0.9,
        rows=5,
        healthy="below 0.5",
        cause="returns are larger than the critic can say.",
        cure="scale_rewards, or a larger support_limit.",
    ),
    Rule(
        name="critic-diverging",
        formula="`|value|` of a scalar critic / the largest return that the settings allow "
        "(`support_limit` with `scale_rewards`, else `clip_rewards / (1 - discount)`)",
        measure=_share_of_returns,
        limit=2.0,
        rows=5,
        healthy="below 1",
        cause="the critic follows its own overestimates.",
        cure="a lower critic_learning_rate, a longer target_period, more pessimism, "
        "or two critics.",
    ),
    Rule(
        name="critic-not-fitting",
        formula="`loss/critic / critics`, nats, where the critic is categorical",
        measure=_nats_per_critic,
        limit=1.0,
        rows=10,
        healthy="below 0.1",
        cause="targets move faster than the critic can follow, or returns have no pattern.",
        cure="a longer target_period, a lower critic_learning_rate, or larger networks (widths).",
    ),
    Rule(
        name="entropy-collapsed",
        formula="`entropy`, nats, of a categorical policy",
        measure=_of("entropy"),
        limit=0.01,
        below=True,
        rows=10,
        healthy="falls slowly from log A; above 0.05 while learning",
        cause="the policy became certain before the critic did.",
        cure="a lower epsilon_policy (a tenth), or a smaller epsilon.",
    ),
)


def documentation() -> str:
    """Return the rules as a page's section each."""
    return "\n".join(
        f"## {rule.name}\n\n"
        f"* Looks at: {rule.formula}.\n"
        f"* Warns: {'below' if rule.below else 'above'} {rule.limit:g} in {rule.rows} rows of "
        f"metrics on end. Healthy: {rule.healthy}.\n"
        f"* Likely cause: {rule.cause}\n"
        f"* Try: {rule.cure}\n"
        for rule in RULES
    )


if __name__ == "__main__":
    print(documentation(), end="")
