"""Run a notebook from the start in a fresh kernel, keep its outputs, and say how long it took.

python docs/run_notebook.py docs/learn/notebook.ipynb
"""

import argparse
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> None:
    """Run it; an error in a cell is an error here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args().notebook
    notebook = nbformat.read(path, as_version=4)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:  # for what the notebook's cells write
        client = NotebookClient(
            notebook,
            timeout=900,
            startup_timeout=300,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}  # not the version: it would only churn
    nbformat.write(notebook, path)
    print(f"{path}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
