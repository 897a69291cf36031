"""The definition of every operator in plain PyTorch: one module an operator, the tests' oracle."""
