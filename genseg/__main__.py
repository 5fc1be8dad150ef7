"""`python -m genseg` is the `genseg` command."""

import sys

from genseg.cli import main

sys.exit(main())
