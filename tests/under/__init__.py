"""Probes: small real programs against the emulator, each under another server, pool, interpreter or network.

`python -m tests.under` runs them all and writes docs/works_under.md; a few run with the tests.
"""
