"""`python -m caviar` is `caviar`."""

import sys

from caviar.cli.main import main

sys.exit(main())
