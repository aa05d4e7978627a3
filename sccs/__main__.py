"""``python -m sccs`` is the `sccs` command."""

import sys

from sccs.cli import main

sys.exit(main())
