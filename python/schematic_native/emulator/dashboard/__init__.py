"""The dashboard: the page at `/` that shows what the emulator knows, as it changes, and commands it.

The server renders all of it: `page` puts the sections together, `feed` sends them again whenever
something has changed, and a little script replaces what differs. A button of the page is a request
to the admin API, like any other; the page itself changes nothing. Whatever is shown may come from
anywhere, so that `markup` escapes all text. Nothing is fetched from elsewhere.
"""
