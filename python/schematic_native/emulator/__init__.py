"""A stateful stand-in for the service, with a real credit ledger, on one loopback port.

    with Emulator() as emulator:
        client = Schematic(emulator.api_key, SchematicConfig(base_url=emulator.base_url, ...))

What is in it, from the inside out: `credits` keeps every credit in exactly one place and audits that;
`state` keeps flags, companies, users and events, and writes each command to a journal before it
obeys; `endpoints` speak the wire. `fault_injector` breaks the wire on request, `app` puts these
together, `server` listens, and `Emulator` runs a server in a process of its own.

It never calls out, listens on loopback only unless told otherwise, and shares no code with the client
but the rules engine and the reading of JSON, so that it can audit what the client bills.
"""

try:
    from schematic_native.emulator.emulator import Emulator, InjectedFault
    from schematic_native.emulator.errors import EmulatorError
    from schematic_native.emulator.seed_schema import SeedError
except ModuleNotFoundError as error:
    needed = "pip install 'schematic-native[emulator]'"
    raise ModuleNotFoundError(f"{error.msg}; {needed}", name=error.name) from error

__all__ = ["Emulator", "EmulatorError", "InjectedFault", "SeedError"]
