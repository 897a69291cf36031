"""The compiled kernels for the CPU on tensors.

Tensors are dense, channels first or last: operators lay them out. Every function raises ValueError
or TypeError naming the rule that its arguments break, and RuntimeError where the extension is not
loaded. Results do not depend on the number of threads.
"""
