"""Mathematics by KaTeX from the site's own files: no page asks another server for anything."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

RENDER = """
document.addEventListener("DOMContentLoaded", () => {
  for (const node of document.querySelectorAll(".math")) {
    const displayMode = node.tagName === "DIV";
    katex.render(node.textContent, node, {displayMode, throwOnError: true});
  }
});
"""


def setup(app: Sphinx) -> dict:
    """Register the renderer and its files."""
    app.add_html_math_renderer("katex", (_inline, None), (_block, None))
    app.connect("builder-inited", _choose)
    app.add_css_file("katex/katex.min.css")
    app.add_js_file("katex/katex.min.js")
    app.add_js_file(None, body=RENDER)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _choose(app: Sphinx) -> None:
    app.config.html_math_renderer = "katex"


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(f'<span class="math">{translator.encode(node.astext())}</span>')
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    anchor = "".join(f' id="{name}"' for name in node["ids"])
    translator.body.append(f'<div class="math"{anchor}>{translator.encode(node.astext())}</div>')
    raise nodes.SkipNode
