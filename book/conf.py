"""Sphinx's settings for the web book; `tools/build_book.py` writes the pages and calls Sphinx."""

import os
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent
sys.path.insert(0, str(BOOK))

project = "Batch Size Lab"
author = "The Batch Size Lab contributors"
language = "en"
smartquotes_action = "D"  # dashes; texts are otherwise shown as they stand in the notebooks
html_title = project
html_show_copyright = False
html_use_index = False  # the search finds more
html_domain_indices = False

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "book_extension",  # alt texts, anchors of cells, formulas, the playground
]

exclude_patterns = ["static"]

# Notebooks are shown as they are stored.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Docstrings: a name in single backticks is a link where it names something of ours, and code otherwise.
default_role = "py:obj"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
autodoc_preserve_defaults = True
add_module_names = False

html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_favicon = "static/mark.svg"
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {
    "logo": {"text": project},
    "home_page_in_toc": False,
    "navbar_persistent": [],
    "search_as_you_type": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_repository_button": False,
    "use_issues_button": False,
    "use_edit_page_button": False,
}
# Only where the repository has an address can its notebooks be opened elsewhere.
if repository := os.environ.get("BATCHLAB_REPOSITORY", ""):
    html_theme_options |= {
        "repository_url": repository,
        "repository_branch": "main",
        "use_repository_button": True,
        "launch_buttons": {
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
            "notebook_interface": "jupyterlab",
        },
    }
