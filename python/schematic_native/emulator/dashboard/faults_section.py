"""The section of injected faults: those in force, and a form for another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.layout import (
    button,
    choice,
    field,
    form,
    nothing,
    row,
    section,
    table,
)
from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.injected_faults import FAULT_PLACES

if TYPE_CHECKING:
    from schematic_native.emulator.injected_faults import Fault, Faults

_KINDS = {
    "status": "answer a status",
    "delay": "delay",
    "drop": "drop the connection",
    "cut": "do it, then cut",
    "freeze": "never answer",
    "refuse": "refuse connections",
}


def faults_section(faults: Faults) -> Markup:
    """Show the faults in force and the form."""
    rows = [_fault(fault) for fault in faults.in_force.values()]
    return section(
        "faults",
        "Faults",
        table("faults", "Faults in force", ("fault", "on", "fired", "heal"), rows)
        if rows
        else nothing("None is in force."),
        _form(),
        button("Heal all", "/_emulator/heal", data_done="All faults healed", disabled=not rows),
    )


def _fault(fault: Fault) -> Markup:
    detail = {"status": f" {fault.status}", "delay": f" {fault.seconds:g} s"}.get(fault.kind, "")
    times = "" if fault.times is None else f" of {fault.times}"
    return row(
        f"fault-{fault.id}",
        f"{fault.id}: {fault.kind}{detail}",
        fault.on,
        f"{fault.fired}{times}",
        button(
            "Heal",
            "/_emulator/heal",
            {"id": fault.id},
            aria_label=f"Heal fault {fault.id}",
            data_done=f"Fault {fault.id} healed",
        ),
    )


def _form() -> Markup:
    name = "fault"
    places = sorted(FAULT_PLACES, key=lambda place: place != "any")
    fields = (
        choice(name, "What", "kind", _KINDS.items()),
        choice(name, "Where", "on", [(place, place) for place in places]),
        field(name, "Times (empty: always)", "times", type="number", min=1, step=1),
        field(name, "Status", "status", type="number", min=400, max=599, placeholder="503"),
        field(
            name, "Seconds of delay", "seconds", type="number", min=0, step="any", placeholder="1"
        ),
        field(name, "Retry-After", "retry_after", type="number", min=0, step="any"),
        field(name, "Probability", "probability", type="number", min=0, max=1, step="any"),
    )
    submit = tag("button", "Inject the fault", type="submit")
    return form(name, "/_emulator/fail", fields, submit, class_="grid", data_done="Fault injected")
