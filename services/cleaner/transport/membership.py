"""The thread in which Faust's own aiokafka consumer is a member of the group, and nothing more."""

import logging
from typing import Any

from aiokafka.errors import KafkaConnectionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

log = logging.getLogger(__name__)

# Between two attempts to reach a broker at the start.
RETRY_S = 1.0


class MembershipThread(driver.AIOKafkaConsumerThread):
    """Faust's thread with the aiokafka consumer, which is a member of the group and fetches nothing."""

    consumer: Any

    async def on_start(self) -> None:
        while not self.should_stop:
            try:
                await super().on_start()
                break
            except KafkaConnectionError as error:
                log.debug("%s", error)
                self.consumer.say_unreachable()
                await self._ensure_consumer().stop()
                self._consumer = None
                await self.sleep(RETRY_S)
        else:
            return
        # aiokafka leaves the group if nothing is fetched for max_poll_interval, and we never fetch from it.
        self._fetching = self._ensure_consumer()._subscription.fetch_context()
        self._fetching.__enter__()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._ensure_consumer().pause(*map(driver.ensure_aiokafka_TP, assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        # The exception ends the worker and is reported there; the base class prints it to stderr as well.
        log.debug(msg.format(*fmt), exc_info=True)

    def _stopped_set(self) -> None:
        # After a crash the thread has ended, and with it the loop that this call needs.
        if not self.thread_loop.is_closed():
            super()._stopped_set()
