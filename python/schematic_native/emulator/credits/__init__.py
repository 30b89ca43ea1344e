"""The books: every credit of every company, in exactly one place.

`amounts` are exact, `holds` are leases and reservations, `ledger` moves credits between balances,
holds and what is billed, `book` records each movement, `grants` tell whose credits they were, and
`audit` adds the book up. All of it is pure: no clock, no randomness, no I/O, and no knowledge of
flags, requests or clients.
"""
