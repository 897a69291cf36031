"""Configurations that run as they are: `fastgan train --config examples/<name>.yaml`.

And the toy game: `python -m fastgan.examples.toy_game`.
"""
