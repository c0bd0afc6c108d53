"""Settings of the guide: python -m sphinx -W -n docs docs/_build; neither the build nor a page fetches anything."""
import importlib.util
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"    # whatever is set outside: figures are output
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # chapters run small products, where threads only wait

import npdvae  # noqa: E402

project, author, release = "npdvae", "the npdvae developers", npdvae.__version__
copyright = "the npdvae developers, MIT licence"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax", "myst_nb", "sphinx_design",
              "api_pages", "docstrings", "project_links"]
exclude_patterns = ["_build", "jupyter_execute"]
nitpicky = True

html_theme = "furo"
html_title = "npdvae"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
smartquotes = False

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 1200
nb_merge_streams = True
nb_execution_show_tb = True

autodoc_member_order = "bysource"
viewcode_follow_imported_members = False        # an alias of dict has no source to show
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_type_aliases = {name: f"npdvae.types.{name}" for name in ("Array", "DType", "Params", "State", "Cost")}

# MathJax: one file, from a package of the docs extra
_mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
html_static_path += [str(pathlib.Path(next(iter(_mathjax.submodule_search_locations))) / "static/mathjax/tex-svg.js")]
mathjax_path = "tex-svg.js"
mathjax3_config = {"svg": {"fontCache": "global", "scale": 1.0}, "options": {"enableMenu": False}}
