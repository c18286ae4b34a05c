"""Links of pages to files of the repository, which the site does not have: their paths, as code."""

import re
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1].resolve()
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|inv:)([^)#\s]+)\)")


def setup(app: Sphinx) -> dict:
    """Change the text of pages before it is parsed."""
    app.connect("source-read", _replace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _replace(app: Sphinx, docname: str, source: list[str]) -> None:
    folder = Path(app.env.doc2path(docname)).parent

    def plain(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        outside = DOCS not in target.parents and target.exists()
        return match[1] if outside else match[0]

    source[0] = LINK.sub(plain, source[0])
