"""Luhn's check digit (ISO/IEC 7812-1, annex B) as a finite machine, so that a search can carry it along a path.

From the right, the check digit included, every second digit is doubled (less nine above nine), and the sum must be
divisible by ten. Which digits are doubled is only known at the end, so the machine carries both sums modulo ten: with
the last digit doubled, and without. Its state is the number 10 * first + second; it begins in 0.
"""

import re

import numpy as np

STATES = 100
NO_DIGIT = 10
"""Column of `MOVE` for a token that is no digit: the state stays."""

_DOUBLED = np.array([0, 2, 4, 6, 8, 1, 3, 5, 7, 9])
_FIRST, _SECOND = np.divmod(np.arange(STATES), 10)

MOVE = np.column_stack(
    [10 * ((_SECOND + _DOUBLED[d]) % 10) + (_FIRST + d) % 10 for d in range(10)] + [np.arange(STATES)]
).astype(np.uint8)
"""uint8[states, 11]: the next state by the digit read."""

CHECK = (10 - _FIRST) % 10
"""int64[states]: the check digit of what was read."""


def check_digit(text: str) -> str:
    """The check digit of the digits 0-9 in `text`; everything else in it is passed over."""
    state = 0
    for digit in re.findall("[0-9]", text):
        state = MOVE[state, int(digit)]
    return str(CHECK[state])
