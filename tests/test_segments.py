"""Segments: whatever was saved when, what is restored is what the ring held."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from posteriori.experience.replay import Ring, Rows
from posteriori.runs.checkpoint import Arrays, CheckpointError
from posteriori.runs.segments import Segments

ENVS, SHARE = 3, 7


def ring(share: int = SHARE, envs: int = ENVS) -> Ring:
    return Ring(share * envs, envs, obs_size=2, action_size=1, window=2, batch=4)


def add(store: Ring, steps: int, rng: np.random.Generator) -> None:
    """Add rows of random environments, each telling its environment and number."""
    for _ in range(steps):
        env = np.flatnonzero(rng.random(ENVS) < 0.7)
        number = store.added[env].astype(np.float32)
        obs = np.stack([env.astype(np.float32), number], axis=-1)
        valid = np.ones(env.size, bool)
        store.add(Rows(env, obs, -number[:, None], 10 * number, number % 2, valid))


class Disk:
    """Stands for a run's checkpoints: the parts of the newest, by name."""

    def __init__(self, folder: Path):
        self.folder, self.parts, self.sums = folder, {}, {}

    def save(self, segments: Segments, step: int) -> dict[str, Arrays]:
        """Save what is new; return it."""
        links, rows = segments.links(), segments.rows(step)
        self.parts = {name: self.parts[name] for name in links} | rows
        for name, arrays in rows.items():
            data = save(arrays)
            (self.folder / f"{name}.safetensors").write_bytes(data)
            self.sums[name] = hashlib.sha256(data).hexdigest()
        self.sums = {name: self.sums[name] for name in self.parts}
        segments.written(self.folder, self.sums, rows)
        return rows

    def load(self, store: Ring) -> bool:
        """Fill a ring; return whether all is there."""
        return Segments(store).restore(self.folder, self.sums, self.parts)


def held(store: Ring) -> list[NDArray]:
    """Return the numbers of the rows that each environment has, the oldest first."""
    rows = store.since(np.zeros(ENVS, np.int64))
    return np.split(rows["obs"][:, 1], np.cumsum(rows["last"] - rows["first"])[:-1])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), pauses=st.lists(st.integers(0, 15), min_size=1, max_size=8))
def test_what_is_restored_is_what_the_ring_held(
    tmp_path_factory: pytest.TempPathFactory, seed: int, pauses: list[int]
) -> None:
    rng, disk = np.random.default_rng(seed), Disk(tmp_path_factory.mktemp("disk"))
    store = ring()
    segments = Segments(store)
    for step, pause in enumerate(pauses):
        add(store, pause, rng)
        disk.save(segments, step)
        again = ring()
        assert disk.load(again)
        np.testing.assert_array_equal(again.added, store.added)
        for mine, theirs in zip(again.rows, store.rows, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_only_new_rows_are_written_and_old_files_are_let_go(tmp_path: Path) -> None:
    rng, disk, store = np.random.default_rng(0), Disk(tmp_path), ring()
    segments = Segments(store)
    add(store, 4, rng)
    first = disk.save(segments, 1)
    assert len(first["replay-0000000001"]["valid"]) == store.added.sum()
    before = store.added.copy()
    add(store, 3, rng)
    second = disk.save(segments, 2)
    np.testing.assert_array_equal(second["replay-0000000002"]["first"], before)
    assert set(disk.parts) == {"replay-0000000001", "replay-0000000002"}
    add(store, 30, rng)  # more than the ring holds
    disk.save(segments, 3)
    assert set(disk.parts) == {"replay-0000000003"}


def test_a_run_goes_on_with_the_segments_that_it_was_restored_from(tmp_path: Path) -> None:
    rng, disk, store = np.random.default_rng(0), Disk(tmp_path), ring()
    add(store, 4, rng)
    disk.save(Segments(store), 1)
    again = ring()
    segments = Segments(again)
    segments.restore(disk.folder, disk.sums, disk.parts)
    add(again, 2, rng)
    assert len(disk.save(segments, 2)["replay-0000000002"]["valid"]) < again.added.sum()
    last = ring()
    assert disk.load(last)
    np.testing.assert_array_equal(last.rows.obs, again.rows.obs)


def test_of_a_damaged_replay_the_newest_rows_are_left(tmp_path: Path) -> None:
    rng, disk, store = np.random.default_rng(0), Disk(tmp_path), ring(share=20)
    segments = Segments(store)
    counts = [store.added.copy()]
    for step in range(4):
        add(store, 4, rng)
        disk.save(segments, step)
        counts.append(store.added.copy())
    del disk.parts["replay-0000000001"]
    again = ring(share=20)
    left = Segments(again)
    assert not left.restore(disk.folder, disk.sums, disk.parts)
    for e, numbers in enumerate(held(again)):
        np.testing.assert_array_equal(numbers, np.arange(counts[2][e], counts[4][e]))
    # What the disk has is no longer what the ring counts: the next checkpoint writes all.
    assert left.links() == {}
    assert len(left.rows(5)["replay-0000000005"]["valid"]) == again.added.sum()


def test_without_any_segment_the_replay_is_empty(tmp_path: Path) -> None:
    store = ring()
    assert not Segments(store).restore(tmp_path, {"policy": "", "replay-0000000001": ""}, {})
    assert store.added.sum() == 0


def test_files_that_somebody_removed_are_written_again(tmp_path: Path) -> None:
    rng, disk, store = np.random.default_rng(0), Disk(tmp_path), ring()
    segments = Segments(store)
    add(store, 4, rng)
    disk.save(segments, 1)
    (tmp_path / "replay-0000000001.safetensors").unlink()
    add(store, 1, rng)
    rows = disk.save(segments, 2)["replay-0000000002"]
    assert len(rows["valid"]) == np.minimum(store.added, SHARE).sum()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("obs", np.zeros((2, 2), np.float32), r"obs of replay-1 .* it is float32\[2, 2\]. Contin"),
        ("valid", np.zeros(6), r"valid of replay-1 must fit .* it is float64\[6\]"),
        ("last", np.full(4, 2), r"last of replay-1 must fit a replay of 3 env.* int64\[4\]"),
        ("last", np.full(3, -2), r"last of replay-1 must fit .* 3 environments with 7 rows each"),
        ("last", np.full(3, 2**40), r"last of replay-1 must fit .* 3 environments with 7 rows"),
        ("reward", None, "reward of replay-1 must fit .*, but it is missing"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, field: str, value: NDArray | None, text: str
) -> None:
    store = ring()
    env = np.arange(ENVS)
    for _ in range(2):
        flat = np.zeros(ENVS, np.float32)
        obs = np.zeros((ENVS, 2), np.float32)
        store.add(Rows(env, obs, flat[:, None], flat, flat, np.ones(ENVS, bool)))
    rows = store.since(np.zeros(ENVS, np.int64))
    parts = {"replay-1": rows | {field: value} if value is not None else dict(rows)}
    if value is None:
        del parts["replay-1"][field]
    with pytest.raises(CheckpointError, match=text):
        Segments(ring()).restore(tmp_path, {"replay-1": ""}, parts)
