"""A WSGI application, whose client is made when the module is imported: before the fork, if the server preloads it."""

from __future__ import annotations

import json
import os

from tests.under.programs.common import hold, make

client = make()


def application(environ, start_response):
    used = hold(client, 3)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"process": os.getpid(), "used": used}).encode()]
