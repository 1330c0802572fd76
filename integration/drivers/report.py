"""Runs the tests of one Python driver: a line each, "ok NAME" or "FAIL NAME: why"; exit status 1 if one failed."""

import asyncio
import inspect
import os
import sys
import traceback
from pathlib import Path


def run(driver, module):
    """Runs every function of `module` whose name begins with `test_`, in the order in which they are written."""
    tests = [(name, test) for name, test in vars(module).items() if name.startswith("test_")]
    failed = 0
    for name, test in tests:
        title = driver + ": " + name.removeprefix("test_").replace("_", " ")
        try:
            if inspect.iscoroutinefunction(test):
                asyncio.run(asyncio.wait_for(test(), 60))
            else:
                test()
            print("ok", title, flush=True)
        except Exception as error:  # whatever a driver throws is the outcome of its test
            failed += 1
            where = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(where) if frame.filename == module.__file__), 0)
            print(f"FAIL {title}: {type(error).__name__} at line {line}: {str(error).strip()!r}", flush=True)
    sys.exit(1 if failed else 0)


def arguments():
    """The proxy's port and the first of the customer numbers that this driver may use."""
    return int(sys.argv[1]), int(sys.argv[2])


def apart(ports):
    """Two customers on one shard and a third on another, out of {customer: port of its primary}."""
    for a in ports:
        for b in ports:
            for c in ports:
                if a < b and ports[a] == ports[b] and ports[c] != ports[a]:
                    return a, b, c
    raise AssertionError(f"all customers are on one server: {ports}")


def same(got, wanted):
    """An assertion that says what it saw."""
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


class House:
    """The proxy that the drivers of MySQL share (mysql_house.py), and where its keys lie."""

    def __init__(self):
        self.folder = Path(os.environ["SHARDWAY_MYSQL_HOUSE"])
        self.ca = str(self.folder / "cert.pem")
        self.first = frozenset(map(int, (self.folder / "first").read_text().split()))

    def apart(self, begin, count=40):
        """Two keys on one shard and a third on another, of those that begin there."""
        here = [key for key in range(begin, begin + count) if key in self.first]
        there = [key for key in range(begin, begin + count) if key not in self.first]
        return here[0], here[1], there[0]
