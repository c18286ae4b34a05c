"""From the docstrings' Markdown to what Sphinx reads: tables as they stand, no stray marks."""

import re

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    """Change docstrings before napoleon reads their sections."""
    app.connect("autodoc-process-docstring", _translate, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _translate(
    _app: Sphinx, _what: str, _name: str, _thing: object, _options: object, lines: list[str]
) -> None:
    out: list[str] = []
    for line in lines:
        table = line.startswith("|")
        if table and not (out and out[-1].startswith("   |")):
            out += ["::", ""]
        # `*S` and `||` are shapes and divergences here, not emphasis and substitutions.
        out.append(f"   {line}" if table else _escape(line))
    lines[:] = out


def _escape(line: str) -> str:
    """Escape what is a mark to Sphinx alone, outside of code."""
    parts = re.split(r"(`[^`]*`)", line)
    plain = [re.sub(r"(\*(?=[A-Z#]\b)|\|)", r"\\\1", part) for part in parts[::2]]
    parts[::2] = plain
    return "".join(parts)
