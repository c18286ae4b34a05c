"""What tests of the command line share: a result in a run's stead, a parser that exits."""

from collections.abc import Sequence

import pytest

from posteriori import cli
from posteriori.runs.evaluate import Evaluation

RESULT = Evaluation("CartPole-v1", 2, 1.5, 0.5, 1.0, 2.0, [1.0, 2.0], [10, 20], 30)


def fails(arguments: Sequence[str]) -> int:
    """Run a command whose words are refused by the parser, which exits by itself."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code
