"""Whom a run was trained on and whom it held out, by salted hash, for whoever judges it later.

The salt is a function of the data, so lists of different data cannot be compared; it stands beside
the hashes, so whoever holds a list of names can still try each. It hides names, not people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastgan.errors import AuditError

__all__ = ["KEY", "entry_of", "refuse_trained", "with_earlier"]

KEY = "subjects"
"""Of data.json."""
SHOWN = 3


def entry_of(fingerprint: str, train: Iterable[str], holdout: Iterable[str]) -> dict[str, Any]:
    """The entry of a data set: salt, and the hashes of the subjects of both splits.

    Args:
        fingerprint: of the training split.
        train: subjects, repeats allowed.
        holdout: likewise.
    """
    salt = hashlib.sha256(b"fastgan subjects\n" + fingerprint.encode()).hexdigest()[:32]
    return {
        "salt": salt,
        "train": sorted(_hashes(train, salt)),
        "holdout": sorted(_hashes(holdout, salt)),
    }


def with_earlier(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """A record of data with the entries that a run had before, which it was trained on too.

    Args:
        record: of the data now.
        earlier: content of the run's data.json.
    """
    merged = dict(record)
    if "b" in record and "b" in earlier:
        merged["b"] = with_earlier(record["b"], earlier["b"])
    now, before = record.get(KEY, []), earlier.get(KEY, [])
    if now or before:
        merged[KEY] = [*before, *(entry for entry in now if entry not in before)]
    return merged


def refuse_trained(data: Mapping[str, Any], subjects: Sequence[str], whose: str) -> None:
    """Raise AuditError if a run was trained, at any time, on one of these subjects.

    Args:
        data: content of the run's data.json.
        subjects: who is about to be judged on as unseen.
        whose: such as "held-out", for the message.
    """
    names = {str(name) for name in subjects}
    seen: set[str] = set()
    for entry in data.get(KEY, []):
        trained = set(entry["train"])
        salt = entry["salt"]
        seen |= {name for name in names if _hash(name, salt) in trained}
    if seen:
        shown = ", ".join(sorted(seen)[:SHOWN]) + (", ..." if len(seen) > SHOWN else "")
        raise AuditError(
            f"{len(seen)} of {len(names)} {whose} subjects are among those that this run was "
            f"trained on ({KEY} in data.json): {shown}; judge on others, or train anew without them"
        )


def _hashes(subjects: Iterable[str], salt: str) -> set[str]:
    return {_hash(name, salt) for name in subjects}


def _hash(subject: str, salt: str) -> str:
    text = str(subject).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16, key=salt.encode()).hexdigest()
