"""Schematic feature checks and credit leases, decided in Rust."""

from schematic_native._native import __version__

__all__ = ["__version__"]
