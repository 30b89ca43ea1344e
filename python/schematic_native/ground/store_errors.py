"""The errors of shared stores and caches, whatever server they are on."""

from __future__ import annotations


class StoreError(Exception):
    """An operation on a shared store has failed.

    Attributes:
        lost: whether it is unknown if the store has carried it out, or will; if False, it has not.
        is_refusal: whether the store has responded, and refuses this command.

    """

    def __init__(self, message: str, *, lost: bool, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.lost = lost
        self.is_refusal = is_refusal

    @property
    def state(self) -> object:
        """The same for all failures, which are logged once."""
        return StoreError


class CacheError(Exception):
    """A shared cache could not be read."""
