"""`python -m harmoni.cli`: the same as the command `harmoni`, for whoever executes a role."""

import sys

from harmoni.cli.app import main

sys.exit(main())
