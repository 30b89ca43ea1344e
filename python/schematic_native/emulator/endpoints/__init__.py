"""The wire: one module for each group of requests that the emulator answers.

They read requests, call the commands of `state.service` and write responses. What a request
changes is decided there, never here.
"""
