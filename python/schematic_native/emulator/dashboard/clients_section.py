"""The section of connected clients: each open DataStream, and what it follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.layout import button, nothing, row, section, table
from schematic_native.emulator.dashboard.texts import count, instant

if TYPE_CHECKING:
    from schematic_native.emulator.dashboard.markup import Markup
    from schematic_native.emulator.endpoints.datastream import Connection, DataStream

_MOST_NAMES = 5


def clients_section(stream: DataStream) -> Markup:
    """Show who is connected, longest first, and a button that drops them."""
    connections = sorted(stream.connections, key=lambda each: each.since)
    columns = ("client", "since", "program", "flags", "companies and users")
    rows = [_client(connection) for connection in connections]
    return section(
        "clients",
        "Connected clients",
        table("clients", "Open DataStream connections", columns, rows)
        if rows
        else nothing("No DataStream is open."),
        button(
            "Drop the sockets",
            "/_emulator/drop-sockets",
            data_done="Sockets dropped",
            disabled=not rows,
        ),
    )


def _client(connection: Connection) -> Markup:
    peer = connection.socket.client
    address = "?" if peer is None else f"{peer.host}:{peer.port}"
    names = sorted(connection.followed)
    more = len(names) - _MOST_NAMES
    followed = ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
    return row(
        f"client-{address}",
        address + (" (frozen)" if connection.silent else ""),
        instant(connection.since),
        connection.socket.headers.get("user-agent", ""),
        "all" if connection.flags else "none",
        followed or count(0, "entity", "entities"),
    )
