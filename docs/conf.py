"""The site's settings: English from `docs`, and Japanese from `docs/ja` with the same settings."""

import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Posteriori"
copyright = "the authors of Posteriori, Apache License 2.0"
release = metadata.version("posteriori")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "bigrams",
    "dark_figures",
    "docstrings",
    "katex",
    "languages",
    "outside_links",
    "settings_list",
]
exclude_patterns = ["ja", "_static", "_templates", "_extensions", "Thumbs.db", ".DS_Store"]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "off"  # `make notebook` runs it, and its outputs are kept

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "py:obj"

# The Japanese pages link to the API of the English build, which is made first.
# `languages` puts the way from the page in place of the scheme.
intersphinx_mapping = {"en": ("english:", str(ROOT / "site" / "objects.inv"))}
intersphinx_disabled_reftypes = []

html_theme = "furo"
html_title = "Posteriori"
html_static_path = [str(Path(__file__).parent / "_static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b63a5",
        "color-brand-content": "#0b63a5",
        "color-brand-visited": "#0b63a5",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6cb6ff",
        "color-brand-content": "#6cb6ff",
        "color-brand-visited": "#6cb6ff",
    },
}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "languages.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
