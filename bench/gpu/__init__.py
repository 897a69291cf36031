"""What is measured on a GPU, one module a check: `python -m bench.gpu CHECK` prints its rows."""
