"""Where a result came from: versions, source, machine."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from posteriori.runs.memory import machine_memory

_PACKAGES = (
    "posteriori",
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numpy",
    "gymnasium",
    "envpool",
    "box2d",
    "box2d-py",
    "mujoco",
)


def provenance() -> dict[str, Any]:
    """Return versions, the commit of this library's source, and the hardware, as plain values."""
    return {"versions": _versions(), "source": _source(), "hardware": _hardware()}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _source() -> dict[str, Any] | None:
    """The git commit, and whether the package's files differ from it; None if installed."""
    package = Path(__file__).parents[1]
    # An installed package may lie within somebody else's repository, which does not track it.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    changed = _git(package, "status", "--porcelain", "--", ".")
    return {"commit": _git(package, "rev-parse", "HEAD"), "changed": bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _hardware() -> dict[str, Any]:
    import jax  # here, so that reading a record does not wait for it

    memory = machine_memory()
    return {
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


def _cpu() -> str:
    """Return the processor's name; with its family and model, for clouds hide them in the name."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return platform.processor()
    pairs = (line.partition(":") for line in first.splitlines())
    said = {key.strip(): value.strip() for key, _, value in pairs}
    if not {"model name", "cpu family", "model"} <= said.keys():  # not on ARM
        return said.get("model name", platform.processor())
    return f"{said['model name']} (family {said['cpu family']}, model {said['model']})"
