"""A stateful stand-in for the service, with a real credit ledger, on one loopback port.

    with Emulator() as emulator:
        client = Schematic(emulator.api_key, SchematicConfig(base_url=emulator.base_url, ...))

What is in it, from the inside out: `amounts`, `book` and `ledger` keep the credits, exactly;
`directory` keeps flags, companies and users; `service` is all of them behind one set of commands,
each written to the `journal` before it is obeyed; `audit` adds the book up. Around that, `rest`,
`capture` and `datastream` speak the wire, `faults` breaks it on request, `app` and `server` listen,
and `Emulator` runs it all in a process of its own.

It never calls out, listens on loopback only unless told otherwise, and shares no code with the
client but the rules engine, so that it can audit what the client bills.
"""

try:
    from schematic_native.emulator.emulator import Emulator, EmulatorError, InjectedFault
    from schematic_native.emulator.seed import SeedError
except ModuleNotFoundError as error:
    needed = "pip install 'schematic-native[emulator]'"
    raise ModuleNotFoundError(f"{error.msg}; {needed}", name=error.name) from error

__all__ = ["Emulator", "EmulatorError", "InjectedFault", "SeedError"]
