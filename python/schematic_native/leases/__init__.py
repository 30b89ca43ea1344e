"""Leases and holds of credits: who acquires, extends, shares and releases them.

What is asked of the service and of a shared store is decided by the core; this package carries it out.
"""
