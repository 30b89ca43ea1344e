"""Programs that end inside a block of `hold`: what the block has used must be billed all the same."""

from __future__ import annotations

# To be run after the start of every program in `test_endings`.
OPEN_BLOCKS = {
    "a block that is still open": """
        client = Schematic(key, SchematicConfig(**fields))
        hold = client.hold("inference", acme, usage=4).__enter__()
        hold.use(3)
    """,
    "a stream that is read no further": """
        client = Schematic(key, SchematicConfig(**fields))
        def answer():
            with client.hold("inference", acme, usage=4) as hold:
                yield from hold.stream([1, 1, 1, 1], lambda units: units)
        items = answer()
        next(items), next(items), next(items)
        sys.exit(0)
    """,
    "a daemon thread inside a block": """
        client = Schematic(key, SchematicConfig(**fields))
        used = threading.Event()
        def work():
            with client.hold("inference", acme, usage=4) as hold:
                hold.use(3)
                used.set()
                threading.Event().wait()
        threading.Thread(target=work, daemon=True).start()
        used.wait()
    """,
    "a block of a process of multiprocessing that is still open": """
        import multiprocessing
        client = Schematic(key, SchematicConfig(**fields))
        def work():
            global hold
            hold = client.hold("inference", acme, usage=4).__enter__()
            hold.use(3)
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
    """,
    "a block that holds nothing and is still open": """
        client = Schematic(key, SchematicConfig(**{**fields, "credit_leases": None}))
        hold = client.hold("inference", acme, usage=4, event_subtype="inference_tokens")
        hold.__enter__().use(3)
    """,
}
