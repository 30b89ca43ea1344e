"""The stress run: `python -m tests.stress --help` runs it, and tells what it does."""
