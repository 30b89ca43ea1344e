"""The state as plain JSON: for `Emulator.state()`, in credits and epoch seconds, and as a new seed.

It reads and writes out; it sweeps nothing and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.credits.amounts import ONE, to_credits

if TYPE_CHECKING:
    from schematic_native.emulator.credits.grants import Grant
    from schematic_native.emulator.credits.holds import Lease, Reservation
    from schematic_native.emulator.state.state import State

Entity = dict[str, Any]


def summarize(state: State) -> Entity:
    """Return companies, balances, leases, reservations and billed usage."""
    owners = {owner for owner, _ in state.ledger.balances} | set(state.directory.companies)
    return {
        "companies": {owner: _company(state, owner) for owner in sorted(owners)},
        "leases": {lease.id: _lease(lease) for lease in state.ledger.leases.values()},
        "reservations": {r.id: _reservation(r) for r in state.ledger.reservations.values()},
        "events": state.log.count,
        "billed": {owner: dict(usage) for owner, usage in state.billing.usage.items()},
        "anomalies": dict(state.billing.anomalies),
        "grants": {grant.id: _grant(state, grant) for grant in state.grants.by_id.values()},
        "tokens": {
            token_id: {"company_id": token["company_id"], "expires_at": token["expires_at"]}
            for token_id, token in state.tokens.items()
        },
    }


def write_seed(api_key: str, state: State) -> Entity:
    """Return a seed that starts with the entities and balances of a state.

    A seed has no leases and no reservations: what they hold is in the balance.
    """
    directory = state.directory
    return {
        "api_key": api_key,
        "flags": list(directory.flags.values()),
        "companies": [_company_seed(state, company_id) for company_id in directory.companies],
        "users": [_with_record(state, user) for user in directory.users.values()],
    }


def _company_seed(state: State, company_id: str) -> Entity:
    lines = state.lines(company_id)
    company = _with_record(state, state.directory.company_wire(company_id, lines))
    slots = ((company_id, credit) for credit in lines)
    company["credit_balances"] = {
        slot[1]: to_credits(state.ledger.balances.get(slot, 0) + state.ledger.held(slot))
        for slot in slots
    }
    return company


def _with_record(state: State, entity: Entity) -> Entity:
    """Add what the management calls know of an entity and DataStream does not send."""
    record = state.directory.records.get(entity["id"])
    return dict(entity) if record is None else {**entity, "record": record}


def _company(state: State, company_id: str) -> Entity:
    company = state.directory.companies.get(company_id, {})
    lines, overage = state.lines(company_id), state.ledger.overage
    return {
        "keys": company.get("keys") or {},
        "balances": {credit: line.remaining for credit, line in lines.items()},
        "held": {credit: line.reserved for credit, line in lines.items()},
        "settled": {credit: line.settled for credit, line in lines.items()},
        "overage": {
            credit: to_credits(overage[company_id, credit])
            for credit in lines
            if (company_id, credit) in overage
        },
        "metrics": company.get("metrics") or [],
    }


def _grant(state: State, grant: Grant) -> Entity:
    return {
        "company_id": grant.company_id,
        "credit_type_id": grant.credit_type_id,
        "quantity": to_credits(grant.quantity),
        "remaining": to_credits(state.grant_left(grant)),
        "expires_at": grant.expires_at,
        "ended_at": grant.ended_at,
    }


def _lease(lease: Lease) -> Entity:
    return {
        "company_id": lease.company_id,
        "credit_type_id": lease.credit_type_id,
        "granted": to_credits(lease.granted),
        "tracked": to_credits(lease.tracked),
        "refunded": to_credits(lease.refunded),
        "held": to_credits(lease.unspent),
        "status": lease.status,
        "expires_at": lease.expires_at,
        "released_at": lease.released_at,
    }


def _reservation(reservation: Reservation) -> Entity:
    return {
        "company_id": reservation.company_id,
        "credit_type_id": reservation.credit_type_id,
        "event_subtype": reservation.event_subtype,
        "quantity": reservation.quantity,
        "reserved": to_credits(reservation.reserved),
        "settled": to_credits(reservation.settled),
        "refunded": to_credits(reservation.refunded),
        "consumption_rate": reservation.rate / ONE,
        "status": reservation.status,
        "expires_at": reservation.expires_at,
        "released_at": reservation.released_at,
    }
