"""How long a recovery may go on."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

from prunectl.pruning.errors import PruningError


@dataclass(frozen=True)
class Budget:
    """How long a recovery may go on: ``steps`` (distill: batches; finetune, polish: environment steps) or ``seconds``.

    By seconds, the same seed need not give the same controller. The round that is under way is finished, and what
    follows the rounds is not counted: validation, and components that do not act, for which ``steps`` are the most too.

    Raises:
        ValueError: neither is given, or one that is not above 0.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [limit for limit in (self.steps, self.seconds) if limit is not None]
        if not given or not all(0 < limit < math.inf for limit in given):
            raise ValueError("a budget has a limit above 0, in steps or in seconds")

    @classmethod
    def of(cls, said: str | int) -> Self:
        """``"60s"`` in seconds, ``24000`` in steps.

        Raises:
            PruningError: something else, or nothing above 0.
        """
        try:
            if isinstance(said, str) and (match := re.fullmatch(r"([\d.eE+-]+)s", said)):
                return cls(seconds=float(match[1]))
            return cls(steps=int(said))
        except ValueError as error:
            raise PruningError(f"budget {said}: write steps as 24000, or seconds as 60s; above 0") from error

    def spent(self, steps: int, seconds: float) -> float:
        """Which share of it so many steps and seconds are, whichever is more; 1 at most."""
        return min(max(steps / (self.steps or math.inf), seconds / (self.seconds or math.inf)), 1.0)

    def shared(self, parts: int) -> Budget:
        """One of so many equal parts of it."""
        return Budget(
            None if self.steps is None else math.ceil(self.steps / parts),
            None if self.seconds is None else self.seconds / parts,
        )
