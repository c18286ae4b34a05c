"""What a run has to say to whoever looks after it: kept in its folder, and told at once.

`warnings.jsonl` has an object a line, `{"step": 12000, "name": "sigma-exploding", "text": "..."}`.
"""

import json
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from posteriori.runs.folder import write_atomically
from posteriori.runs.notices import RunWarning


@dataclass(frozen=True)
class Notice:
    """A warning: the environment step, its name, what it says."""

    step: int
    name: str
    text: str

    def __str__(self) -> str:
        return f"step {self.step:,}: {self.name}: {self.text}"


Hearer = Callable[[Notice], None]


class Journal:
    """The warnings of a run so far; in memory alone until it is opened."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._path: Path | None = None
        self._hearers: list[Hearer] = []

    def open(self, path: Path, *, resume_step: int | None = None) -> None:
        """Keep warnings in a file from now on; go on with those up to the step of a resumption."""
        self._path = path
        if resume_step is not None:
            self.notices = [notice for notice in read_notices(path) if notice.step <= resume_step]
        write_atomically(path, "".join(map(_line, self.notices)).encode())

    def listen(self, sinks: Iterable[Any]) -> None:
        """Tell the sinks that have a method `warn`; if none has, warnings are Python's."""
        self._hearers = [sink.warn for sink in sinks if hasattr(sink, "warn")]

    def tell(self, step: int, name: str, text: str) -> None:
        """Keep a warning, and pass it on."""
        notice = Notice(step, name, text)
        self.notices.append(notice)
        if self._path is not None:
            with suppress(OSError), self._path.open("a") as file:  # a full disk ends no run
                file.write(_line(notice))
        for hear in self._hearers:
            hear(notice)
        if not self._hearers:
            warnings.warn(str(notice), RunWarning, stacklevel=2)

    def told(self, name: str) -> bool:
        """Whether there was a warning of this name."""
        return any(notice.name == name for notice in self.notices)


def read_notices(path: Path) -> list[Notice]:
    """Return the warnings of a run's `warnings.jsonl`, none if there is no such file.

    Lines that are none, such as one cut by a crash, are left out.
    """
    if not path.exists():
        return []
    notices = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError, TypeError, KeyError):
            row = json.loads(line)
            notices.append(Notice(int(row["step"]), str(row["name"]), str(row["text"])))
    return notices


def _line(notice: Notice) -> str:
    return json.dumps(asdict(notice), ensure_ascii=False) + "\n"
