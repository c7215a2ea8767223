"""Google Cloud Pub/Sub as a sink: one message a line, with the attributes `log`, `id` and `key`.

Credentials are the environment's (Application Default Credentials). Where PUBSUB_EMULATOR_HOST is set, messages go
there instead, in the clear.
"""

import os

import grpc
from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import PublisherClient, PubsubMessage
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from decisioning.errors import UserError
from stores.log.sinks import Batch, SinkDown

EMULATOR = "PUBSUB_EMULATOR_HOST"
PASSING = (
    exceptions.Aborted,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
)
"""Errors after which a request is tried again, as long as there is time. The client's own way is ten minutes of it."""


class PubSubSink:
    """A batch is one request, which the service acknowledges as a whole."""

    batch_bytes = 4 * 2**20
    batch_lines = 1_000
    """What the service takes in one request."""

    def __init__(self, project: str, topic: str, timeout: float) -> None:
        self.address = f"pubsub://{project}/{topic}"
        self._topic, self._timeout = f"projects/{project}/topics/{topic}", timeout
        self._retry = Retry(predicate=if_exception_type(*PASSING), initial=0.1, maximum=5.0, timeout=timeout)
        try:
            self._client = _client()
        except GoogleAuthError as error:
            raise UserError(f"There are no credentials for Pub/Sub: {error}") from None

    def send(self, batch: Batch) -> None:
        messages = [
            PubsubMessage(data=one.line, attributes={"log": batch.log, "id": one.id, "key": one.key})
            for one in batch.messages
        ]
        try:
            found = self._client.publish(topic=self._topic, messages=messages, retry=self._retry, timeout=self._timeout)
        except (exceptions.GoogleAPIError, GoogleAuthError) as error:
            raise SinkDown(str(error)) from error
        if len(found.message_ids) != len(messages):
            raise SinkDown(f"{len(found.message_ids)} of {len(messages)} messages were acknowledged")

    def close(self) -> None:
        self._client.transport.close()


def _client() -> PublisherClient:
    emulator = os.environ.get(EMULATOR)
    if not emulator:
        return PublisherClient()
    return PublisherClient(transport=PublisherGrpcTransport(channel=grpc.insecure_channel(emulator)))
