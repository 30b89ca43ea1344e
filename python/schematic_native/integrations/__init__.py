"""Holds in frameworks: one module for each framework, which must be installed.

`schematic_native` never imports a module from here by itself.
"""
