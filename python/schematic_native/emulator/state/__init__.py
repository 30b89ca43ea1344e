"""What the emulated service knows, and the commands that change it.

`service` is the entrance: each command is written to the `journal` before it is carried out.
`directory` keeps flags, companies and users, `metering` and `billing` turn events into credits,
`event_log` keeps what was posted, `changes` collects what is to be pushed, `summary` writes it all
as plain JSON. Nothing in here knows HTTP or WebSockets.
"""
