"""Which fault happens when: a function of the seed alone."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Item:
    """A fault to come."""

    at_seconds: float  # after the beginning
    kind: str
    lasts_seconds: float
    chance: int  # what the fault itself draws from

    def __str__(self) -> str:
        return f"{self.at_seconds:7.1f} s  {self.kind} ({self.lasts_seconds:.1f} s)"


def agenda(
    seed: int, seconds: float, kinds: Mapping[str, tuple[float, float]], *, every_seconds: float
) -> Sequence[Item]:
    """The faults of a run, in order.

    Kinds are dealt like cards, so that each comes once before any comes twice.

    Args:
        seed: the same one gives the same agenda.
        seconds: how long faults begin; longer if not every kind has come by then.
        kinds: how long each lasts, at least and at most.
        every_seconds: from one fault to the next; some half of it more or less.
    """
    chance = random.Random(f"agenda {seed}")
    items: list[Item] = []
    cards: list[str] = []
    at_seconds = 0.0
    while at_seconds < seconds or len(items) < len(kinds):
        if not cards:
            cards = sorted(kinds)
            chance.shuffle(cards)
        kind = cards.pop()
        lasts_seconds = chance.uniform(*kinds[kind])
        item = Item(at_seconds=at_seconds, kind=kind, lasts_seconds=lasts_seconds, chance=chance.getrandbits(32))
        items.append(item)
        at_seconds += chance.uniform(0.5, 1.5) * every_seconds
    return items
