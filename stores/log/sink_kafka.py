"""Kafka as a sink: one message a line, by the user's key, so that the lines of a user keep their order."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from decisioning.errors import UserError
from stores.log.sinks import Batch, SinkDown, address_of

MOST_BYTES = 8 * 2**20
"""What the client lets through; the broker's own limit counts (`message.max.bytes`, 1 MB by default)."""


class KafkaSink:
    """`servers`: host:port, several with commas. `settings`: librdkafka's own, such as `security.protocol`.

    Every message has the headers `log` and `id`, and is acknowledged by all replicas that are in sync.
    """

    batch_bytes = 4 * 2**20
    batch_lines = 5_000

    def __init__(self, servers: str, topic: str, settings: Mapping[str, str], timeout: float) -> None:
        self.address = address_of(f"kafka://{servers}/{topic}")
        self._topic, self._timeout = topic, timeout
        ours = {
            "bootstrap.servers": servers,
            "enable.idempotence": "true",  # its own retries neither double nor disorder anything
            "acks": "all",
            "message.timeout.ms": str(int(timeout * 1000)),
            "message.max.bytes": str(MOST_BYTES),
            "compression.type": "lz4",
            "log_level": "0",  # what goes wrong is told by us, once
        }
        try:
            self._producer = Producer({**ours, **settings})
        except (KafkaException, ValueError) as error:
            raise UserError(f"The settings for Kafka are wrong: {error}.") from None
        self._failed: KafkaError | None = None

    def send(self, batch: Batch) -> None:
        self._failed = None
        try:
            for message in batch.messages:
                headers = [("log", batch.log), ("id", message.id)]
                self._producer.produce(
                    self._topic, message.line, message.key or None, headers=headers, on_delivery=self._delivered
                )
                self._producer.poll(0)
            waiting = self._producer.flush(self._timeout + 1)
        except (BufferError, KafkaException) as error:
            raise SinkDown(str(error)) from error
        if self._failed is not None:
            raise SinkDown(self._failed.str())
        if waiting:
            raise SinkDown(f"{waiting} messages were not acknowledged within {self._timeout:g} s")

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(1)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._failed = self._failed or error
