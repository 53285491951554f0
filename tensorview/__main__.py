"""``python -m tensorview`` is the command line."""

import sys

from tensorview.cli import main

sys.exit(main())
