"""The experiments: which cells {method} x {task} x {seed} each of them holds, as data.

Nothing here but the centre of a sweep repeats a default of the library: a variant names what it
changes, by the flags of `posteriori train`. The settings of peers are in `peers.toml`.
"""

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from posteriori import PRESETS

WALKER, HARDCORE = "BipedalWalker-v3", "BipedalWalkerHardcore-v3"
CAR = "MountainCarContinuous-v0"
OURS, RANDOM = "posteriori", "random"
TORCH = ("sb3-sac", "sb3-tqc", "sb3-ppo", "sb3-trpo")
JAX = ("sbx-sac", "sbx-tqc", "sbx-crossq")
RLOX = "rlox-mpo"
PEERS = tomllib.loads((Path(__file__).parent / "peers.toml").read_text())

# Environment steps, and steps between evaluations. The two small tasks are trained as long as RL
# Baselines3 Zoo trains SAC on them; the MuJoCo tasks a tenth of the usual million.
TASKS = {
    "Pendulum-v1": (20_000, 1_000),
    CAR: (50_000, 2_500),
    "HalfCheetah-v5": (100_000, 10_000),
    "Walker2d-v5": (100_000, 10_000),
}
# Likewise, of tasks that no setting was chosen by, nor looked at before.
UNSEEN = {
    "InvertedDoublePendulum-v5": (20_000, 2_000),
    "Reacher-v5": (20_000, 2_000),
    "LunarLanderContinuous-v3": (100_000, 10_000),
    "Hopper-v5": (100_000, 10_000),
    "Ant-v5": (100_000, 10_000),
}
# Where also runs that a lent machine had no time to end can be compared.
EARLY, EARLY_STEP = ("HalfCheetah-v5", "Walker2d-v5"), 40_000
FACTORS = (0.1, 0.32, 1.0, 3.2, 10.0)  # two decades
PERIODS = (0.3, 1.0, 3.0)
BOUNDS = ("epsilon", "epsilon_mean", "epsilon_cov")
# Of the sweep of the bounds, by preset. Absolute, so that its rows outlive the defaults that were
# chosen from them; the tutorial's are its own.
CENTRES: dict[str, dict[str, float]] = {
    "default": {
        "epsilon": 0.1,
        "epsilon_mean": 0.0025,
        "epsilon_cov": 1e-5,
        "target_period": 100,
    },
    "tutorial": {
        name: getattr(PRESETS["tutorial"].mpo, name) for name in (*BOUNDS, "target_period")
    },
}
# The tutorial's settings learn later, and its one environment is slow to step: eight here.
EPSILON_STEPS = {"default": (100_000, 10_000), "tutorial": (300_000, 50_000)}
EPSILON_FLAGS = {"default": (), "tutorial": ("--envs=8",)}
NOISES = {"white": "0", "between white and pink": "0.5", "red": "2"}  # the default's is pink
# Steps, and steps between evaluations: long enough for the walker to walk, or not.
EXPLORATION = {WALKER: (100_000, 10_000), CAR: TASKS[CAR]}
# Less than half as long as others, for there are many: long enough to pass 300, and to settle.
ABLATION_STEPS = 80_000
ABLATIONS = {
    "mean critic": ("--critic", "scalar"),
    "raw rewards": ("--no-scale-rewards",),
    "raw observations": ("--no-normalise-observations",),
    "1-step": ("--n-step", "1"),
    "5-step": ("--n-step", "5"),
    "half the updates": ("--steps-per-update", "2"),
    "one critic": ("--critics", "1"),
    "no pessimism": ("--pessimism", "0"),
    "half pessimism": ("--pessimism", "0.5"),
    "full pessimism": ("--pessimism", "1"),
    "no weight decay": ("--critic-weight-decay", "0"),
    "learning rates of 3e-4": ("--policy-learning-rate", "3e-4", "--critic-learning-rate", "3e-4"),
    "never settling": ("--settle-after", "0"),
    "weak preference for the box": ("--epsilon-bounds", "0.001"),
    "full covariance": ("--policy", "full"),
    "51 support points": ("--support-points", "51"),
    "5 actions": ("--samples", "5"),
}
# Of the default of before; what differs from it in one of these is none of its ablations.
SLOW = ("--policy-learning-rate", "3e-4", "--critic-learning-rate", "3e-4")
SLOW += ("--critic-weight-decay", "0", "--pessimism", "0")
# Crossed with each other in `candidates`; absolute, as the centres are.
LEARNING = {
    "slow": (3e-4, 3e-4, 0.0),  # the default until then
    "decay": (3e-4, 3e-4, 0.1),
    "fast decay": (9e-4, 7e-4, 0.043),
}
RATES = ("policy-learning-rate", "critic-learning-rate", "critic-weight-decay")
PESSIMISM = {"": 0.0, "quarter pessimism": 0.25, "half pessimism": 0.5}
WIDER = ("--widths", "256", "256")
HORIZONS = (0.995, 0.9975)  # beside the default's discount
PARTS = ("no layer norm", "temperature by Adam")  # in `parts.py`: the library has no flags for them


