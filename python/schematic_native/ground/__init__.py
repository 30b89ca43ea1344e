"""What all other packages use: arguments, time limits, threads, JSON and the fault log.

Nothing here knows the service, Redis or a client.
"""
