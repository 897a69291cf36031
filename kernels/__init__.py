"""Triton kernels, installed as fastgan.kernels: one module per op, its kernel and host launcher.

A leaf of the package: only `fastgan.ops` and tests import it, and it imports nothing of fastgan.
"""
