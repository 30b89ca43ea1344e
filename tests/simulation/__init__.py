"""The whole system in one process under a clock of its own: seeded schedules, a judge, a shrinker.

`python -m tests.simulation --help` runs it; CONTRIBUTING.md says how it works.
"""
