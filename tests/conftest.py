"""What holds for every test: strict JAX, no display, the CPU unless GPU tests were asked for."""

import os
import signal
import tempfile
from collections.abc import Iterator

import jax
import pytest

os.environ["SDL_VIDEODRIVER"] = "dummy"  # no window where a test renders
os.environ["SDL_AUDIODRIVER"] = "dummy"


def pytest_configure(config: pytest.Config) -> None:
    """Make JAX raise where it would broadcast ranks or reuse a random key in silence."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_key_reuse", True)
    if config.getoption("markexpr") != "gpu":
        jax.config.update("jax_platforms", "cpu")
    # What several tests need is compiled once; compiling is most of their time.
    programs = tempfile.TemporaryDirectory()
    config.add_cleanup(programs.cleanup)
    caching = {
        "jax_compilation_cache_dir": programs.name,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    for name, value in caching.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # for the processes that tests start


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C interrupt, also where a shell in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