@dataclass(frozen=True)
class Cell:
    """One training run.

    Args:
        experiment: Its name.
        task: A Gymnasium id.
        method: One of the methods of `peers.toml`, "posteriori" or "random".
        variant: What tells it from the method as it is; empty for that.
        seed: Of the whole run.
        steps: Environment steps.
        evaluate_every: Environment steps between evaluations.
        settings: Flags of `posteriori train`.
        part: One of `PARTS`; empty for the library's own.
        milestone: Steps, of ours, whose evaluation has as many episodes as that at the end.
        begins: Experiment of ours whose finished run of the same name it goes on with, where there
            is one: what a run does until then must not depend on its length.
    """

    experiment: str
    task: str
    method: str
    variant: str = ""
    seed: int = 0
    steps: int = 200_000
    evaluate_every: int = 10_000
    settings: tuple[str, ...] = ()
    part: str = ""
    milestone: int = 0
    begins: str = ""

    @property
    def name(self) -> str:
        """Of its files, within the experiment."""
        parts = (self.task, self.method, self.variant.replace(" ", "-").replace("*", ""))
        return "_".join([*filter(None, parts), f"seed{self.seed}"])

    @property
    def described(self) -> str:
        """Its settings, as its rows name them."""
        if self.method == OURS:
            return " ".join((*self.settings, *filter(None, [self.part])))
        return json.dumps(tuned(self.method, self.task))

    def to_json(self) -> str:
        """Return it as text, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Cell":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"settings": tuple(values["settings"])})


def tuned(method: str, task: str) -> dict[str, Any]:
    """Return a peer's tuned settings for a task; none if it has its own defaults there."""
    table = PEERS["methods"].get(method, {}).get("settings")
    return PEERS.get(table, {}).get(task, {})


def label(method: str) -> str:
    """Return a method's name for readers."""
    return PEERS["methods"].get(method, {}).get("label", method.capitalize())


def walker() -> Iterator[Cell]:
    """The default on BipedalWalker-v3: 200,000 steps, as everybody else makes, and beyond."""
    yield Cell("walker", WALKER, OURS, steps=300_000, milestone=200_000)


def tutorial() -> Iterator[Cell]:
    """The settings of the tutorial that the library began from; set beside `walker`."""
    flags = ("--preset=tutorial",)
    yield Cell("tutorial", WALKER, OURS, "tutorial", 0, 600_000, 20_000, flags)


def peers() -> Iterator[Cell]:
    """Everybody else on BipedalWalker-v3; set beside `walker`."""
    for method in (*JAX, *TORCH):
        yield Cell("peers", WALKER, method)
    # Few steps, for it is slower than the others by more than that (`speed.py`).
    yield Cell("peers", WALKER, RLOX, steps=20_000, evaluate_every=2_000)


