"""The time in the id of a warehouse."""

from retail_stream.warehouse.ids import given_ms


def test_the_time_of_an_id_of_version_7():
    # The example of RFC 9562, A.6: 2022-02-22T19:22:22Z.
    assert given_ms("017f22e2-79b0-7cc3-98c4-dc0c0c07398f") == 1_645_557_742_000


def test_an_id_of_version_4_tells_no_time():
    assert given_ms("919108f7-52d1-4320-9bac-f847db4148a8") is None
