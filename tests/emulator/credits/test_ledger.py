"""The ledger of credits: what each entry moves, and that nothing is minted or lost."""

from __future__ import annotations

import pytest

from schematic_native.emulator.credits.amounts import ONE, to_units
from schematic_native.emulator.credits.audit import audit
from schematic_native.emulator.credits.ledger import (
    LONGEST_HOLD,
    REPEAT_WINDOW,
    Ledger,
    Reservation,
)
from schematic_native.emulator.errors import (
    InsufficientCreditsError,
    InvalidRequestError,
    UnknownIdError,
)

SLOT = ("comp_1", "credit_1")
NOW = 1_000.0


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.grant(NOW, SLOT, 1000 * ONE, "opening")
    return ledger


def reservation(
    name: str = "res_1", quantity: int = 10, expires_at: float = NOW + 60
) -> Reservation:
    return Reservation(
        id=name,
        company_id=SLOT[0],
        credit_type_id=SLOT[1],
        event_subtype="tokens",
        rate=2 * ONE,
        quantity=quantity,
        reserved=quantity * 2 * ONE,
        expires_at=expires_at,
        created_at=NOW,
        updated_at=NOW,
    )


def test_an_acquire_takes_the_credits_out_of_the_balance(ledger: Ledger) -> None:
    lease = ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    assert (lease.granted, lease.tracked, ledger.balances[SLOT]) == (400 * ONE, 0, 600 * ONE)


def test_an_acquire_of_an_occupied_slot_answers_the_lease_that_is_there(ledger: Ledger) -> None:
    first = ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    second = ledger.acquire(NOW + 1, "lse_2", SLOT, 900 * ONE, NOW + 600)
    assert second == first
    assert ledger.balances[SLOT] == 600 * ONE
    assert "lse_2" not in ledger.leases


def test_an_acquire_beyond_the_balance_is_refused_and_moves_nothing(ledger: Ledger) -> None:
    with pytest.raises(InsufficientCreditsError, match=r"1000\.5 of credit_1"):
        ledger.acquire(NOW, "lse_1", SLOT, to_units(1000.5, "amount"), NOW + 300)
    assert ledger.balances[SLOT] == 1000 * ONE
    assert not ledger.leases


def test_an_acquire_may_take_the_balance_to_zero(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 1000 * ONE, NOW + 300)
    assert ledger.balances[SLOT] == 0


@pytest.mark.parametrize("limit", [50, None])
def test_an_overdraft_covers_what_the_balance_does_not(ledger: Ledger, limit: int | None) -> None:
    ledger.overdraft[SLOT] = None if limit is None else limit * ONE
    ledger.acquire(NOW, "lse_1", SLOT, 1050 * ONE, NOW + 300)
    assert ledger.balances[SLOT] == -50 * ONE


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1, NOW + LONGEST_HOLD + 0.001])
def test_an_expiry_must_lie_within_the_next_hour(ledger: Ledger, expires_at: float) -> None:
    with pytest.raises(InvalidRequestError, match="expires_at"):
        ledger.acquire(NOW, "lse_1", SLOT, ONE, expires_at)
    with pytest.raises(InvalidRequestError, match="expires_at"):
        ledger.reserve(NOW, reservation(expires_at=expires_at), None)
    ledger.acquire(NOW, "lse_1", SLOT, ONE, NOW + LONGEST_HOLD)
    with pytest.raises(InvalidRequestError, match="expires_at"):
        ledger.extend(NOW, "lse_1", ONE, expires_at, None)


@pytest.mark.parametrize("units", [0, -ONE])
def test_an_acquire_of_nothing_is_refused(ledger: Ledger, units: int) -> None:
    with pytest.raises(InvalidRequestError, match="requested_amount"):
        ledger.acquire(NOW, "lse_1", SLOT, units, NOW + 300)


