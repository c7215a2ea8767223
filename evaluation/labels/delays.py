"""How long conversions take, and what one seen early stands for.

A decision whose window is still open has shown only some of its conversions. With Ĝ(age) the share of conversions that
come within `age`, one seen stands for 1/Ĝ(age): weighted so, their sum is right in the mean, where counting them as
they are is too low by exactly what is still to come. Ĝ is measured on matured decisions: it is not cut off itself.
"""

import numpy as np

CLIP = 0.15
"""The least Ĝ that is divided by: one conversion never stands for more than seven."""
LEAST = 100
"""Conversions that a delay distribution of an arm, or of its group, takes; with fewer, the next wider one speaks."""


class Delays:
    """Ĝ by arm, from the conversions of matured decisions.

    Delays are shares of the arm's window, so that arms with different windows can speak for one another.
    """

    def __init__(self, action: np.ndarray, delay: np.ndarray, groups: tuple[str, ...]) -> None:
        """`action` (c,) the arm of each conversion, `delay` (c,) in [0, 1], `groups` (A,) each arm's group."""
        of_group = np.array(groups)[action]
        everything = np.sort(delay)
        self._sorted = []
        for arm, group in enumerate(groups):
            levels = (np.sort(delay[action == arm]), np.sort(delay[of_group == group]), everything)
            self._sorted.append(next((level for level in levels if len(level) >= LEAST), everything))

    def seen(self, action: np.ndarray, age: np.ndarray) -> np.ndarray:
        """(m,) Ĝ at these ages (shares of the window), never less than CLIP; 1 where nothing is known."""
        out = np.ones(len(action))
        for arm in np.unique(action):
            mine, known = action == arm, self._sorted[arm]
            if len(known):
                out[mine] = np.searchsorted(known, age[mine], side="right") / len(known)
        return np.maximum(out, CLIP)
