"""Configuration of the documentation: python -m sphinx -W -b html docs docs/_build/html."""

import os
import re

# One thread: the examples are small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from docutils import nodes

import skebm
from skebm import _sklearn

project = "skebm"
author = "The skebm developers"
copyright = author
version = release = skebm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "examples", "**/sg_execution_times.rst", "sg_*.rst"]
default_role = "literal"

# Markdown pages
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# API pages: one for each public name, made of its numpydoc docstring
autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

# Examples that take longer than 30 seconds, or that download MNIST, are shown but not executed.
NOT_EXECUTED = ("anomalies_and_denoising", "filters_and_occlusion", "pretraining_on_few_labels")
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": rf"/plot_(?!{'|'.join(NOT_EXECUTED)})",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skebm",),
    "download_all_examples": False,
    "remove_config_comments": True,
    "capture_repr": ("_repr_html_",),  # the diagrams of estimators
    "show_memory": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "skebm"
html_static_path = ["_static"]
html_css_files = ["skebm.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages that have no others below them need no navigation at the left.
html_sidebars = {name: [] for name in ("index", "start", "tutorial", "recipes", "faq")}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# In the gallery, scikit-learn's diagrams of estimators link to the API pages of this very site.
_sklearn.Linked._doc_link_template = "../api/generated/skebm.{estimator_name}.html"

PAGES = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{}.html",
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{}.html",
}
#: Pages of scikit-learn that docstrings of its base classes refer to.
SCIKIT_LEARN = "https://scikit-learn.org/stable/{}.html"
THEIRS = ("metadata_routing", "df_output_transform")


def external(app, env, node, contnode):
    """Link names of other projects to their documentation, without downloading an index.

    Other references in docstrings that come from scikit-learn become plain text.
    """
    target, domain, kind = node["reftarget"], node.get("refdomain"), node["reftype"]
    package = target.split(".")[0]
    if domain == "py" and package in PAGES:
        url = PAGES[package].format(target)
    elif domain == "std" and node["refdoc"].startswith("api/generated/"):
        if kind != "term" and target not in THEIRS:
            return contnode
        url = SCIKIT_LEARN.format("glossary" if kind == "term" else target)
    else:
        return None
    return nodes.reference("", "", contnode, internal=False, refuri=url)


def escape_initials(app, what, name, obj, options, lines):
    """Escape "R. M. Neal" at the start of a reference, which would be a list that begins with R."""
    initial = re.compile(r"^((?:\.\. \[\w+\] )?[A-Z])\. ")
    lines[:] = [initial.sub(r"\1\\. ", line) for line in lines]


def setup(app):
    """Register the functions above."""
    app.connect("missing-reference", external)
    app.connect("autodoc-process-docstring", escape_initials, priority=100)  # before numpydoc
