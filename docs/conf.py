"""Sphinx settings: `make docs` builds the pages into build/docs."""

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django  # noqa: E402

django.setup()

from voicews import __version__  # noqa: E402

project = "voicews"
project_copyright = "voicews contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
root_doc = "index"
exclude_patterns = ["_build"]

# --- Markdown ------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# --- API pages from docstrings -------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "no-value": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
# `name` in a docstring links to that name where there is a page about it.
default_role = "py:obj"

# --- checks --------------------------------------------------------------------------------------

# A reference to one of our names must lead somewhere. A name that exists and has no page of its own
# is shown as it is, and so are names of other projects and what docstrings put in backticks.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:obj", r"(?s).*"),
    (r"py:.*", r"(?!voicews\b).*"),
    (r"py:.*", r".*[|\[].*"),
]

# --- HTML ----------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "voicews"
html_static_path = ["_static"]
html_css_files = ["voicews.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options: dict[str, Any] = {"navigation_with_keys": True}

copybutton_exclude = ".linenos, .gp, .go"


def exists(name: str) -> bool:
    """Whether a dotted name leads to something in our modules."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        try:
            for part in parts[count:]:
                found = getattr(found, part)
        except AttributeError:
            return False
        return True
    return False


def show_undocumented_as_text(_app: Any, _env: Any, node: Any, content: Any) -> Any:
    """An existing name without a page is no mistake; a name that does not exist is one."""
    return content if node["refdomain"] == "py" and exists(node["reftarget"]) else None


def as_restructured_text(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Our docstrings say `name`s and name the key *, which reStructuredText wants escaped."""
    text = "\n".join(lines)
    text = re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", text)
    text = re.sub(r" \*(?=[,;.) ])", r" \\*", text)
    lines[:] = text.split("\n")


def readable_signature(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, args: str | None, result: Any
) -> tuple[str | None, Any]:
    """A default that a factory makes has no text that can be parsed."""
    return (args.replace("<factory>", "...") if args else args), result


def setup(app: Any) -> None:
    app.connect("missing-reference", show_undocumented_as_text)
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("autodoc-process-signature", readable_signature)
