"""A worker: a process that the supervisor forked, which answers requests until it is told to leave."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

import structlog
from fastapi import FastAPI

from decisioning.errors import UserError
from serving import main
from serving.app import create_app
from serving.figures.exposition import Exporter
from serving.processes.board import FAILED, Row
from serving.processes.child import Order
from serving.processes.server import Server
from serving.processes.shared import Shared
from serving.runtime import Runtime
from serving.settings import Settings

log = structlog.get_logger()


class Worker(Server):
    """Takes its orders from a pipe. When that is closed, the supervisor is dead, and the worker leaves."""

    def __init__(
        self, app: FastAPI, runtime: Runtime, listening: socket.socket, settings: Settings, orders: int
    ) -> None:
        super().__init__(app, runtime, listening, settings.drain)
        self._orders = orders
        self.is_orphan = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._orders, self._listen)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM to one worker alone: its peers go on, and the supervisor starts another. Ctrl-C is not for it."""
        if sig == signal.SIGTERM:
            self._loop.call_soon_threadsafe(self._obey, Order.RETIRE)

    def _listen(self) -> None:
        orders = os.read(self._orders, 16)
        for order in orders:
            self._obey(Order(bytes([order])))
        if not orders:
            self._loop.remove_reader(self._orders)
            self.is_orphan = True
            log.error("supervisor_gone", why="it was killed: this worker answers what it has, and ends")
            self.leave()

    def _obey(self, order: Order) -> None:
        if self.started:
            {Order.DRAIN: self.drain, Order.RETIRE: self.retire, Order.LEAVE: self.leave}[order]()
        else:
            self.leave()  # it has nothing to finish, and perhaps waits for a verdict that nobody will give


def work(settings: Settings, shared: Shared, place: int, listening: socket.socket, orders: int) -> NoReturn:
    """All of a worker's life, in the child of a fork. Ends the process: nothing of the parent's may run after it."""
    code = 1
    try:
        main.configure_log(settings)
        runtime = main.runtime_of(settings, shared, place)
        runtime.access.tells = False  # the supervisor does
        runtime.wanted = shared.board.approved
        runtime.exporter = Exporter(runtime.metrics, shared.metrics, place, shared.board)
        worker = Worker(create_app(runtime), runtime, listening, settings, orders)
        worker.run()
        if worker.is_orphan and shared.metrics is not None:  # nobody else is left to do it
            shutil.rmtree(shared.metrics, ignore_errors=True)
        code = 0
    except UserError as error:
        shared.board.post(Row(slot=place, pid=os.getpid(), state=FAILED, why=str(error)))
    except BaseException:
        log.exception("worker_failed")
    finally:
        sys.stderr.flush()
        os._exit(code)
