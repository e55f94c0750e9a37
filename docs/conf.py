"""The documentation site: ``make docs`` builds it, without a network, and fails on any warning."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import parity

project = "parity"
version = release = parity.__version__
copyright = "the authors of parity, Apache-2.0"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests run the notebooks
exclude_patterns = ["_build", "extending/*", "images/*"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = "parity"
html_static_path = ["_static"]
html_css_files = ["parity.css"]
html_copy_source = False
html_sidebars = {"**": ["pages"]}
html_theme_options = {
    "navbar_center": [],
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
nitpicky = True

_CODE = re.compile(r"(``.*?``)")


def public_names() -> dict[str, str]:
    """Return, by any path and by its name alone, where the reference has an object of the package's ``__all__``s."""
    found: dict[str, str] = {}
    for module in ("parity", *(f"parity.{each.name}" for each in pkgutil.iter_modules(parity.__path__))):
        if module in ("parity.__main__", "parity.analyses", "parity.commands"):
            continue
        package = importlib.import_module(module)
        for name in getattr(package, "__all__", []):
            value = getattr(package, name)
            if name.startswith("__") or inspect.ismodule(value):
                continue
            setattr(package, name, value)  # autodoc does not see what is imported only when it is asked for
            public = f"{module}.{name}"
            found[f"{getattr(value, '__module__', module)}.{name}"] = found[name] = public
    return found


PUBLIC = public_names()


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement) -> Any:
    """Find our names where the reference has them.

    Names of other packages stay plain text, since there is no network, and so do those of ours that are not public, as
    types in signatures may be. A name that does not exist is a broken reference.
    """
    target = node["reftarget"]
    if node.get("refdomain") != "py":
        return None
    public = PUBLIC.get(target)
    if public is not None and public != target:
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, content)
    return content if not target.startswith("parity.") or exists(target) else None


def exists(target: str) -> bool:
    """Return whether a dotted path names something in a module of ours."""
    module, _, name = target.rpartition(".")
    return importlib.util.find_spec(module) is not None and hasattr(importlib.import_module(module), name)


def shapes(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Keep the asterisks of docstrings, which are those of shapes as (G, k, *Q), from being taken for emphasis."""
    lines[:] = ["".join(part if part.startswith("``") else part.replace("*", "\\*") for part in _CODE.split(line))
                for line in lines]  # fmt: skip


def check_complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn, and so fail, for each public name that the reference lacks: it has no docstring, or no page."""
    for name in sorted(set(PUBLIC.values()) - env.domains.python_domain.objects.keys()):
        logging.getLogger(__name__).warning("public, but not in the reference: %s", name)


def setup(app: Sphinx) -> None:
    """Register what the site adds to Sphinx."""
    app.connect("autodoc-process-docstring", shapes, priority=400)  # before napoleon
    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", check_complete)
