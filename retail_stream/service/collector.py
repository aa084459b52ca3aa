"""Python's garbage collector, for programs that hold tens of thousands of messages at a time."""

import gc


def look_rarely() -> None:
    """To be called once a program is set up: spare what is there, and look at new objects once in 200,000.

    A batch in hand is as many objects as records: at Python's default (700) the collector would look at them over and
    over, for a quarter of all the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
