"""Pods that share one lease in Redis, and are killed: `python -m tests.pods --seconds 60`.

Each pod is a process with a client of its own, whose workers check, work and settle; it writes what
it did into a journal that outlives it. Every second one is killed without a word and another takes
its place, while a watch reads the lease again and again. What the journals say is then held against
Redis and against the emulator's books.
"""
