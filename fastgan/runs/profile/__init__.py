"""Where the time of a training step goes: times, operators and bytes by span, and a trace."""

from __future__ import annotations

from fastgan.runs.profile.measure import Profile, annotate, profile

__all__ = ["Profile", "annotate", "profile"]
