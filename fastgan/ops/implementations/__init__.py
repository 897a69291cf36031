"""The kernels behind the operators, by device: plain functions without derivatives."""
