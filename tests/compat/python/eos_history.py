"""Writes what this process does as lines of a history; the line is defined in tests/history/src/merge.rs."""

import json
import os
import threading
import time

# Values of a process are those from here times its number on.
VALUES = 1_000_000


def now():
    """CLOCK_MONOTONIC, which all processes of a machine share."""
    return time.monotonic_ns()


def log_of(topic, partition):
    return f"{topic}-{partition}"


class History:
    def __init__(self, path, process):
        self.file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self.process = process
        self.lock = threading.Lock()
        self.last = process * VALUES

    def value(self):
        """A value that nobody sent before."""
        self.last += 1
        return self.last

    def line(self, at, phase, operation, **fields):
        text = json.dumps(
            {"at": at, "process": self.process, "type": phase, "f": operation, **fields},
            separators=(",", ":"),
        )
        with self.lock:
            # One write, so that a kill leaves whole lines and at most a part of the last one.
            os.write(self.file, text.encode() + b"\n")

    def invoke(self, operation, **fields):
        self.line(now(), "invoke", operation, **fields)

    def ok(self, operation, **fields):
        self.line(now(), "ok", operation, **fields)

    def info(self, operation, **fields):
        self.line(now(), "info", operation, **fields)

    def poll(self, began, isolation, messages, ends=()):
        """A poll that began at a time and gave messages; one that gave none says nothing."""
        if not messages and not ends:
            return
        records = {}
        for message in messages:
            log = log_of(message.topic(), message.partition())
            records.setdefault(log, []).append([message.offset(), int(message.value())])
        self.line(began, "invoke", "poll", isolation=isolation)
        more = {"ends": list(ends)} if ends else {}
        self.ok("poll", isolation=isolation, records=records, **more)
