"""Which redirects are followed, and how many.

Only those that keep method and body are: any other would turn a request into a GET, whose response says
nothing about it.
"""

MOST_REDIRECTS = 5
KEEPING_REDIRECTS = frozenset({307, 308})
