"""The parts of a running emulator that its admin API and its dashboard read and command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schematic_native.emulator.endpoints.datastream import DataStream
    from schematic_native.emulator.fault_injector import FaultInjector
    from schematic_native.emulator.seed import Seed
    from schematic_native.emulator.state.service import Service
    from schematic_native.emulator.traffic import Traffic


@dataclass
class Components:
    """One of each, made by the application."""

    service: Service
    stream: DataStream
    injector: FaultInjector
    traffic: Traffic
    control_url: str = ""  # where the control port is; set by the server, which has it

    async def reset(self, seed: Seed | None = None) -> None:
        """Begin anew, from the seed or from another one; connected clients are sent what is new."""
        await self.injector.heal()
        key = self.service.api_key
        self.service.reset(seed)
        self.traffic.reset()
        if self.service.api_key == key:
            self.stream.push_everything()
        else:
            self.injector.drop_sockets()
