"""Holds that look after themselves: `client.hold` and `client.metered`.

A hold is a layer over checks and settles. It owns reservations, its pieces: the first check's, what
it grew by, and what renews them before they lapse. Whatever leaves its block, each piece is settled
once, and together they bill exactly what was used.

`ending`, `growing` and `renewing` decide, without I/O: what to ask for, and which piece ends with how
many units. `synchronous` and `asynchronous` wait, each in its client's way; what nobody waits for
goes on on the client's loop.
"""
