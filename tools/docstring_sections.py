"""The extension of griffe that mkdocs.yml names: every docstring passes through `as_markdown`."""

from __future__ import annotations

import griffe

from tools.docstring_markdown import as_markdown


class DocstringSections(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Called by griffe for each module, class, function and attribute that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
