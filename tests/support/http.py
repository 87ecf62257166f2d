"""httpx for services on loopback: without TLS, since a call would spend 40 ms of a core on reading certificates.

Where a test waits for an answer, that would be all the processes it waits for could have.
"""

from functools import partial

import httpx

request = partial(httpx.request, verify=False)
get = partial(httpx.get, verify=False)
delete = partial(httpx.delete, verify=False)
