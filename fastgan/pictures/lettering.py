"""Text under a picture, in letters of 5 x 7 dots, so that no font and no library is needed."""

from __future__ import annotations

import textwrap
from functools import cache

import numpy as np

from fastgan.arrays import Bytes

__all__ = ["captioned"]

# Codes 32 to 126, five columns a letter, lowest bit on top: the common form of dot-matrix displays.
_COLUMNS = (
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300"
    "001c224100 0041221c00 14083e0814 08083e0808 0050300000 0808080808 0060600000 2010080402"
    "3e5149453e 00427f4000 4261514946 2141454b31 1814127f10 2745454539 3c4a494930 0171090503"
    "3649494936 064949291e 0036360000 0056360000 0814224100 1414141414 0041221408 0201510906"
    "324979413e 7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090901 3e4149497a"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e"
    "7f09090906 3e4151215e 7f09192946 4649494931 01017f0101 3f4040403f 1f2040201f 3f4038403f"
    "6314081463 0708700807 6151494543 007f414100 0204081020 0041417f00 0402010204 4040404040"
    "0001020400 2054545478 7f48444438 3844444420 384444487f 3854545418 087e090102 0c5252523e"
    "7f08040478 00447d4000 2040443d00 7f10284400 00417f4000 7c04180478 7c08040478 3844444438"
    "7c14141408 081414187c 7c08040408 4854545420 043f444020 3c4040207c 1c2040201c 3c4030403c"
    "4428102844 0c5050503c 4464544c44 0008364100 00007f0000 0041360800 0804081008"
).replace(" ", "")

CELL_HEIGHT, CELL_WIDTH = 10, 6
ENLARGED = 2
"""Pixels a dot is wide."""
WHITE = 255
LEAST_LETTERS = 24


def captioned(picture: Bytes, text: str) -> Bytes:
    """The picture with `text` below it, white on black, broken into lines of its width.

    Args:
        picture: [height, width] grey values; widened with black where it is narrower than a line
            of 24 letters.
        text: what is shown; characters other than ASCII become "?". None leaves the picture as is.

    Returns:
        [height + lines * 20 + 8, width] grey values.
    """
    columns = max(LEAST_LETTERS, (picture.shape[1] - 8) // (CELL_WIDTH * ENLARGED))
    lines = textwrap.wrap(text, columns, break_on_hyphens=False)
    if not lines:
        return picture
    body = np.vstack([_line(line, max(map(len, lines))) for line in lines])
    body = np.pad(body, ((6, 2), (4, 4)))
    width = max(picture.shape[1], body.shape[1])
    wide = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in (picture, body)]
    return np.vstack(wide)


def _line(text: str, length: int) -> Bytes:
    dots = np.hstack([_letter(letter) for letter in text.ljust(length)])
    return dots.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


@cache
def _letter(letter: str) -> Bytes:
    index = ord(letter) - 32 if 32 <= ord(letter) < 127 else ord("?") - 32
    columns = np.frombuffer(bytes.fromhex(_COLUMNS[10 * index : 10 * index + 10]), np.uint8)
    dots = np.unpackbits(columns[:, None], axis=1, bitorder="little").T[:7] * np.uint8(WHITE)
    return np.pad(dots, ((1, CELL_HEIGHT - 8), (0, CELL_WIDTH - 5)))
