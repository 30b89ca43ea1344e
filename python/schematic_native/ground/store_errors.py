"""The errors of stores and caches that several processes share, whatever server they live on."""

from __future__ import annotations


class StoreError(Exception):
    """A shared store did not do what was asked of it.

    Attributes:
        lost: nobody knows whether it did, or yet will; otherwise it surely did not.
        is_refusal: it has answered, and refuses this one command.

    """

    def __init__(self, message: str, *, lost: bool, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.lost = lost
        self.is_refusal = is_refusal

    @property
    def state(self) -> object:
        """What is the same in all failures that are logged once."""
        return StoreError


class CacheError(Exception):
    """A cache that processes share could not be read."""
