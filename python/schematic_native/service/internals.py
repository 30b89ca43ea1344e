"""What to use instead of those attributes of the published client that are internal to it.

It gives only the sentence that completes an AttributeError.
"""

from __future__ import annotations

_STATUS = "client.status() tells what the client has and does"
_INSTEAD = {
    "event_capture_client": "event_capture_url of the configuration says where events are sent",
    "_enqueue_event": "use client.track, client.identify or client.event_buffer.push",
    "_datastream_client": _STATUS,
    "_initialized": _STATUS,
    "_lease_manager": _STATUS,
    "_lease_store": _STATUS,
    "_reservations": _STATUS,
    "_check_flag_via_api": "in tests, use offline with flag_defaults, or schematic_native.emulator",
}


def hint_for(name: str, resources: tuple[str, ...]) -> str:
    """Return how the message of an AttributeError goes on; empty if there is nothing to say."""
    if name.startswith("_") and name[1:] in resources:
        return f": use client.{name[1:]}"
    instead = _INSTEAD.get(name)
    return "" if instead is None else f": {instead}"