def test_an_extend_answers_the_new_total(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    lease = ledger.extend(NOW + 1, "lse_1", 100 * ONE, NOW + 400, None)
    assert (lease.granted, lease.expires_at) == (500 * ONE, NOW + 400)
    assert ledger.balances[SLOT] == 500 * ONE


def test_an_extend_never_moves_the_expiry_back(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    assert ledger.extend(NOW, "lse_1", ONE, NOW + 10, None).expires_at == NOW + 300


def test_a_repeated_extend_gets_the_first_answer_and_debits_once(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 100 * ONE, NOW + 300)
    first = ledger.extend(NOW, "lse_1", 10 * ONE, None, "key")
    ledger.extend(NOW, "lse_1", 5 * ONE, None, "other")
    assert ledger.extend(NOW + 1, "lse_1", 10 * ONE, None, "key") == first
    assert ledger.leases["lse_1"].granted == 115 * ONE


def test_a_refused_extend_is_not_remembered(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 1000 * ONE, NOW + 300)
    with pytest.raises(InsufficientCreditsError):
        ledger.extend(NOW, "lse_1", ONE, None, "key")
    ledger.grant(NOW, SLOT, ONE)
    assert ledger.extend(NOW, "lse_1", ONE, None, "key").granted == 1001 * ONE


def test_an_idempotency_key_is_forgotten_after_a_day(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 100 * ONE, NOW + 3600)
    now = NOW
    ledger.extend(now, "lse_1", 10 * ONE, None, "key")
    while now < NOW + REPEAT_WINDOW:
        now += 1800
        ledger.extend(now, "lse_1", 0, now + 3600, None)
    assert ledger.extend(now, "lse_1", 10 * ONE, None, "key").granted == 120 * ONE


def test_a_release_refunds_what_was_not_spent(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    ledger.consume_lease(NOW, "lse_1", 150 * ONE)
    lease = ledger.release(NOW + 1, "lse_1")
    assert (lease.refunded, lease.released_at) == (250 * ONE, NOW + 1)
    assert ledger.balances[SLOT] == 850 * ONE


def test_a_second_release_refunds_nothing(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    first = ledger.release(NOW, "lse_1")
    assert ledger.release(NOW + 5, "lse_1") == first
    assert ledger.balances[SLOT] == 1000 * ONE


def test_a_released_slot_takes_a_new_lease(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    ledger.release(NOW, "lse_1")
    assert ledger.acquire(NOW, "lse_2", SLOT, 10 * ONE, NOW + 300).id == "lse_2"


def test_an_expired_lease_is_refunded_and_makes_room(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    ledger.consume_lease(NOW, "lse_1", 100 * ONE)
    assert ledger.acquire(NOW + 300, "lse_2", SLOT, 10 * ONE, NOW + 600).id == "lse_2"
    assert ledger.leases["lse_1"].status == "expired"
    assert ledger.balances[SLOT] == 890 * ONE


def test_an_extended_lease_outlives_its_first_expiry(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    ledger.extend(NOW, "lse_1", ONE, NOW + 500, None)
    assert ledger.sweep(NOW + 499) == []
    assert ledger.sweep(NOW + 500) == [SLOT]


@pytest.mark.parametrize("end", ["released", "expired"])
def test_an_ended_lease_is_not_extended(ledger: Ledger, end: str) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    if end == "released":
        ledger.release(NOW, "lse_1")
    with pytest.raises(InvalidRequestError, match=end):
        ledger.extend(NOW + 300, "lse_1", ONE, None, None)


def test_consumption_beyond_the_grant_is_billed_to_the_balance(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 1000 * ONE, NOW + 300)
    consumption = ledger.consume_lease(NOW, "lse_1", 1200 * ONE)
    assert consumption == (1000 * ONE, 200 * ONE)
    assert ledger.leases["lse_1"].tracked == 1000 * ONE
    assert ledger.balances[SLOT] == -200 * ONE
    assert audit(ledger)["credits"]["credit_1"]["overage"] == 200


def test_consumption_of_an_ended_lease_is_billed_to_the_balance(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    assert ledger.consume_lease(NOW + 300, "lse_1", 30 * ONE) == (0, 30 * ONE)
    assert (ledger.balances[SLOT], ledger.billed[SLOT]) == (970 * ONE, 30 * ONE)
    assert ledger.leases["lse_1"].tracked == 0


def test_a_settle_bills_the_actual_quantity_and_refunds_the_rest(ledger: Ledger) -> None:
    ledger.reserve(NOW, reservation(), None)
    assert ledger.balances[SLOT] == 980 * ONE
    assert ledger.settle(NOW, "res_1", 4) == (8 * ONE, 0)
    assert (ledger.balances[SLOT], ledger.billed[SLOT]) == (992 * ONE, 8 * ONE)


def test_a_settle_beyond_the_hold_is_billed_to_the_balance(ledger: Ledger) -> None:
    ledger.reserve(NOW, reservation(), None)
    assert ledger.settle(NOW, "res_1", 15) == (20 * ONE, 10 * ONE)
    assert ledger.balances[SLOT] == 970 * ONE


def test_an_expired_reservation_is_refunded_whole(ledger: Ledger) -> None:
    ledger.reserve(NOW, reservation(), None)
    ledger.sweep(NOW + 60)
    assert ledger.reservations["res_1"].status == "expired"
    assert ledger.balances[SLOT] == 1000 * ONE


def test_a_released_reservation_is_refunded_once(ledger: Ledger) -> None:
    ledger.reserve(NOW, reservation(), None)
    first = ledger.release_reservation(NOW, "res_1")
    assert ledger.release_reservation(NOW + 1, "res_1") == first
    assert ledger.balances[SLOT] == 1000 * ONE


def test_a_lease_and_a_reservation_share_the_balance(ledger: Ledger) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 990 * ONE, NOW + 300)
    with pytest.raises(InsufficientCreditsError):
        ledger.reserve(NOW, reservation(), None)


def test_an_id_that_never_was_is_unknown(ledger: Ledger) -> None:
    for call in (
        lambda: ledger.extend(NOW, "lse_9", ONE, None, None),
        lambda: ledger.release(NOW, "lse_9"),
        lambda: ledger.consume_lease(NOW, "lse_9", ONE),
        lambda: ledger.release_reservation(NOW, "res_9"),
        lambda: ledger.settle(NOW, "res_9", 1),
    ):
        with pytest.raises(UnknownIdError, match="_9"):
            call()


def test_a_book_refuses_a_negative_movement(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="positive"):
        ledger.book.move(NOW, "grant", ("grants", "c", "t"), ("balance", "c", "t"), -1)


@pytest.mark.parametrize("tamper", ["balance", "tracked", "granted", "status", "billed", "entry"])
def test_an_audit_notices_a_counter_or_an_entry_that_lies(ledger: Ledger, tamper: str) -> None:
    ledger.acquire(NOW, "lse_1", SLOT, 400 * ONE, NOW + 300)
    ledger.consume_lease(NOW, "lse_1", 100 * ONE)
    assert audit(ledger)["balanced"]
    lease = ledger.leases["lse_1"]
    if tamper == "balance":
        ledger.balances[SLOT] += 1
    elif tamper == "tracked":
        lease.tracked += 1
    elif tamper == "granted":
        lease.granted += 1
    elif tamper == "status":
        lease.status = "released"
    elif tamper == "billed":
        ledger.billed[SLOT] -= 1
    else:
        ledger.book.move(NOW, "track", lease.account, ("billed", *SLOT), 301 * ONE)
    report = audit(ledger)
    assert not report["balanced"]
    assert report["problems"]
