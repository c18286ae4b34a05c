"""A run's folder: what lies where, and the record from which the run can be repeated."""

import dataclasses
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posteriori.runs.provenance import provenance

if TYPE_CHECKING:
    from posteriori.runs.config import Config


class RunFolder:
    """The files of one run.

    Args:
        path: Of the folder; `create` makes a new one, `open` takes one that a run has made.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.record = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.state = self.path / "state.json"
        self.warnings = self.path / "warnings.jsonl"
        self.final = self.path / "final.json"
        self.curve = self.path / "curve.png"
        self.video = self.path / "video.mp4"
        self.videos = self.path / "videos"

    @classmethod
    def create(cls, path: Path | str | None, *, env: str, seed: int) -> "RunFolder":
        """Make the folder of a new run.

        Args:
            path: Where; `default_path(env, seed)` if None.
            env: The environment's name.
            seed: The run's.

        Raises:
            ValueError: it exists and holds something, or is a file.
        """
        folder = cls(path if path is not None else default_path(env, seed))
        if folder.path.exists() and not folder.path.is_dir():
            raise ValueError(
                f"--run-dir must be a folder, but {folder.path} is a file. "
                "Choose another --run-dir."
            )
        if folder.path.is_dir() and any(folder.path.iterdir()):
            cure = "Choose another --run-dir"
            if folder.record.exists():
                cure += f", or continue that run with `posteriori resume {folder.path}`"
            raise ValueError(
                f"--run-dir must be a new or empty folder, but {folder.path} is not empty. {cure}."
            )
        folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Take the folder of an existing run.

        Raises:
            FileNotFoundError: it is no run's folder.
        """
        folder = cls(path)
        if not folder.record.is_file():
            found = "it has no config.json" if folder.path.is_dir() else "there is no such folder"
            raise FileNotFoundError(
                f"{folder.path} must be the folder of a run, but {found}. "
                "Give the folder that `posteriori train` named at its end."
            )
        return folder

    def refuse_links(self) -> None:
        """Refuse to write where a link leads out of the folder, which may be someone else's.

        Raises:
            ValueError: one of its files or folders is a link.
        """
        for path in self.path.iterdir():
            if path.is_symlink() and not path.name.endswith(".tmp"):
                raise ValueError(
                    f"{path} must lie in the run's folder, but it is a link to {path.resolve()}. "
                    "Put a copy in its place, or link the whole folder."
                )

    def write_config(self, env_id: str, config: "Config") -> None:
        """Record what repeats the run: settings, versions, source, machine and command."""
        record = {
            "env": env_id,
            "settings": (settings := dataclasses.asdict(config)),
            "sha256": seal(env_id, settings),
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **provenance(),
        }
        write_atomically(self.record, (json.dumps(record, indent=2) + "\n").encode())

    def read_record(self) -> dict[str, Any]:
        """Return the record as it stands in `config.json`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is not JSON, lacks the environment or the settings, or has steps or a
                seed that are no whole numbers.
        """
        RunFolder.open(self.path)
        try:
            record = json.loads(self.record.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.record} must be JSON, but reading it failed: {error}. "
                "Restore the file, or train anew."
            ) from error
        fields = {"env": str, "settings": dict}
        wrong = [
            name
            for name, kind in fields.items()
            if not isinstance(record, dict) or not isinstance(record.get(name), kind)
        ]
        if wrong:
            raise ValueError(
                f"{self.record} must have the fields env (a string) and settings (an object), but "
                f"{' and '.join(wrong)} cannot be used. Restore the file, or train anew."
            )
        for name in ("steps", "seed"):  # what lists of runs show; `read_config` sees to the rest
            if type(value := record["settings"].get(name, 0)) is not int:
                raise ValueError(
                    f"{self.record} must have a whole number of {name}, but it has {value!r:.50}. "
                    "Restore the file, or train anew."
                )
        return record

    def read_config(self) -> tuple[str, "Config"]:
        """Return the environment's id and the settings.

        Raises:
            FileNotFoundError: there is no record.
            ValueError: the record cannot be read, or its settings are not those of this version.
        """
        from posteriori.runs.config import Config, check  # imports JAX, which a plot can do without

        record = self.read_record()
        try:
            config = _rebuild(Config(), record["settings"], "settings")
            check(config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.record}: {error} Restore the file, or use the version that wrote it"
                f"{_version(record)}."
            ) from error
        if record.get("sha256") != seal(record["env"], record["settings"]):
            raise ValueError(
                f"{self.record} must have the env and settings that the run began with, but their "
                "checksum differs: it was edited or damaged. Restore the file, or train anew."
            )
        return record["env"], config


