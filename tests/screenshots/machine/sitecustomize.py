"""A process on a machine of another name, so that pictures show none of ours: Python imports this at its start."""

import os
import socket

socket.gethostname = lambda: os.environ["EKIDEN_TEST_HOST"]
