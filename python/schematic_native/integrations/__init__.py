"""Holds in frameworks: each module needs its own, and nothing here is loaded by `schematic_native`."""
