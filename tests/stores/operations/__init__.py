"""What the store does, on one server and on a cluster, by every way that redis-py offers.

The sentences are those of the contract that SDKs of other languages keep too. The server's clock
decides when a lease is over, so a test that needs an old lease dates back what is stored.
"""
