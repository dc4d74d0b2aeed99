"""Pages that ptshare writes: the templates, and what all of them are given."""

from __future__ import annotations

from pathlib import Path

from ptshare_plugin import __version__
from ptshare_plugin.show import plots

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, escape: bool = True, **content: object) -> str:
    """Text of a template of ``templates/``; ``escape``: for HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(
        version=__version__,
        light=plots.css(dark=False),
        dark=plots.css(dark=True),
        **content,
    )
