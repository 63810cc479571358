"""`python -m annealvi` is the command `annealvi`."""

import sys

from annealvi.cli import main

sys.exit(main())
