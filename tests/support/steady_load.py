"""Clients that ask one decision after the other, over connections that they keep as long as the server lets them."""

import http.client
import json
import threading
import time
from typing import NamedTuple


class Answered(NamedTuple):
    """What one request came to."""

    answer: dict
    at: float
    """When it was answered, in monotonic seconds."""
    took: float


class SteadyLoad:
    """`with SteadyLoad(host, port, body) as load:` asks from some threads until the block ends.

    `answers` holds what was answered by 200, and `failed` what was not. A machine that is busy with other tests may get
    a worker to shed: that is `shed`. Each asks anew where the server closed.
    """

    def __init__(self, host: str, port: int, body: dict, clients: int = 4) -> None:
        self._address, self._body = (host, port), body
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(clients)]
        self._done = threading.Event()
        self.answers: list[Answered] = []
        self.failed: list[str] = []
        self.shed = 0

    def __enter__(self) -> "SteadyLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=15)
        count = 0
        while not self._done.is_set():
            count += 1
            began = time.monotonic()
            try:
                body = json.dumps({"user_id": f"user-{number}-{count}", **self._body}).encode()
                connection.request("POST", "/v1/decisions", body)
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                connection.close()
                time.sleep(0.05)
            else:
                self._note(Answered(answer, time.monotonic(), time.monotonic() - began), response)
        connection.close()

    def _note(self, answered: Answered, response: http.client.HTTPResponse) -> None:
        if response.status == 200:
            self.answers.append(answered)
        elif response.status == 503 and response.getheader("Retry-After"):
            self.shed += 1
        else:
            self.failed.append(f"{response.status}: {answered.answer}")

    def more(self, count: int, seconds: float = 30.0) -> None:
        """Waits until so many more requests were answered."""
        until, enough = time.monotonic() + seconds, len(self.answers) + count
        while len(self.answers) < enough:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(self.answers)} of {enough} requests were answered: {self.failed[-3:]}")
            time.sleep(0.01)
