"""`python -m caviar` is `caviar`."""

import sys

from caviar.cli import main

sys.exit(main())
