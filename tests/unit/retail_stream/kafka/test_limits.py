"""What topics take is asked again when one of them refuses a batch."""

from retail_stream.kafka.limits import BatchLimits


def test_limits_are_asked_again_when_a_batch_is_refused():
    answers = {"a": 100, "b": 200}
    limits = BatchLimits(lambda: answers)
    answers = {"a": 50, "b": 300}
    assert (limits["a"], limits["b"]) == (100, 200)
    limits.refused("a", 90)
    assert (limits["a"], limits["b"]) == (50, 300)


def test_a_topic_that_refuses_what_it_says_it_takes_gets_less():
    limits = BatchLimits(lambda: {"a": 100})
    limits.refused("a", 90)
    assert limits["a"] == 89
    limits.ask_again()
    assert limits["a"] == 100