def trusted(stored: str, given: Any, record: Path) -> Any:
    """Return the environment to use: the one given, or a stored id that imports no module.

    A folder may come from someone else, and importing a module runs its code.

    Args:
        stored: The id in the run's record.
        given: What the user has named, or None.
        record: Where the id stands.

    Raises:
        ValueError: If the id would import a module that nothing here has imported.
    """
    module = stored.rpartition(":")[0]
    if given is not None or not module or module in sys.modules:
        return stored if given is None else given
    raise ValueError(
        f"{record} must name an environment that imports nothing, but {stored!r} imports the "
        f"module {module!r}, which runs its code. If you trust that, name the environment "
        f"yourself: `--env {stored}`, or env={stored!r} in Python."
    )


def file_name(env: str) -> str:
    """Return an environment's name in letters for every file system."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", env).strip("-.") or "env"


def default_path(env: str, seed: int) -> Path:
    """Return `runs/{env}-seed{seed}-{time}`, in letters for every file system, not yet taken."""
    path = Path("runs") / f"{file_name(env)}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    again = (path.with_name(f"{path.name}-{n}") for n in range(2, 10_000))
    return next(p for p in (path, *again) if not p.exists())


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file's content: its time and size; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file such that a crash leaves the old content or the new, never a part.

    Raises:
        OSError: the disk refuses it; the message names the path and the bytes needed.
    """
    draft = path.with_name(f".{path.name}.tmp")
    try:
        draft.unlink(missing_ok=True)  # else what it links to would be written
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        text = f"{path} needs {len(data):,} bytes, but: {error.strerror or error}"
        raise OSError(error.errno, f"{text}. Free space or mend the permissions") from error


def sync_folder(path: Path) -> None:
    """Have the names in a folder outlast a loss of power."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def canonical(value: Any) -> bytes:
    """Return JSON that is the same for equal values, to take a checksum of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def seal(env: str, settings: Mapping[str, Any]) -> str:
    """Return the checksum of what repeats a run."""
    return hashlib.sha256(canonical({"env": env, "settings": settings})).hexdigest()


def _version(record: Mapping[str, Any]) -> str:
    versions = record.get("versions")
    found = versions.get("posteriori") if isinstance(versions, dict) else None
    return f", {found}" if isinstance(found, str) else ""


def _rebuild(default: Any, values: Any, name: str) -> Any:
    """Fill a dataclass like `default`, and those within it, with values from JSON."""
    known = {field.name for field in dataclasses.fields(default)}
    given = set(values) if isinstance(values, dict) else set()
    if known != given:
        lacks = f"lacks {', '.join(sorted(known - given))}" if known - given else ""
        extra = f"has {', '.join(sorted(given - known))} as well" if given - known else ""
        raise ValueError(
            f"{name} must be those of this version of posteriori, but it "
            f"{' and '.join(filter(None, (lacks, extra)))}."
        )
    return type(default)(
        **{key: _value(getattr(default, key), values[key], f"{name}.{key}") for key in known}
    )


def _value(default: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(default):
        return _rebuild(default, value, name)
    return tuple(value) if isinstance(value, list) else value
