"""Links between a page and its translation, and from the translation to the API."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

ENGLISH = Path(__file__).parents[1]
JAPANESE = ENGLISH / "ja"
WIDE = "[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]"  # kana, kanji and their punctuation
NARROW = r"(?!\d+\. )[0-9A-Za-z]"  # a letter or digit that begins no item of a list
BREAKS = re.compile(f"(?<={WIDE})\n *(?={WIDE}|{NARROW})|(?<=[0-9A-Za-z])\n *(?={WIDE})")
FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def setup(app: Sphinx) -> dict:
    """Give the sidebar's template the address of the other language."""
    app.connect("config-inited", _drop_own_inventory, priority=100)
    app.connect("source-read", _join_lines)
    app.connect("doctree-resolved", _find_the_way)
    app.connect("html-page-context", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _drop_own_inventory(_app: Sphinx, config: Config) -> None:
    if config.language != "ja":
        config.intersphinx_mapping = {}


def _join_lines(app: Sphinx, _docname: str, source: list[str]) -> None:
    """Japanese has no spaces between words, but HTML makes one of a line's end."""
    if app.config.language == "ja":
        text_and_code = FENCED.split(source[0])
        text_and_code[::2] = [BREAKS.sub("", text) for text in text_and_code[::2]]
        source[0] = "".join(text_and_code)


def _find_the_way(_app: Sphinx, document: nodes.document, docname: str) -> None:
    """MyST takes the inventory's address as it stands, but a relative one depends on the page."""
    up = "../" * (docname.count("/") + 1)
    for reference in document.findall(nodes.reference):
        _, scheme, rest = reference.get("refuri", "").partition("english:")
        if scheme:
            reference["refuri"] = up + rest.lstrip("/")


def _link(app: Sphinx, pagename: str, _template: str, context: dict, _doctree: object) -> None:
    """The same page where there is one, else the first page."""
    japanese = app.config.language == "ja"
    other = ENGLISH if japanese else JAPANESE
    page = pagename if (other / f"{pagename}.md").exists() else "index"
    up = "../" * pagename.count("/")
    context["other_language"] = {
        "name": "English" if japanese else "日本語",
        "code": "en" if japanese else "ja",
        "address": f"{up}{'..' if japanese else 'ja'}/{page}.html",
    }
