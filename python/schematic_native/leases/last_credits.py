"""What a company that has few credits left can still be lent.

It only computes an amount; it asks nobody.
"""

from __future__ import annotations

import math


def affordable(balance: float | None, refused: float, needed: float) -> float | None:
    """Return fewer credits to ask for after a refusal: the company's last ones. None to give up.

    Args:
        balance: the company's, as it is cached.
        refused: credits that were refused.
        needed: credits that a check waits for; 0 if none does.

    """
    if balance is None or balance < needed:
        return None
    less = max(float(math.floor(balance)), needed)
    return less if 0 < less < refused else None
