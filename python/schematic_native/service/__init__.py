"""All communication with the service: REST calls, the DataStream and the delivery of events.

Nothing here decides a check, and nothing here knows a lease or a client.
"""
