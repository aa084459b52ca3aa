"""An independent oracle of SCD type 2, and random streams of events to compare the merger with it.

The oracle is plain Python that sorts the whole set of events first; it shares no code with the services.
"""

import random
from collections.abc import Iterable

# (key, time, deleted, name, price)
Event = tuple[int, int, bool, str | None, float | None]
# (key, valid_from, valid_to, name, price)
Version = tuple[int, int, int | None, str, float]


def upsert(time: int, name: str, key: int = 1, price: float = 1.0) -> Event:
    return (key, time, False, name, price)


def delete(time: int, key: int = 1) -> Event:
    return (key, time, True, None, None)


def oracle(events: Iterable[Event], prices_have_history: bool = True) -> list[Version]:
    """The right versions, by key and time. Without a history of prices, a version has the price of its last change."""
    by_moment = {event[:2]: event for event in sorted(events, key=_order)}
    versions: list[Version] = []
    state: tuple[str, float] | None = None
    last_key: int | None = None
    for (key, time), (_, _, _, name, price) in sorted(by_moment.items()):
        if key != last_key:
            state, last_key = None, key
        new = None if name is None or price is None else (name, price)
        if new == state:
            continue
        if not prices_have_history and new and state and new[0] == state[0]:
            versions[-1] = (*versions[-1][:4], new[1])
            state = new
            continue
        if state is not None:
            _, start, _, *attributes = versions[-1]
            versions[-1] = (key, start, time, *attributes)  # type: ignore[assignment]
        if new is not None:
            versions.append((key, time, None, *new))
        state = new
    return versions


def last_write_wins(events: list[Event]) -> dict[int, tuple]:
    last: dict[int, Event] = {}
    for event in events:
        kept = last.get(event[0])
        if kept is None or _order(event) > _order(kept):
            last[event[0]] = event
    return {key: event[3:] for key, event in last.items() if not event[2]}


def _order(event: Event) -> tuple:
    key, time, deleted, name, price = event
    return (key, time, deleted) if name is None else (key, time, deleted, name.encode(), price)


def history(rng: random.Random, first_key: int) -> list[Event]:
    """5 keys with up to 80 events each: 20 % deletes, 15 % repeats, many ties, long runs of equal attributes."""
    events: list[Event] = []
    for key in range(first_key, first_key + 5):
        span, names = rng.choice([20, 200]), rng.choice(["ab", "abcdefgh", "aé𝄞\ue000"])
        for _ in range(rng.choice([1, 5, 20, 80])):
            if events and rng.random() < 0.15:
                events.append(rng.choice(events))
            elif rng.random() < 0.2:
                events.append(delete(rng.randrange(span), key))
            else:
                events.append(upsert(rng.randrange(span), rng.choice(names), key, rng.choice([1.0, 1.0, 2.5])))
    return events


def batches(rng: random.Random, events: list[Event], count: int) -> list[list[Event]]:
    """The events shuffled, wholly or locally, and cut into ``count`` batches of random sizes, some of them empty."""
    reach = rng.choice([0, 5, len(events)])
    order = sorted(range(len(events)), key=lambda i: i + rng.random() * reach)
    cuts = sorted(rng.randrange(len(events) + 1) for _ in range(count - 1))
    return [[events[i] for i in order[a:b]] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
