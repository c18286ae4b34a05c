"""Files that only grow, and outlast a full disk."""

import os
from pathlib import Path

from posteriori.runs.notices import warn


class Appending:
    """A file that is appended to; what the disk refuses is kept, and written when it has room.

    A reader sees what was written at once: nothing waits in a buffer unless the disk refused it.

    Args:
        path: Of the file.
        new: Whether it must not be there yet.
    """

    def __init__(self, path: Path, *, new: bool):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (os.O_EXCL if new else 0)
        self._path, self._file = path, os.open(path, flags, 0o666)
        self._waiting = bytearray()
        self._failed = False

    def write(self, data: bytes) -> None:
        """Append; a failure is a warning, once until a write succeeds."""
        self._waiting += data
        try:
            while self._waiting:
                del self._waiting[: os.write(self._file, self._waiting)]
        except OSError as error:
            if not self._failed:
                warn(
                    f"{self._path} needs {len(self._waiting):,} bytes, but: {error.strerror}. Free "
                    "space: what is missing is kept in memory and written when there is room."
                )
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Try once more what is missing, and close the file."""
        if self._file >= 0:
            if self._waiting:
                self.write(b"")
            os.close(self._file)
        self._file = -1
