"""Measures what it costs to look at a glbd that works.

In every round, each load meets glbd in three situations, in random order: with nobody looking; with the connection log
alone, in a file; and with that, a scrape of the metrics each second, a page that is open, and clients that watch events.
Prints medians, and writes them as a section into --output.
"""

import contextlib
import itertools
import multiprocessing
import os
import random
import socket
import tempfile
import time
import urllib.request
from statistics import median

from contenders import GLBD, Contender, free_port, require, use_own_network
from loads import LOADS, Backends
from report import number, section_options, tell_section

TITLE = "## What it costs to look"
WATCHERS = 2
# What the page asks for again and again, and every how many seconds.
PAGE = {"/api/v1/status": 2, "/api/v1/clients": 5, "/api/v1/samples": 15}
NOBODY, LOG, ALL = "nobody looks", "connection log", "all of it"
SITUATIONS = [NOBODY, LOG, ALL]
MEASURED = ["keep-alive-64", "connect-64", "idle"]


def main():
    options = section_options("observed", __doc__, rounds=11)
    require("nginx", "iperf3", "wrk", "ip", "unshare")
    use_own_network()
    loads = [load for load in LOADS if load.key in MEASURED]
    results = {(load.key, situation): [] for load in loads for situation in SITUATIONS}
    with tempfile.TemporaryDirectory(prefix="glbd-benchmark-") as directory:
        os.chmod(directory, 0o755)
        with Backends(directory) as backends:
            for number_of_round in range(1, options.rounds + 1):
                for load in random.sample(loads, len(loads)):
                    for situation in random.sample(SITUATIONS, len(SITUATIONS)):
                        result = measure(load, situation, backends.web, directory, options)
                        results[load.key, situation].append(result)
                        told = ", ".join(f"{number(getattr(result, field))} {unit}" for field, unit in load.units.items())
                        print(f"round {number_of_round}: {load.title}, {situation}: {told}", flush=True)
    section = page(loads, results, options)
    tell_section(options.output, TITLE, section)


def measure(load, situation, backend, directory, options):
    http, control = free_port(), free_port()
    settings = ["--control", str(control), "--http", str(http)] if situation == ALL else []
    if situation != NOBODY:
        settings += ["--connection-log=text", "--connection-log-rate=1000000", f"--connection-log-file={directory}/connections"]
    with Contender(GLBD, backend, directory, options.glbd, options=settings) as contender:
        lookers = []
        if situation == ALL:
            lookers = [multiprocessing.Process(target=scrape, args=(http,), daemon=True),
                       multiprocessing.Process(target=have_the_page_open, args=(http,), daemon=True)]
            lookers += [multiprocessing.Process(target=watch, args=(control,), daemon=True) for _ in range(WATCHERS)]
        for looker in lookers:
            looker.start()
        try:
            result = load.run(contender, options.seconds)
        finally:
            for looker in lookers:
                looker.kill()
                looker.join()
    if situation != NOBODY:
        check_log(f"{directory}/connections", load)
    return result


def check_log(path, load):
    """A log that was not written would cost nothing."""
    with open(path, encoding="ascii") as file:
        lines = sum(1 for line in file if " cause=" in line)
    os.remove(path)
    if lines < 10:
        raise SystemExit(f"{load.title}: the connection log has {lines} lines")


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read()


def scrape(port):
    while True:
        get(port, "/metrics")
        time.sleep(1)


def have_the_page_open(port):
    """Asks for what the page asks for, as often as it does, and follows the events beside."""
    get(port, "/")
    get(port, "/api/v1/events?limit=200")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/events", timeout=10):
        for second in itertools.count():
            for path, interval in PAGE.items():
                if second % interval == 0:
                    get(port, path)
            time.sleep(1)


def watch(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(b"watch json\n")
        while stream.recv(65536):
            pass


def page(loads, results, options):
    lines = [
        TITLE,
        f"Measured by `make observed`, in medians of {options.rounds} rounds of {options.seconds} seconds, the three situations in "
        "random order, over loopback and with everything on the same processors. \"All of it\" is a scrape of the metrics each "
        f"second, a page that is open, {WATCHERS} clients that watch events, and the connection log. The ratios are those to "
        "\"nobody looks\" in the same round, and the median of these.",
    ]
    for load in loads:
        lines += [f"{load.title}:", table(load, results)]
    return "\n\n".join(lines) + "\n"


def table(load, results):
    lines = ["| | " + " | ".join(f"{unit} | ratio" for unit in load.units.values()) + " |",
             "| --- |" + " ---: | ---: |" * len(load.units)]
    for situation in SITUATIONS:
        cells = []
        for field in load.units:
            values = [getattr(it, field) for it in results[load.key, situation]]
            alone = [getattr(it, field) for it in results[load.key, NOBODY]]
            ratio = median(value / before for value, before in zip(values, alone))
            cells += [number(median(values)), f"{ratio:.3f}"]
        lines.append(f"| {situation} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
