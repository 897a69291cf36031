"""The Triton kernels on tensors, one module an operator."""
