"""`python -m fastgan` is the command `fastgan`."""

import sys

from fastgan.cli.main import main

sys.exit(main())
