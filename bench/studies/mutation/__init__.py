"""Mutation runs over the derivative code: do the tests notice when a formula is wrong?

    python -m bench.studies.mutation [--count 110] [--seed 0]

Not collected by pytest; started by `make mutation`.
"""