def clock() -> Iterator[Cell]:
    """The default and who else returns 300 soon, on one machine, for the wall-clock until then."""
    for method in (OURS, "sbx-tqc", "sbx-sac"):
        yield Cell("clock", WALKER, method, steps=120_000)


def long() -> Iterator[Cell]:
    """The runs of `walker` to a million steps, and wider networks with an update in four steps."""
    for cell in walker():
        yield replace(cell, experiment="long", steps=1_000_000, begins=cell.experiment)
    fewer = ("--steps-per-update", "4")
    variants = {
        "4 steps an update of 256 units": (25_000, 200_000, (*fewer, *WIDER)),
        "4 steps an update of 256 units and clipped rewards": (
            50_000,
            0,
            (*fewer, "--clip-rewards=1", *WIDER, "--samples=5", "--settle-after=100000"),
        ),
    }
    for name, (every, milestone, flags) in variants.items():
        yield Cell(
            "long",
            WALKER,
            OURS,
            name,
            steps=1_000_000,
            evaluate_every=every,
            settings=flags,
            milestone=milestone,
        )


def tasks() -> Iterator[Cell]:
    """One default for many tasks; the random policy is the zero of the scores."""
    for (task, (steps, every)), method in product(TASKS.items(), (OURS, *JAX, RANDOM)):
        yield Cell("tasks", task, method, steps=steps, evaluate_every=every)


def unseen() -> Iterator[Cell]:
    """The default on tasks that had no part in its choice, beside SAC."""
    for (task, (steps, every)), method in product(UNSEEN.items(), (OURS, "sbx-sac", RANDOM)):
        yield Cell("unseen", task, method, steps=steps, evaluate_every=every)


def updates() -> Iterator[Cell]:
    """Several steps an update, and with the time saved wider networks; set beside `walker`."""
    for steps in (2, 4):
        flags = ("--steps-per-update", str(steps))
        yield Cell("updates", WALKER, OURS, f"{steps} steps an update", settings=flags)
    flags = ("--steps-per-update", "2", *WIDER)
    yield Cell("updates", WALKER, OURS, "2 steps an update of 256 units", settings=flags)
    flags = ("--steps-per-update", "4", "--clip-rewards", "1")
    yield Cell("updates", WALKER, OURS, "4 steps an update of clipped rewards", settings=flags)


def epsilon() -> Iterator[Cell]:
    """Each bound over two decades, crossed with the target period, around both centres.

    The centres' own target period comes first: a sweep that was stopped there is one already.
    """
    own_first = sorted(PERIODS, key=lambda period: period != 1)
    for preset, period, bound, factor in product(CENTRES, own_first, BOUNDS, FACTORS):
        if factor == 1 and bound != BOUNDS[0]:
            continue  # the same run as that of the first bound
        at = point(preset, bound, factor, period)
        flags = [f"--{name.replace('_', '-')}={value:g}" for name, value in at.items()]
        settings = (f"--preset={preset}", *EPSILON_FLAGS[preset], *flags)
        variant, steps = grid_point(preset, bound, factor, period), EPSILON_STEPS[preset]
        yield Cell("epsilon", WALKER, OURS, variant, 0, *steps, settings)


def point(preset: str, bound: str, factor: float, period: float) -> dict[str, float]:
    """Return the settings at a point of the grid, given as multiples of its centre's."""
    changed = {bound: factor, "target_period": period}
    return {name: value * changed.get(name, 1) for name, value in CENTRES[preset].items()}


def grid_point(preset: str, bound: str, factor: float, period: float) -> str:
    """Name a variant of `epsilon`: what differs from the centre, as multiples."""
    changed = {bound: factor, "target_period": period}
    return " ".join([preset, *(f"{k}*{v:g}" for k, v in changed.items() if v != 1)])


def exploration() -> Iterator[Cell]:
    """The colour of the noise, where it matters; set beside `walker` and `tasks`."""
    for (task, (steps, every)), (name, exponent) in product(EXPLORATION.items(), NOISES.items()):
        flags = ("--noise-exponent", exponent)
        yield Cell("exploration", task, OURS, name, 0, steps, every, flags)


