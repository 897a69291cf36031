"""What is measured on a GPU, one module a check: `python -m bench.gpu CHECK` prints its rows."""

import sys
from pathlib import Path

# The studies of the folder above find each other so.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
