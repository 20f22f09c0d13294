"""Renders HTML pages from `templates/`: one base template and one stylesheet, inlined in each page.

A page needs no other file and no network. All values are escaped.
"""

from __future__ import annotations

import functools
from typing import Any

import jinja2


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("emojax.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # keeps the order of keys
    return environment


def render_page(template: str, /, **values: Any) -> str:
    """The HTML text of a page.

    Args:
      template: name of a file in `templates/`.
      **values: the variables of the template.
    """
    return _environment().get_template(template).render(values)


def review_page() -> str:
    """The page of `emojax verify`, which loads its clips from the server that it came from."""
    return render_page("review.html", title="emojax verify")
