"""Procedural volumes with known ground truth, for controls and tests."""
