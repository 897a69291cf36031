"""The kernels behind the operators, one folder a place, one module an operator.

They are plain functions without derivatives. Each module states the dtypes that its kernels read,
what it serves (`SERVES`, for a person), and why it cannot take a tensor (`supports`: None: it can).
"""
