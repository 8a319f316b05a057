"""python -m nightly_server: the model server, until SIGTERM."""

import sys

from nightly_server.server import main

sys.exit(main())
