"""Print the reference page: `python -m harmoni.config > docs/reference/configuration.md`."""

import sys

from harmoni.config.text import reference

sys.stdout.write(reference())
