"""The compiled CUDA kernels on tensors of a GPU, one module an operator.

Contracts as in `implementations.cpu`. Outputs and scratch memory are allocated here, on the device
of the input; kernels run on PyTorch's current stream of that device, nothing waits, and all of it
can be captured in a CUDA graph. Deterministic: results depend on the shape alone.
"""
