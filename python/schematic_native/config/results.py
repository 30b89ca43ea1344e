"""What a client reports about credits and about itself. The results of checks are classes of the core."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CreditBalance:
    """A company's credits of one type.

    Attributes:
        remaining: credits that may still be used.
        reserved: credits held by checks that are not settled yet.
        settled: credits used since the balance, or this process's lease, was opened.

    """

    remaining: float
    reserved: float
    settled: float


@dataclass(frozen=True)
class SpoolStatus:
    """What the spool of a client has and has done in this process.

    Attributes:
        events: track and identify events on disk that the service has not taken yet.
        bytes: what they take there, with the room that is reserved for more.
        refused: events that found no room on disk; they are in memory only.
        adopted: events that were left by dead processes and taken over.
        parked: events too old to be sent, kept in a file of their own.
        damaged: records that could not be read, kept in a file of their own.

    """

    events: int
    bytes: int
    refused: int
    adopted: int
    parked: int
    damaged: int


@dataclass(frozen=True)
class ClientStatus:
    """The state of a client, as far as it is known without I/O.

    Attributes:
        connected: the DataStream socket is open.
        ready: the DataStream is connected and its flags have arrived.
        cached_flags: flags in memory.
        cached_companies: companies in memory.
        cached_users: users in memory.
        leases: leases in memory.
        open_holds: reservations not settled, cancelled or swept yet.
        queued_events: events waiting to be sent, including those of requests under way.
        sent_events: events that the server accepted.
        dropped_events: events lost to a full queue or refused by the server.
        last_error: the latest fault that was reported; None if there is none at the moment.
        checks: checks that may hold credits. Like all counts, it starts with the client in this process.
        denied_checks: those of them that were denied.
        settles: reservations that were settled.
        lapsed_holds: reservations that expired.
        evicted: companies and users that were removed from memory to make room.
        last_message_age: seconds since the DataStream's last message; None without any.
        oldest_event_age: seconds for which the oldest events that left the queue are on their way; None
            without any. Before that an event waits for `event_buffer_period` at most.
        redis_failures: exchanges with the Redis of leases that failed or were refused.
        spool: what the spool has and has done; None without one.

    """

    connected: bool
    ready: bool
    cached_flags: int
    cached_companies: int
    cached_users: int
    leases: int
    open_holds: int
    queued_events: int
    sent_events: int
    dropped_events: int
    last_error: str | None
    checks: int = 0
    denied_checks: int = 0
    settles: int = 0
    lapsed_holds: int = 0
    evicted: int = 0
    last_message_age: float | None = None
    oldest_event_age: float | None = None
    redis_failures: int = 0
    spool: SpoolStatus | None = None
