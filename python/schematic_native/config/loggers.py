"""The logger of a client: one of the standard library's, or an adapter for any other object.

The level of the package's own logger is only set if the configuration names another than the default, as the
application may have set it.
"""

from __future__ import annotations

import logging
from typing import cast

from schematic_native.config.client_config import WARNING
from schematic_native.ground.arguments import shown


class ForeignLogger:
    """An adapter for a logger of another library: formats each message before it is passed on."""

    def __init__(self, target: object) -> None:
        self.target = target

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Log a message at a level of the standard library."""
        method = getattr(self.target, logging.getLevelName(level).lower())
        method(message % arguments if arguments else message)

    def info(self, message: str, *arguments: object) -> None:
        """Log a message."""
        self.log(logging.INFO, message, *arguments)

    def warning(self, message: str, *arguments: object) -> None:
        """Log a message."""
        self.log(logging.WARNING, message, *arguments)

    def error(self, message: str, *arguments: object) -> None:
        """Log a message."""
        self.log(logging.ERROR, message, *arguments)


def read_logger(logger: object, level: object) -> logging.Logger:
    """Check a logger and a level; without a logger, return the package's own."""
    methods = ("info", "warning", "error")
    if logger is not None and not all(callable(getattr(logger, name, None)) for name in methods):
        raise TypeError(
            f"logger must be a logging.Logger, or have {', '.join(methods)}, "
            f"got {type(logger).__name__}"
        )
    if isinstance(level, bool) or not isinstance(level, (int, str)):
        raise TypeError(
            f"log_level must be a logging level such as 30 or 'WARNING', got {shown(level)}"
        )
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    # getLevelName returns a str for a name that it does not know.
    if isinstance(number, str):
        raise ValueError(  # noqa: TRY004 - the type is right, the name is unknown
            f"log_level must be a logging level such as 30 or 'WARNING', got {shown(level)}"
        )
    if isinstance(logger, logging.Logger):
        return logger
    if logger is not None:
        return cast("logging.Logger", ForeignLogger(logger))
    own = logging.getLogger("schematic_native")
    if number != WARNING:
        own.setLevel(number)
    return own
