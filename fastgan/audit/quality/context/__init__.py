"""Figures that reviewers ask for, each beside the same of patients; no verdict turns on them."""
