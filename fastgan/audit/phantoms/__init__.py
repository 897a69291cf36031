"""Phantoms are procedural volumes of known truth, for the tests and studies of the judgements."""
