"""The connections to the service: REST, the DataStream and the delivery of events.

Nothing here knows a lease or a client.
"""
