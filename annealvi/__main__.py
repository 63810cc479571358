"""`python -m annealvi` is the command `annealvi`."""

import sys

try:
    from annealvi.cli.program import main

    sys.exit(main())
except KeyboardInterrupt:  # during the import; `main` handles later interrupts
    sys.stderr.write("annealvi: interrupted\n")
    sys.exit(130)
