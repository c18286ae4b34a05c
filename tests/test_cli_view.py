"""The commands that show runs: what reaches the library, and what is printed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import UNLEARNED, small_run

from posteriori import cli
from posteriori.runs import video
from posteriori.runs.estimate import Estimate
from posteriori.runs.overlay import Overlay
from posteriori.runs.video import Recorded


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand for `record`, where a window could be opened as well."""
    given: dict[str, Any] = {}

    def fake(policy: Callable[..., Any], env: str, out: Path, **options: Any) -> Recorded:
        given.update(policy=policy, env=env, out=out, **options)
        return Recorded(12.0, 34)

    monkeypatch.setattr(video, "record", fake)
    monkeypatch.setattr(video, "has_display", lambda: True)
    return given


def test_watch_records_an_overlay_with_the_value_of_the_last_policy(
    recorded: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "r"
    small_run("CartPole-v1", run, **UNLEARNED | {"evaluate_every": 120})
    assert cli.main(["watch", str(run), "--overlay"]) == 0
    assert capsys.readouterr() == (f"{run / 'video.mp4'}: return 12.0 in 34 steps\n", "")
    assert isinstance(recorded["overlay"], Overlay)
    assert isinstance(recorded["overlay"].value, Estimate)
    assert cli.main(["watch", str(run), "--out", "v.mp4"]) == 0
    assert (recorded["out"], recorded["overlay"]) == (Path("v.mp4"), None)
    capsys.readouterr()
    assert cli.main(["watch", str(run), "--overlay", "--best"]) == 0
    assert recorded["overlay"].value is None
    assert capsys.readouterr().err.startswith("warning: the overlay has no value: the critic of")
