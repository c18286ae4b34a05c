"""The loop of a training run: collect, learn, report, evaluate, save."""

import json
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from posteriori.experience.collect import Episode, NonFinite
from posteriori.experience.envs import EnvLike, environment_name, make_reference, make_vector
from posteriori.experience.faults import Patience, announce
from posteriori.experience.spaces import flat_size
from posteriori.models.actions import Preference
from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling
from posteriori.runs import artifacts
from posteriori.runs.arrays import flatten
from posteriori.runs.assemble import TorsoFactory, assemble
from posteriori.runs.checkpoint import Arrays, CheckpointError
from posteriori.runs.config import Config
from posteriori.runs.estimate import Estimate
from posteriori.runs.evaluate import PARALLEL, Evaluation, run_episodes
from posteriori.runs.folder import RunFolder, write_atomically
from posteriori.runs.gathering import Gathering, Progress
from posteriori.runs.health import Health
from posteriori.runs.journal import Journal
from posteriori.runs.learner import Learner
from posteriori.runs.memory import check_run
from posteriori.runs.notices import warn
from posteriori.runs.policy import GreedyPolicy
from posteriori.runs.saving import save
from posteriori.runs.segments import Segments
from posteriori.runs.sinks import Row, Sink

CLOSED = "Its unfinished episode is closed as truncated, and not counted."
REPORT_EVERY = 1_000  # environment steps between rows of metrics
# Of the evaluations on the way: the same episodes each time, none that training began with.
EVALUATION_SEED = 1_000_000


class Stopped(Exception):
    """Somebody has asked to stop."""


