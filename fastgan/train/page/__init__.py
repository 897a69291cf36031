"""run.html: what a run read, is doing and has made, for people who would rather look than read."""

from fastgan.train.page.write import write_page

__all__ = ["write_page"]
