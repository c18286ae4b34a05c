"""Stands for `posteriori.runs.tuning.worker`: writes what a run would, at once.

The variable FAKE_WORKER says how it behaves. A learning rate far from 1e-3 scores low.
"""

import json
import math
import os
import signal
import sys
from pathlib import Path

mood = os.environ.get("FAKE_WORKER", "")
order = json.loads(sys.stdin.readline())
settings, folder = order["settings"], Path(order["run_dir"])
seen = folder.exists()
folder.mkdir(parents=True, exist_ok=True)
level = -abs(math.log10(settings["policy_learning_rate"] / 1e-3)) + settings["seed"]
if mood == "killed" or (mood == "killed once" and not seen):
    os.kill(os.getpid(), signal.SIGKILL)
if mood in ("fails", "refused"):
    print("the log\nno luck here.", file=sys.stderr)
    sys.exit({"fails": 1, "refused": 2}[mood])
every, steps = settings["evaluate_every"], settings["steps"]
half = steps // 2 if mood == "waits when low" and settings["policy_learning_rate"] < 3e-4 else steps
with (folder / "metrics.jsonl").open("w") as file:
    for step in range(every, half + 1, every):
        row = {"step": step + 3, "evaluation/mean": level - steps / step}
        file.write(json.dumps(row) + "\n")
if mood == "waits" or half < steps:
    waiting = folder / "waiting"
    waiting.touch()

    def stop(*_: object) -> None:
        waiting.unlink()
        os._exit(143)

    signal.signal(signal.SIGTERM, stop)
    os.read(sys.stdin.fileno(), 1)
    stop()
(folder / "final.json").write_text(json.dumps({"mean": level, "returns": [level]}))
(folder / "state.json").write_text(json.dumps({"state": "finished", "text": ""}))
