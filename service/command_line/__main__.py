"""`python -m pixeltier.service.command_line`."""

import sys

from pixeltier.service.command_line.main import main

sys.exit(main())
