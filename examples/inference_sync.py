"""Reserve credits, work, settle: the synchronous client against the embedded emulator.

Run it with `python examples/inference_sync.py`. With an account of your own, leave the emulator and the two URLs out.
"""

from __future__ import annotations

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.emulator import Emulator


def answer(prompt: str) -> tuple[str, int]:
    """Stand in for a model: return a text and the tokens it used."""
    return prompt.upper(), len(prompt.split())


def main() -> None:
    """Ask twice: once as a company with credits, once as one without."""
    with Emulator() as emulator:
        config = SchematicConfig(
            base_url=emulator.base_url,
            event_capture_url=emulator.base_url,
            use_datastream=True,
            credit_leases=CreditLeaseConfig(),
        )
        with Schematic(emulator.api_key, config) as client:
            for name in ("acme", "none"):
                result = client.check("inference", company={"id": name}, usage=100)
                if not result.allowed:
                    print(f"{name}: denied, {result.reason}")
                    continue
                text, tokens = answer("what is a lease")
                client.track_with_reservation(result.reservation, tokens)
                print(f"{name}: {text!r} for {tokens} tokens")
        print("billed:", emulator.state()["billed"])


if __name__ == "__main__":
    main()
