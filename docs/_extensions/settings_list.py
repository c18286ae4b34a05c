"""The directive `settings`: every setting, from the dataclasses that hold them.

Name, default, choices and meaning are the code's own; `docs/settings.toml` adds what help on a
command line has no room for: unit, source, and when to change it. In Japanese all of the words are
those of `docs/ja/settings.toml`.
"""

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from docstring_parser import parse
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from posteriori import Config, Mpo

DOCS = Path(__file__).parents[1]
NOTES = {"en": DOCS / "settings.toml", "ja": DOCS / "ja" / "settings.toml"}
WORDS = {
    "en": (" One of {}.", "When to change it:", "Source of the default:"),
    "ja": ("選択肢：{}。", "変えるとき：", "既定値の出典："),  # noqa: RUF001 - it is Japanese
}


def setup(app: Sphinx) -> dict:
    """Register the directive."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Settings(Directive):
    """The settings of one group of `settings.toml`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the list."""
        environment = self.state.document.settings.env
        language = environment.config.language
        path = NOTES[language]
        environment.note_dependency(str(path))
        notes, known = tomllib.loads(path.read_text())[self.arguments[0]], dict(fields())
        text = [
            line
            for name, note in notes.items()
            for line in entry(name, known[name] | note, WORDS[language])
        ]
        container = nodes.container(classes=["settings"])
        self.state.nested_parse(StringList(text, str(path)), self.content_offset, container)
        for definitions in container.findall(nodes.definition_list):
            definitions["classes"].append("settings")
        return [container]


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each setting's default, choices and meaning."""
    for owner in (Mpo, Config):
        hints = get_type_hints(owner)
        meanings = {p.arg_name: p.description for p in parse(owner.__doc__ or "").params}
        for field in dataclasses.fields(owner):
            if field.name != "mpo":
                yield (
                    field.name,
                    {
                        "default": field.default,
                        "choices": [c for c in get_args(hints[field.name]) if isinstance(c, str)],
                        "meaning": " ".join((meanings[field.name] or "").split()),
                    },
                )


def entry(name: str, field: dict[str, Any], words: tuple[str, str, str]) -> list[str]:
    """Return a setting's definition, in Markdown."""
    one_of, when, whence = words
    unit = f" {field['unit']}" if field["unit"] else ""
    choices = ", ".join(f"`{choice}`" for choice in field["choices"])
    return [
        f"`{name}` = `{field['default']!r}`{unit}",
        f": {field['meaning']}" + (one_of.format(choices) if choices else ""),
        "",
        f"  *{when}* {field['change']}",
        "",
        f"  *{whence}* {field['source']}",
        "",
    ]
