"""Checkpoints: what is read is what was written, or an error says why not."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posteriori.runs import checkpoint
from posteriori.runs.checkpoint import CheckpointError

PARTS = {
    "policy": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "replay": {"valid": np.array([True, False]), "count": np.asarray(7)},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a written checkpoint of two parts."""
    checkpoint.write(tmp_path / "0000000010", PARTS, {"steps": 10})
    return tmp_path / "0000000010"


def test_a_checkpoint_gives_back_what_was_written(folder: Path) -> None:
    parts, meta = checkpoint.read(folder)
    assert meta["steps"] == 10
    for part, arrays in PARTS.items():
        assert parts[part].keys() == arrays.keys()
        for name, array in arrays.items():
            assert parts[part][name].dtype == array.dtype
            np.testing.assert_array_equal(parts[part][name], array)


def test_one_part_is_read_alone(folder: Path) -> None:
    (folder / "replay.safetensors").unlink()
    assert checkpoint.read(folder, only="policy")[0].keys() == {"policy"}


def test_an_array_that_is_not_contiguous_keeps_its_order(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3).T
    checkpoint.write(tmp_path / "x", {"part": {"a": array}}, {})
    np.testing.assert_array_equal(checkpoint.read(tmp_path / "x")[0]["part"]["a"], array)


def flip_a_byte(folder: Path) -> None:
    """Change the last byte of an array."""
    path = folder / "policy.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(folder: Path) -> None:
    """Leave half of a file."""
    path = folder / "policy.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_format(folder: Path) -> None:
    """Pretend that a later version wrote it."""
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"format": 99}))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (flip_a_byte, "policy.safetensors must have the checksum of its meta.json, but it differs"),
        (cut, "policy.safetensors must have the checksum of its meta.json, but it differs"),
        (
            change_format,
            "must be a checkpoint of format 1, but it is of format 99. Use the version",
        ),
        (
            lambda folder: (folder / "replay.safetensors").unlink(),
            "must be a complete checkpoint, but: FileNotFoundError",
        ),
        (
            lambda folder: (folder / "meta.json").unlink(),
            "must be a complete checkpoint, but: FileNotFoundError",
        ),
        (
            lambda folder: (folder / "meta.json").write_text('{"format": 1'),
            "must be a complete checkpoint, but: JSONDecodeError",
        ),
        (
            lambda folder: (folder / "meta.json").write_text("[]"),
            "must be a complete checkpoint, but: TypeError",
        ),
        (
            lambda folder: (folder / "meta.json").write_bytes(b"\xff\xfe\x00"),
            "must be a complete checkpoint, but: UnicodeDecodeError",
        ),
    ],
    ids=["byte", "cut", "format", "no part", "no meta", "cut meta", "other meta", "binary meta"],
)
def test_a_damaged_checkpoint_is_refused(
    folder: Path, damage: Callable[[Path], object], text: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=re.escape(text)):
        checkpoint.read(folder)


def test_a_part_that_was_not_saved_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="must be a complete checkpoint, but: KeyError"):
        checkpoint.read(folder, only="learner")


def test_a_failed_write_leaves_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"must be writable, but: .*No space left"):
        checkpoint.write(folder, PARTS, {"steps": 11})
    assert checkpoint.read(folder)[1]["steps"] == 10
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_number_that_is_none_is_not_saved(folder: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"must be finite, but w of its policy is not"):
        checkpoint.write(folder, {"policy": {"w": np.array([1.0, np.nan])}}, {"steps": 11})
    assert checkpoint.read(folder)[1]["steps"] == 10


def test_the_newest_step_is_the_latest(tmp_path: Path) -> None:
    for name in ("0000000090", "0000000100", "best", ".writing-0000000200-1"):
        checkpoint.write(tmp_path / name, PARTS, {})
    assert checkpoint.latest(tmp_path).name == "0000000100"


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".writing-0000000200-1").mkdir()
    with pytest.raises(CheckpointError, match=r"must hold a checkpoint, .* train it again"):
        checkpoint.latest(tmp_path)


def test_only_the_newest_step_and_the_best_are_kept(tmp_path: Path) -> None:
    names = ("0000000090", "0000000100", "best", ".writing-0000000200-1", ".old-best-1")
    for name in names:
        (tmp_path / name).mkdir()
    checkpoint.keep_only(tmp_path, tmp_path / "0000000100")
    assert {path.name for path in tmp_path.iterdir()} == {"0000000100", "best"}


def test_a_tree_comes_back_from_its_arrays() -> None:
    tree = {"w": jnp.arange(3.0), "n": (jnp.asarray(2),), "key": jax.random.key(3)}
    template = {"w": jnp.zeros(3), "n": (jnp.asarray(0),), "key": jax.random.key(0)}
    back = checkpoint.unflatten(template, checkpoint.flatten(tree))
    np.testing.assert_array_equal(back["w"], tree["w"])
    assert int(back["n"][0]) == 2
    # Alike keys draw alike.
    assert jax.random.normal(back["key"]) == jax.random.normal(jax.random.key(3))


@pytest.mark.parametrize(
    ("saved", "text"),
    [
        (np.zeros(4, np.float32), "['w'] must be float32[3], but it is float32[4]. Load"),
        (np.zeros(3, np.float64), "['w'] must be float32[3], but it is float64[3]. Load"),
        (
            None,
            "['w'] must be float32[3], but it is missing. Load the checkpoint with the settings",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(saved: np.ndarray | None, text: str) -> None:
    arrays = {} if saved is None else {"['w']": saved}
    with pytest.raises(CheckpointError, match=re.escape(text)):
        checkpoint.unflatten({"w": jnp.zeros(3)}, arrays)


def test_a_generator_goes_on_where_it_was_saved() -> None:
    rng = np.random.default_rng(5)
    rng.normal(size=3)
    again = checkpoint.rng_from_array(checkpoint.rng_to_array(rng))
    np.testing.assert_array_equal(again.normal(size=10), rng.normal(size=10))
