"""What the server says of itself: one JSON object per line on stderr. Never a user's id, never a request's body."""

import logging
import os
import sys

import structlog


def configure(level: int = logging.INFO) -> None:
    """For the whole process: structlog's own lines, and those of libraries that use `logging` (from WARNING up)."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        _add_process,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # one write a line: several processes share stderr
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _add_process(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Which of the server's processes says it."""
    event["pid"] = os.getpid()
    return event
