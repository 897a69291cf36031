"""Who is trained on and who is held out: whole subjects, decided by a hash of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fastgan.data.manifest import Item
from fastgan.errors import ConfigError

__all__ = ["holdout_subjects", "split_items"]


def holdout_subjects(subjects: Iterable[str], share: float) -> set[str]:
    """The subjects never trained on: those whose hash falls below `share`.

    A subject's place depends on its name alone, so adding others never moves it. Where chance
    would hold out none, or all, of two or more subjects, the one with the lowest or highest hash
    is moved.

    Args:
        subjects: names, repeats allowed.
        share: 0 <= share < 1.
    """
    place = {
        s: int.from_bytes(hashlib.blake2b(s.encode(), digest_size=8).digest()) / 2.0**64
        for s in set(subjects)
    }
    held = {s for s, at in place.items() if at < share}
    if share > 0.0 and len(place) > 1:
        if not held:
            held = {min(place, key=lambda s: (place[s], s))}
        elif len(held) == len(place):
            held.remove(max(place, key=lambda s: (place[s], s)))
    return held


def split_items(items: Sequence[Item], share: float) -> list[Item]:
    """Items with their split filled in; a split column given wins.

    Raises:
        ConfigError: some rows name a split and some do not, or a subject is in both.
    """
    named = [item for item in items if item.split is not None]
    if not named:
        held = holdout_subjects((item.subject for item in items), share)
        return [replace(i, split="holdout" if i.subject in held else "train") for i in items]
    if len(named) < len(items):
        raise ConfigError(f"split: {len(items) - len(named)} of {len(items)} rows name none")
    by_split = {s: {i.subject for i in items if i.split == s} for s in ("train", "holdout")}
    both = sorted(by_split["train"] & by_split["holdout"])
    if both:
        raise ConfigError(
            f"split: subject {both[0]!r} is in train and in holdout ({len(both)} such subjects)"
        )
    return list(items)
