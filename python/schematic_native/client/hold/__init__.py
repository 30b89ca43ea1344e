"""Holds that grow, renew and settle themselves: `client.hold` and `client.metered`.

A hold is a layer over checks and settles. It owns reservations, called its pieces: that of the first
check, those it grew by, and those that replace pieces before they expire. However its block is left,
each piece is settled once, and together they bill exactly what was used.

`ending`, `growing` and `renewing` decide, without I/O, what to ask for and how many units each piece
is settled with. Their native base class, `OpenHold`, has the counts; if memory has all the answers, it
enters and ends a block alone. `synchronous` and `asynchronous` wait in the way of their client; background
work runs on the client's event loop.
"""
