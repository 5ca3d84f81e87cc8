"""``python -m byre``."""

import sys

from byre.cli.main import main

sys.exit(main())
