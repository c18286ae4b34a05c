"""Show `NAME-dark.*`, where it exists, in place of the picture `NAME.*` while the page is dark."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    """Connect before the builder collects the pages' images."""
    app.connect("doctree-read", _pair, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _pair(app: Sphinx, document: nodes.document) -> None:
    folder = Path(app.env.doc2path(app.env.docname)).parent
    for image in list(document.findall(nodes.image)):
        light = Path(image["uri"])
        dark = light.with_name(f"{light.stem}-dark{light.suffix}")
        if not (folder / dark).exists():
            continue
        twin = image.deepcopy()
        twin["uri"] = dark.as_posix()
        image["classes"].append("only-light")
        twin["classes"].append("only-dark")
        image.parent.insert(image.parent.index(image) + 1, twin)
