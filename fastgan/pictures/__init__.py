"""Volumes become pictures here: `slices` of intensities, lit `surfaces` of masks."""
