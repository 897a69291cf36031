"""Faults put into runs, files and calls, and what came of each; see `__main__`."""
