"""The compiled kernels for the CPU on tensors, one module an operator."""
