"""What settings ask of the machine's memory: refused before it is taken, where it has less.

Sizes are the least that can be needed: what is refused could not have worked.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from posteriori.experience.noise import BLOCK

if TYPE_CHECKING:
    from posteriori.runs.config import Config

NUMBER = 4  # bytes of a float32
COPIES = 4  # of the networks: online and target ones, and Adam's two moments
IN_PROCESS, APART = 1_000, 30_000_000  # bytes of an environment: Python's smallest; a process of it
NOISE = 16 * BLOCK  # bytes of an action entry's exploration noise while it is drawn


class TooLarge(ValueError):
    """Settings that need more memory than there is."""


class Demand(NamedTuple):
    """Bytes that are needed at least, for what, and the settings that say so."""

    size: int
    what: str
    settings: tuple[str, ...]


def check_run(config: "Config", obs_size: int = 1, action_size: int = 1) -> None:
    """Refuse a run that the machine cannot hold.

    Args:
        config: Its settings.
        obs_size: Entries of an observation; the least, while the environment is not known.
        action_size: Entries of an action, likewise.

    Raises:
        TooLarge: It needs more memory than there is; the message names the setting to lower.
    """
    _refuse(config, run_demands(config, obs_size, action_size), row_size(obs_size, action_size))


def check_policy(config: "Config", obs_size: int, action_size: int) -> None:
    """Refuse networks that the machine cannot hold; raises as `check_run`."""
    _refuse(config, [_networks(config, obs_size, action_size)])


def run_demands(config: "Config", obs_size: int, action_size: int) -> list[Demand]:
    """Return what a run needs."""
    row = row_size(obs_size, action_size)
    widest = max(*config.widths, config.support_points if config.critic == "categorical" else 1)
    states = config.batch_size * config.mpo.samples  # of which the critics are asked at a time
    each = (APART if config.backend == "subprocess" else IN_PROCESS) + NOISE * action_size
    return [
        Demand(config.replay_size * row, "replay", ("replay_size",)),
        _networks(config, obs_size, action_size),
        Demand(NUMBER * states * widest, "an update", ("batch_size", "samples", "widths")),
        Demand(config.batch_size * (config.n_step + 1) * row, "a batch", ("batch_size", "n_step")),
        Demand(config.envs * each, "environments", ("envs", "backend")),
    ]


def row_size(obs_size: int, action_size: int) -> int:
    """Return the bytes of a row of replay: observation, action, reward, discount, validity."""
    return NUMBER * (obs_size + action_size + 2) + 1


def machine_memory() -> int | None:
    """Return the bytes that this machine, or this container, has; None where nothing says so."""
    sizes = []
    with suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroups 2 and 1
        with suppress(OSError, ValueError):
            sizes.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(sizes, default=None)


def _networks(config: "Config", obs_size: int, action_size: int) -> Demand:
    full = action_size + action_size * (action_size + 1) // 2
    answer = {"diagonal": 2 * action_size, "full": full}.get(config.policy, action_size)
    policy = _parameters([obs_size, *config.widths, answer])
    points = config.support_points if config.critic == "categorical" else 1
    critic = _parameters([obs_size + action_size, *config.widths, points])
    size = NUMBER * COPIES * (policy + config.critics * critic)
    what = f"networks for observations of {obs_size:,} and actions of {action_size:,} numbers"
    return Demand(size, what, ("widths", "critics"))


def _parameters(sizes: Sequence[int]) -> int:
    """Return the weights and biases of layers between such numbers of units."""
    return sum((before + 1) * after for before, after in pairwise(sizes))


def _refuse(config: "Config", demands: Sequence[Demand], row: int = 0) -> None:
    have, need = machine_memory(), sum(demand.size for demand in demands)
    if have is None or need <= have:
        return
    size, what, names = max(demands)
    given = {name: getattr(config, name, getattr(config.mpo, name, None)) for name in names}
    told = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in given.items())
    cure = f"Lower {' or '.join(names)}."
    if what == "replay":
        cure = f"Lower replay_size: {have // 2 // row:,} rows would take half of the memory."
    raise TooLarge(
        f"settings must fit into the memory of this machine, {_text(have)}, but these need at "
        f"least {_text(need)}, {_text(size)} of it for {what} ({told}). {cure}"
    )


def _text(size: int) -> str:
    return f"{size >> 30:,} GiB" if size >> 30 >= 10 else f"{size >> 20:,} MiB"
