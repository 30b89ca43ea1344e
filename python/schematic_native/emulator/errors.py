"""What can go wrong: what the emulated service refuses, each with its HTTP status, and `EmulatorError`."""

from __future__ import annotations


class EmulatorError(RuntimeError):
    """The emulator could not be started, or refused what it was told."""


class ServiceError(Exception):
    """A request that is answered with an error body."""

    status = 500


class InvalidRequestError(ServiceError):
    """The request cannot be understood or asks for what is not allowed."""

    status = 400


class UnauthorizedError(ServiceError):
    """The API key is missing or is not the seed's."""

    status = 401


class InsufficientCreditsError(ServiceError):
    """The company has fewer credits than the request would debit."""

    status = 402


class UnknownIdError(ServiceError):
    """No such company, credit type, flag, lease or reservation."""

    status = 404
