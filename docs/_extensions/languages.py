"""Links between a page and its translation."""

from pathlib import Path

from sphinx.application import Sphinx

ENGLISH = Path(__file__).parents[1]
JAPANESE = ENGLISH / "ja"


def setup(app: Sphinx) -> dict:
    """Give the sidebar's template the address of the other language."""
    app.connect("html-page-context", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


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
