"""Runs steps one by one and prints one JSON line for each; a step that hangs ends the program."""

import json
import os
import threading
import time

STEP_DEADLINE_S = 45
BOUND_S = 20


class NotSupported(Exception):
    """The client has no such function."""


class Failed(Exception):
    """The broker or the client did something else than expected."""


def step(name, run):
    watchdog = threading.Timer(STEP_DEADLINE_S, _expire, [name])
    watchdog.daemon = True
    watchdog.start()
    try:
        ok, detail = True, run()
    except NotSupported as reason:
        ok, detail = None, str(reason)
    except BaseException as failure:  # pylint: disable=broad-except
        ok, detail = False, describe(failure)
    watchdog.cancel()
    line(name, ok, detail)


def line(name, ok, detail):
    print(json.dumps({"step": name, "ok": ok, "detail": detail or ""}), flush=True)


def describe(failure):
    return f"{type(failure).__name__}: {failure}"


def check(condition, message):
    if not condition:
        raise Failed(message)


def same(what, expected, found):
    if expected != found:
        raise Failed(f"{what} is {found!r}, expected {expected!r}")


def until(done, state):
    """Repeats `done` until it is true; `state` says after the bound what there is instead."""
    end = time.monotonic() + BOUND_S
    while not done():
        if time.monotonic() > end:
            raise Failed(f"after {BOUND_S} s: {state()}")
        time.sleep(0.02)


def _expire(name):
    line(name, False, f"no end within {STEP_DEADLINE_S} s")
    os._exit(3)