def ablations() -> Iterator[Cell]:
    """The default without or with another of each of its ingredients; set beside `walker`.

    White noise is in `exploration`.
    """
    for variant, flags in ABLATIONS.items():
        yield Cell("ablations", WALKER, OURS, variant, steps=ABLATION_STEPS, settings=flags)
    for part in PARTS:
        yield Cell("ablations", WALKER, OURS, part, steps=ABLATION_STEPS, part=part)


def slow_ablations() -> Iterator[Cell]:
    """The same of the default of before."""
    of_before = Cell("slow-ablations", WALKER, OURS, steps=ABLATION_STEPS, settings=SLOW)
    yield of_before
    yield replace(
        of_before, variant="white noise", settings=(*SLOW, "--noise-exponent", NOISES["white"])
    )
    for cell in ablations():
        if not {*SLOW[::2]} & {*cell.settings}:
            yield replace(cell, experiment=of_before.experiment, settings=(*SLOW, *cell.settings))


def candidates() -> Iterator[Cell]:
    """How critics learn, crossed with how far they are believed; twelve seeds, for falls vary."""
    for (learning, values), (name, pessimism) in product(LEARNING.items(), PESSIMISM.items()):
        flags = [f"--{k}={v:g}" for k, v in zip(RATES, values, strict=True)]
        settings = (*flags, f"--pessimism={pessimism:g}")
        variant = f"{learning} {name}".strip()
        yield Cell("candidates", WALKER, OURS, variant, steps=175_000, settings=settings)


def discounts() -> Iterator[Cell]:
    """Longer horizons, beside the default's."""
    changes = [(f"discount {x:g}", ("--discount", f"{x:g}")) for x in HORIZONS]
    for variant, flags in [("", ()), *changes]:
        yield Cell("discounts", WALKER, OURS, variant, steps=300_000, settings=flags)


def hardcore() -> Iterator[Cell]:
    """A long run on the hard version, with the task's own reward; the best published has 2M steps.

    An update in two steps: the ground is another in every episode, and steps are cheap. The policy
    settles after eight times as many updates as by default, and its covariance moves at a third of
    the speed until then. No pessimism: it costs early returns, and here it is long before there are
    any.
    """
    flags = ("--steps-per-update", "2", "--pessimism", "0")
    flags += ("--settle-after", "400000", "--epsilon-cov", "1e-6")
    flags += ("--checkpoint-every", "50000")  # its replay is large
    yield Cell(
        "hardcore",
        HARDCORE,
        OURS,
        steps=3_000_000,
        evaluate_every=50_000,
        settings=flags,
        milestone=2_000_000,
    )


# By name: the cells of one seed, and the seeds.
EXPERIMENTS: dict[str, tuple[Callable[[], Iterator[Cell]], range]] = {
    "walker": (walker, range(5)),
    "tutorial": (tutorial, range(1)),
    "long": (long, range(3)),
    "peers": (peers, range(5)),
    "clock": (clock, range(3)),
    "tasks": (tasks, range(5)),
    "unseen": (unseen, range(3)),
    "updates": (updates, range(5)),
    "epsilon": (epsilon, range(2)),
    "exploration": (exploration, range(3)),
    "ablations": (ablations, range(3)),
    "slow-ablations": (slow_ablations, range(3)),
    "candidates": (candidates, range(12)),
    "discounts": (discounts, range(12, 24)),  # other seeds than the default was chosen by
    "hardcore": (hardcore, range(2)),
}


def cells(experiment: str, seeds: Iterable[int] | None = None) -> list[Cell]:
    """Return the cells of an experiment, seed by seed, so that a half-run one has whole seeds.

    Args:
        experiment: Its name.
        seeds: Other ones than it declares.
    """
    make, declared = EXPERIMENTS[experiment]
    return [replace(cell, seed=seed) for seed in seeds or declared for cell in make()]
