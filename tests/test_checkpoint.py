"""Checkpoints: what is read is what was written, or an error says why not."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posteriori.runs import checkpoint
from posteriori.runs.checkpoint import CheckpointError, OtherFormat
from posteriori.runs.folder import canonical
from posteriori.runs.notices import RunWarning

STEP = "0000000010"
PARTS = {
    "policy": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "replay-0000000010": {"valid": np.array([True, False]), "count": np.asarray(7)},
}
META = {"steps": 10}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a written checkpoint of two parts."""
    checkpoint.write(tmp_path / STEP, PARTS, META)
    return tmp_path / STEP


def test_a_checkpoint_gives_back_what_was_written(folder: Path) -> None:
    parts, meta = checkpoint.read(folder)
    assert meta["steps"] == 10
    for part, arrays in PARTS.items():
        assert parts[part].keys() == arrays.keys()
        for name, array in arrays.items():
            assert parts[part][name].dtype == array.dtype
            np.testing.assert_array_equal(parts[part][name], array)


def test_one_part_is_read_alone(folder: Path) -> None:
    (folder / "replay-0000000010.safetensors").unlink()
    assert checkpoint.read(folder, "policy")[0].keys() == {"policy"}


def test_an_array_that_is_not_contiguous_keeps_its_order(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3).T
    checkpoint.write(tmp_path / STEP, {"part": {"a": array}}, META)
    np.testing.assert_array_equal(checkpoint.read(tmp_path / STEP)[0]["part"]["a"], array)


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


def edit(folder: Path, **changes: object) -> None:
    """Change the meta.json as somebody would who knows the format."""
    meta = json.loads((folder / "meta.json").read_text()) | changes
    meta.pop("sha256")
    sha256 = hashlib.sha256(canonical(meta)).hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta | {"sha256": sha256}))


def change_a_count(folder: Path) -> None:
    """Change a digit of the meta.json."""
    text = (folder / "meta.json").read_text()
    (folder / "meta.json").write_text(text.replace('"steps": 10', '"steps": 11'))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (flip_a_byte, "policy.safetensors must have the checksum of its meta.json, but it differs"),
        (cut, "policy.safetensors must have the checksum of its meta.json, but it differs"),
        (
            lambda folder: edit(folder, format=99),
            "must be a checkpoint of format 3, but it is of format 99. Use the version",
        ),
        (
            lambda folder: (folder / "meta.json").write_text('{"format": 1, "sha256": {}}'),
            "must be a checkpoint of format 3, but it is of format 1. Use the version",
        ),
        (change_a_count, "meta.json must have the checksum of its meta.json, but it differs"),
        (
            lambda folder: edit(folder, steps=11),
            "must have the name of its step, but its step is 11",
        ),
        (
            lambda folder: edit(folder, parts={"../../policy": "0"}),
            "must be names of files beside it, but they are {'../../policy': '0'}",
        ),
        (
            lambda folder: edit(folder, parts="policy"),
            "must be names of files beside it, but they are 'policy'",
        ),
        (
            lambda folder: (folder / "replay-0000000010.safetensors").unlink(),
            "must be a complete checkpoint, but: FileNotFoundError",
        ),
        (
            lambda folder: (folder / "meta.json").unlink(),
            "must be a complete checkpoint, but: FileNotFoundError",
        ),
        (
            lambda folder: (folder / "meta.json").write_text('{"format": 3'),
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
    ids=[
        "byte",
        "cut",
        "newer",
        "older",
        "count",
        "other step",
        "path",
        "no parts",
        "no part",
        "no meta",
        "cut meta",
        "other meta",
        "binary meta",
    ],
)
def test_a_damaged_checkpoint_is_refused(
    folder: Path, damage: Callable[[Path], object], text: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=re.escape(text)):
        checkpoint.read(folder)


def test_a_part_that_was_not_saved_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="must hold learner, but it holds policy, replay-"):
        checkpoint.read(folder, "learner")


def test_a_number_that_is_none_is_not_saved(folder: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"must be finite, but w of its policy is not"):
        checkpoint.write(folder, {"policy": {"w": np.array([1.0, np.nan])}}, {"steps": 11})
    assert checkpoint.read(folder)[1]["steps"] == 10


def test_the_newest_step_is_the_latest(tmp_path: Path) -> None:
    for name in ("0000000090", "0000000100", "²", "best", ".writing-0000000200"):
        (tmp_path / name).mkdir()
    assert checkpoint.latest(tmp_path).name == "0000000100"


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".writing-0000000200").mkdir()
    with pytest.raises(CheckpointError, match=r"must hold a checkpoint, .* train it again"):
        checkpoint.latest(tmp_path)


def test_the_newest_few_are_kept_and_none_from_a_lost_future(tmp_path: Path) -> None:
    names = ("0000000080", "0000000090", "0000000100", "0000000110", "notes")
    for name in (*names, ".writing-0000000200", ".old-0000000070"):
        (tmp_path / name).mkdir()
    checkpoint.retain(tmp_path, tmp_path / "0000000100", keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"0000000090", "0000000100", "notes"}


def test_a_damaged_part_is_taken_from_the_checkpoint_before(folder: Path) -> None:
    later = folder.with_name("0000000020")
    checkpoint.write(later, PARTS, {"steps": 20})
    cut(later)
    with pytest.warns(
        RunWarning, match=r"0000000020/policy.* differs: it is damaged. Instead, .*/0+10 is"
    ):
        assert checkpoint.newest_parts(folder.parent, "policy")[1]["steps"] == 10
    cut(folder)
    with pytest.raises(
        CheckpointError, match=r"0000000020/policy.*No checkpoint in .* can be used"
    ):
        checkpoint.newest_parts(folder.parent, "policy")


def test_a_checkpoint_of_another_version_is_not_passed_over(folder: Path) -> None:
    later = folder.with_name("0000000020")
    checkpoint.write(later, PARTS, {"steps": 20})
    edit(later, format=checkpoint.FORMAT + 1)
    with pytest.raises(OtherFormat, match=r"it is of format \d+\. Use the version"):
        checkpoint.newest_parts(folder.parent, "policy")
