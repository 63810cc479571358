"""`python -m annealvi` is the command `annealvi`."""

import sys

try:
    from annealvi.cli.program import main

    sys.exit(main())
except KeyboardInterrupt:  # during that import; `main` sees to the rest
    sys.stderr.write("annealvi: interrupted\n")
    sys.exit(130)
