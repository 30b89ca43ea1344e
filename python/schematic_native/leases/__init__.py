"""Leases and holds of credits: who acquires, extends, shares and releases them.

The core decides what is asked of the service and of a shared store; this package carries it out.
"""
