"""Logging: one event a line on stderr, as readable text or JSON (``LOG_FORMAT=json``), never with a payload."""

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Annotated, Literal

import structlog
from pydantic import Field

from retail_stream.settings import Settings, load

# Libraries that write a line for each request or reconnect at INFO.
_NOISY = ("alembic", "httpcore2", "httpx", "httpx2")
# It logs each failed request as an error; what waits for Kafka says so once in a sentence.
_SILENT = ("aiokafka",)


class LogSettings(Settings):
    """The format of the log."""

    log_format: Annotated[Literal["text", "json"], Field(description="text or json")] = "text"


def configure(program: str) -> None:
    """Write the events of structlog and of the standard library, warnings and crashes to stderr, in one format.

    ``program``: the name that every line carries.

    Raises:
        SettingsError: LOG_FORMAT is neither text nor json.
    """
    as_json = load(LogSettings).log_format == "json"

    def name(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # Not a context variable: threads do not inherit those.
        return {**event, "service": program}

    shared: list[structlog.typing.Processor] = [
        name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, pad_level=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(_traceback),
            *([] if as_json else [_on_one_line]),
            render,
        ],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for silent in _SILENT:
        logging.getLogger(silent).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed


def _traceback(exc_info: structlog.typing.ExcInfo) -> str:
    """The frames and, of each message, its first line: what follows may quote a record, as Postgres' DETAIL does."""
    error = exc_info[1]
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = traceback.format_tb(error.__traceback__)
    why = "".join(str(error).splitlines(keepends=False)[:1])
    shown = f"Traceback (most recent call last):\n{''.join(lines)}{type(error).__qualname__}: {why}"
    if before is None:
        return shown
    return f"{_traceback((type(before), before, before.__traceback__))}\n\nwhich led to:\n\n{shown}"


def _on_one_line(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape line ends and control characters, which any text may contain; only a traceback keeps its lines."""
    shown = {name: _printable(value) if isinstance(value, str) else value for name, value in event.items()}
    shown["event"] = _escaped(str(event["event"]).strip())
    if isinstance(trace := event.get("exception"), str):
        shown["exception"] = "\n".join(map(_escaped, trace.split("\n")))
    return shown


def _printable(value: str) -> str:
    """A value as the renderer may have it: it quotes and escapes only values with one of these characters."""
    return value if set(value) & set(" \t=\r\n\"'") else _escaped(value)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        why = f"{kind.__name__}, which nothing here expects"
        structlog.get_logger("crash").critical("crashed", why=why, exc_info=(kind, error, trace))


def _thread_crashed(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not issubclass(crash.exc_type, SystemExit):
        thread = crash.thread.name if crash.thread else None
        exc_info = (crash.exc_type, crash.exc_value, crash.exc_traceback)
        why = f"{crash.exc_type.__name__}, which nothing here expects"
        structlog.get_logger("crash").critical("thread crashed", thread=thread, why=why, exc_info=exc_info)