class Loop:
    """One process: with the same seed, the same metrics.

    An update needs nothing of the step that follows it, and a step acts with the policy before the
    updates in flight, so that host and device work at the same time.
    """

    def __init__(
        self,
        env: EnvLike,
        config: Config,
        evaluation_env: EnvLike | None,
        torso: TorsoFactory | None,
        preferences: Mapping[str, Preference] | None = None,
        *,
        seed: int,
    ):
        self.patience = Patience(config.env_restarts, config.env_timeout)
        check_run(config)
        envs = make_vector(
            env, num_envs=config.envs, seed=seed, backend=config.backend, patience=self.patience
        )
        self.name = environment_name(env)
        spaces = envs.single_observation_space, envs.single_action_space
        check_run(config, *map(flat_size, spaces))
        agent = assemble(config, *spaces, self.name, torso, preferences)
        self.config = config
        self.envs = envs
        self.evaluation_env = env if evaluation_env is None else evaluation_env
        self.reference = self._reference(config.evaluate_episodes)
        self.learner = Learner(agent)
        self.gathering = Gathering(config, envs, agent.actions.size, seed)
        self.segments = Segments(self.gathering.replay)
        self.steps = self.episodes = self.evaluated = 0
        self.seconds = 0.0
        self.recent: list[Episode] = []
        self.clipped: list[float] = []
        self.best: Evaluation | None = None
        self.best_policy: dict[str, Arrays] = {}
        self.stopped: Callable[[], bool] = lambda: False
        self.health, self.journal = Health(config), Journal()

    def run(self, folder: RunFolder, sinks: Sequence[Sink], stopped: Callable[[], bool]) -> None:
        """Train to the last step.

        Raises:
            Stopped: When `stopped` says so; the run is saved.
        """
        self.folder, self.sinks, self.stopped = folder, sinks, stopped
        self.journal.listen(sinks)
        self.began = time.perf_counter() - self.seconds
        self.reported = (self.steps, self.learner.updates, self.seconds)
        self.saved = self.steps  # nothing is new until a step is done
        announce(self.gathering.collector.restarts, CLOSED, self._tell)
        try:
            self._evaluate_if_due()
            self._train()
        except Stopped:
            self._finish()
            raise
        self._finish()

    def _train(self) -> None:
        actor = self.actor()
        updates = self.learner.updates
        while self.steps < self.config.steps:
            scaling = self.gathering.scaling()
            updates += self._learn(updates, scaling)
            before = self.steps
            progress = self._step(actor)
            actor = self.learner.actor(scaling)
            self.steps += progress.transitions
            self.episodes += len(progress.episodes)
            self.recent += progress.episodes
            announce(progress.restarts, CLOSED, self._tell)
            self.clipped.append(self.gathering.collector.clipped)
            self._at_intervals(before)
            self._stop_if_asked()

    def actor(self) -> Actor:
        """Return the policy as it is now."""
        return self.learner.actor(self.gathering.scaling())

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()
        self.reference.close()

    def _at_intervals(self, before: int) -> None:
        """Do what is due since the step count was `before`."""
        config = self.config
        # The last row comes before the last checkpoint, which then vouches for it.
        ending = self.steps >= config.steps or self.stopped()
        if ending or self.steps // REPORT_EVERY > before // REPORT_EVERY:
            self._report()
        for every, do in (
            (config.evaluate_every, self._evaluate),
            (config.video_every, self._film),
            (config.checkpoint_every, self._try_to_save),
        ):
            if every and self.steps // every > before // every:
                do()

    def _evaluate_if_due(self) -> None:
        """Evaluate where a stop cut an evaluation short."""
        every = self.config.evaluate_every
        if every and self.steps // every > self.evaluated // every:
            self._evaluate()

    def _stop_if_asked(self) -> None:
        if self.stopped():
            raise Stopped

    def _learn(self, done: int, scaling: Scaling) -> int:
        """Dispatch the updates that are due; return how many."""
        due = (self.steps - self.config.learning_starts) // self.config.steps_per_update - done
        for n in range(due):
            batch = self.gathering.sample()
            if batch is None:
                return n
            self.learner.update(batch, scaling)
        return max(due, 0)

    def _tell(self, name: str, text: str) -> None:
        self.journal.tell(self.steps, name, text)

    def _step(self, actor: Actor) -> Progress:
        try:
            return self.gathering.step(actor)
        except NonFinite:
            self.learner.metrics()  # raises if the cause is the policy, and not the environment
            raise

    def _finish(self) -> None:
        """Report and save what has not been."""
        if self.steps > self.reported[0]:
            self._report()
        if self.steps > self.saved:
            self._save()

    def _report(self) -> None:
        metrics = self.learner.metrics()
        self.seconds = time.perf_counter() - self.began
        steps, updates, seconds = self.reported
        elapsed = max(self.seconds - seconds, 1e-9)
        self.reported = (self.steps, self.learner.updates, self.seconds)
        metrics |= {
            "progress/episodes": self.episodes,
            "progress/updates": self.learner.updates,
            "progress/seconds": self.seconds,
            "speed/steps": (self.steps - steps) / elapsed,
            "speed/updates": (self.learner.updates - updates) / elapsed,
            "scale/reward": self.gathering.unit.value() if self.config.scale_rewards else 1.0,
            "rollout/clipped": float(np.mean(self.clipped)),
        }
        self.clipped = []
        if self.recent:
            metrics["rollout/return"] = float(np.mean([e.total for e in self.recent]))
            metrics["rollout/length"] = float(np.mean([e.length for e in self.recent]))
            self.recent = []
        self._emit(metrics)
        for name, text in self.health.check(metrics):
            if not self.journal.told(name):
                self._tell(name, text)

    def _evaluate(self) -> None:
        result = self._run_episodes(self.reference, self.config.evaluate_episodes, EVALUATION_SEED)
        if self.best is None or result.mean > self.best.mean:
            self.best = result
            self.best_policy = {"best": flatten(self.actor())}
        self.evaluated = self.steps
        self._emit(
            {
                "evaluation/mean": result.mean,
                "evaluation/std": result.std,
                "evaluation/min": result.min,
                "evaluation/max": result.max,
                "evaluation/length": float(np.mean(result.lengths)),
                "evaluation/best": self.best.mean,
            }
        )

    def _film(self) -> None:
        out = self.folder.videos / f"{self.steps:010d}.mp4"
        artifacts.film(GreedyPolicy(self.actor()), self.evaluation_env, out, self.overlay_value())

    def overlay_value(self) -> Estimate | None:
        """Return the value that videos show; None if the settings want none."""
        wanted = self.config.video_overlay
        return Estimate(self.actor(), self.learner.critic()) if wanted else None

    def final(self) -> Evaluation | None:
        """Evaluate the last policy on fresh episodes; None if the settings want none."""
        episodes = self.config.final_episodes
        if not episodes:
            return None
        envs = self._reference(episodes)
        try:
            result = self._run_episodes(envs, episodes, seed=0)
        finally:
            envs.close()
        text = json.dumps(result.to_json(), indent=2) + "\n"
        try:
            write_atomically(self.folder.final, text.encode())
        except OSError as error:
            warn(f"{error}. `posteriori evaluate {self.folder.path}` repeats the evaluation.")
        names = ("mean", "std", "min", "max")
        self._emit({f"final/{name}": getattr(result, name) for name in names})
        return result

    def _reference(self, episodes: int) -> VectorEnv:
        return make_reference(
            self.evaluation_env,
            num_envs=min(PARALLEL, episodes),
            backend=self.config.backend,
            patience=self.patience,
        )

    def _run_episodes(self, envs: VectorEnv, episodes: int, seed: int) -> Evaluation:
        greedy = GreedyPolicy(self.actor())

        def policy(obs: NDArray) -> NDArray:
            self._stop_if_asked()
            return greedy(obs)

        return run_episodes(
            policy, envs, env=self.name, episodes=episodes, seed=seed, tell=self._tell
        )

    def _emit(self, metrics: Row) -> None:
        for sink in self.sinks:
            sink(self.steps, metrics)

    def _try_to_save(self) -> None:
        """Save; where the disk refuses it, warn and leave it to the next interval."""
        try:
            self._save()
        except CheckpointError as error:
            every = self.config.checkpoint_every
            warn(f"step {self.steps:,}: {error} Training goes on; next try {every:,} steps later.")

    def _save(self) -> None:
        save(self)
        self.saved = self.steps
