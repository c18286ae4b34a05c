"""Search in Japanese, which has no spaces: every two neighbouring characters are a word.

Sphinx's own splitter divides a page into guessed words, but not the query, so that 信頼領域 would
not be found where the page was divided into 信頼 and 領域. Pairs are the same on both sides.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

WIDE = r"[\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc-\u30fe\u4e00-\u9fff]"  # kana and kanji
RUNS = re.compile(rf"({WIDE}+)|(?:(?!{WIDE})\w)+")
JAVASCRIPT = rf"""
var splitQuery = (query) =>
  [...query.matchAll(/({WIDE}+)|(?:(?!{WIDE})[\p{{L}}\p{{N}}_])+/gu)].flatMap(([run, wide]) =>
    wide === undefined || run.length < 3 ? [run]
      : Array.from({{ length: run.length - 1 }}, (_, i) => run.slice(i, i + 2)));
"""


def setup(app: "Sphinx") -> dict:
    """Take the place of Sphinx's search in Japanese."""
    from sphinx.search import SearchLanguage  # here: the tests have no Sphinx

    class Bigrams(SearchLanguage):
        lang = "ja"
        language_name = "Japanese"
        js_splitter_code = JAVASCRIPT

        def split(self, input: str) -> list[str]:
            return split(input)

    app.add_search_language(Bigrams)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def split(text: str) -> list[str]:
    """Return a text's words, of kana and kanji every pair; the page's JavaScript does the same."""
    return [word for run in RUNS.finditer(text) for word in _words(run)]


def _words(run: re.Match[str]) -> list[str]:
    word, wide = run.group(0), run.group(1)
    if wide is None or len(word) < 3:
        return [word]
    return [word[i : i + 2] for i in range(len(word) - 1)]
