"""An ASGI application with a client for each process, closed by the lifespan's end."""

from __future__ import annotations

import json
import os

from schematic_native import AsyncSchematic, AsyncSchematicConfig
from tests.under.programs.common import API_KEY, COMPANY, fields

client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields()))


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    result = await client.check("inference", COMPANY, usage=6)
    await client.track_with_reservation(result.reservation, 3)
    body = json.dumps({"process": os.getpid(), "used": 3}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def live(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await client.shutdown()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
