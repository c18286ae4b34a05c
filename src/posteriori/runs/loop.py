"""The loop of a training run: collect, learn, report, evaluate, save."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv

from posteriori.experience.collect import Episode, NonFinite
from posteriori.experience.envs import EnvLike, environment_name, make_reference, make_vector
from posteriori.models.actor import Actor
from posteriori.models.scaling import Scaling
from posteriori.runs import artifacts, checkpoint
from posteriori.runs.assemble import TorsoFactory, assemble, describe
from posteriori.runs.config import Config
from posteriori.runs.evaluate import PARALLEL, Evaluation, GreedyPolicy, run_episodes
from posteriori.runs.folder import RunFolder, write_atomically
from posteriori.runs.gathering import Gathering, Progress
from posteriori.runs.learner import Learner
from posteriori.runs.sinks import Row, Sink

REPORT_EVERY = 1_000  # environment steps between rows of metrics
# Of the evaluations on the way: the same episodes each time, none that training began with.
EVALUATION_SEED = 1_000_000


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
        *,
        seed: int,
    ):
        envs = make_vector(env, num_envs=config.envs, seed=seed, backend=config.backend)
        self.name = environment_name(env)
        agent = assemble(
            config, envs.single_observation_space, envs.single_action_space, self.name, torso
        )
        self.config = config
        self.envs = envs
        self.evaluation_env = env if evaluation_env is None else evaluation_env
        self.reference = make_reference(
            self.evaluation_env, num_envs=min(PARALLEL, config.evaluate_episodes)
        )
        self.learner = Learner(agent)
        self.gathering = Gathering(config, envs, agent.actions.size, seed)
        self.steps = self.episodes = 0
        self.seconds = 0.0
        self.recent: list[Episode] = []
        self.clipped: list[float] = []
        self.best: Evaluation | None = None

    def run(self, folder: RunFolder, sinks: Sequence[Sink], stopped: Callable[[], bool]) -> None:
        """Train to the last step; `stopped` ends it by KeyboardInterrupt, with the run saved."""
        self.folder, self.sinks = folder, sinks
        self.began = time.perf_counter() - self.seconds
        self.reported = (self.steps, self.learner.updates, self.seconds)
        self.saved = self.steps  # nothing is new until a step is done
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
            self.clipped.append(self.gathering.collector.clipped)
            self._at_intervals(before)
            if stopped():
                self._finish()
                raise KeyboardInterrupt
        self._finish()

    def restore(self, parts: Mapping[str, checkpoint.Arrays], meta: Mapping, seed: int) -> None:
        """Go on from a checkpoint; unfinished episodes are closed as truncated."""
        self.learner.restore(checkpoint.unflatten(self.learner.state, parts["learner"]))
        self.gathering.restore(parts["gathering"], parts["replay"])
        self.gathering.interrupt(seed)
        self.steps, self.episodes, self.seconds = meta["steps"], meta["episodes"], meta["seconds"]
        self.best = Evaluation(**meta["best"]) if meta["best"] else None

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
        for every, do in (
            (REPORT_EVERY, self._report),
            (config.evaluate_every, self._evaluate),
            (config.video_every, self._film),
            (config.checkpoint_every, self._save),
        ):
            if every and self.steps // every > before // every:
                do()

    def _learn(self, done: int, scaling: Scaling) -> int:
        """Dispatch the updates that are due; return how many."""
        due = (self.steps - self.config.learning_starts) // self.config.steps_per_update - done
        for n in range(due):
            batch = self.gathering.sample()
            if batch is None:
                return n
            self.learner.update(batch, scaling)
        return max(due, 0)

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

    def _evaluate(self) -> None:
        result = self._run_episodes(self.reference, self.config.evaluate_episodes, EVALUATION_SEED)
        if self.best is None or result.mean > self.best.mean:
            self.best = result
            self._save_policy(self.folder.checkpoints / "best")
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
        artifacts.film(GreedyPolicy(self.actor()), self.evaluation_env, out)

    def final(self) -> Evaluation | None:
        """Evaluate the last policy on fresh episodes; None if the settings want none."""
        episodes = self.config.final_episodes
        if not episodes:
            return None
        envs = make_reference(self.evaluation_env, num_envs=min(PARALLEL, episodes))
        try:
            result = self._run_episodes(envs, episodes, seed=0)
        finally:
            envs.close()
        text = json.dumps(result.to_json(), indent=2) + "\n"
        write_atomically(self.folder.final, text.encode())
        names = ("mean", "std", "min", "max")
        self._emit({f"final/{name}": getattr(result, name) for name in names})
        return result

    def _run_episodes(self, envs: VectorEnv, episodes: int, seed: int) -> Evaluation:
        policy = GreedyPolicy(self.actor())
        return run_episodes(policy, envs, env=self.name, episodes=episodes, seed=seed)

    def _emit(self, metrics: Row) -> None:
        for sink in self.sinks:
            sink(self.steps, metrics)

    def _save(self) -> None:
        folder = self.folder.checkpoints / f"{self.steps:010d}"
        parts = {
            "learner": checkpoint.flatten(self.learner.state),
            "replay": self.gathering.replay_arrays(),
            "gathering": self.gathering.arrays(),
        }
        self._save_policy(folder, parts)
        checkpoint.keep_only(self.folder.checkpoints, folder)
        self.saved = self.steps

    def _save_policy(
        self, folder: Path, parts: Mapping[str, checkpoint.Arrays] | None = None
    ) -> None:
        meta = {
            "env": self.name,
            "steps": self.steps,
            "episodes": self.episodes,
            "seconds": time.perf_counter() - self.began,
            "best": self.best.to_json() if self.best else None,
            "spaces": describe(self.envs.single_observation_space, self.envs.single_action_space),
        }
        checkpoint.write(
            folder, {"policy": checkpoint.flatten(self.actor()), **(parts or {})}, meta
        )
