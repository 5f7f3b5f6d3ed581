"""How bad a seed's world is: delays of everything, and the chances of what goes wrong on the way."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum, auto


class Fate(Enum):
    """What becomes of one message to a store and of its reply."""

    FINE = auto()
    LOST = auto()  # the connection breaks before it arrives
    UNANSWERED = auto()  # it is carried out, and the connection breaks before the reply
    LATE = auto()  # the caller's connection breaks at once; it is carried out later
    SLOW = auto()  # it takes long, perhaps longer than the caller waits
    REFUSED = auto()  # the server says no: a deadlock, a shutdown, no disk


class Weather:
    """Drawn from the seed, so that each seed has its own mix: some have one fault often, some have all now and then."""

    def __init__(self, source: random.Random) -> None:
        self._random = source.random
        self._uniform = source.uniform
        self.one_of = source.choice
        self.below = source.randrange
        self.calm = True
        self.scale = source.choice((0.0005, 0.002, 0.01, 0.05))
        bad = source.choice((0.0, 0.3, 1.0, 1.0, 2.0))

        def chance(most: float) -> float:
            return bad * most * source.choice((0.0, 0.0, 0.25, 1.0))

        self.ledger = _Chances(chance)
        self.hot = _Chances(chance, refuses=False)
        self.rpc_lost = chance(0.03)
        self.rpc_unanswered = chance(0.03)
        self.caller_leaves = chance(0.06)
        self.two_steps = source.choice((0.1, 0.5, 0.9))

    def delay(self) -> float:
        """Seconds that a message takes one way."""
        random = self._random
        if not self.calm and random() < 0.02:
            return random() * self.scale * 20
        return random() * self.scale

    def long_delay(self) -> float:
        """Seconds of a message that is held up."""
        return self._uniform(0.0, 8.0) if self._random() < 0.5 else self._uniform(0.0, 0.5)

    def happens(self, chance: float) -> bool:
        """Whether something with a chance happens now; nothing does when it is calm."""
        return chance > 0 and not self.calm and self._random() < chance

    def fate(self, chances: _Chances) -> Fate:
        """The fate of a message."""
        if self.calm or not chances.any:
            return Fate.FINE
        draw = self._random()
        for fate, chance in chances.each:
            draw -= chance
            if draw < 0:
                return fate
        return Fate.FINE


class _Chances:
    def __init__(self, chance: Callable[[float], float], *, refuses: bool = True) -> None:
        self.each = (
            (Fate.LOST, chance(0.02)),
            (Fate.UNANSWERED, chance(0.03)),
            (Fate.LATE, chance(0.02)),
            (Fate.SLOW, chance(0.03)),
            (Fate.REFUSED, chance(0.02) if refuses else 0.0),
        )
        self.any = any(each > 0 for _fate, each in self.each)
