"""Measures what a client of a service notices while others abuse the HTTP port and the control port of its glbd.

In every round the client is measured three times, in random order: alone; while its own glbd is abused; and while another
glbd on the same machine is. The abuse is all of it at once: heads that come a byte at a time, huge heads, a thousand
connections, requests as a page of another origin makes them, and readers of events that never read. Events happen all the
time, in every situation. Prints medians, and writes them as a section into --output.
"""

import contextlib
import multiprocessing
import os
import random
import resource
import socket
import subprocess
import tempfile
import time
from statistics import median

from attack import CLIENTS_A_SECOND, be_a_client, percentile
from contenders import THREADS, free_port, require, use_own_network, wait_for
from loads import Backends
from report import number, section_options, tell_section

TITLE = "## Clients of the HTTP port that mean no good"
ALONE, BESIDE, ATTACKED = "nothing", "the same on another glbd", "the abuse of its own HTTP port"
SITUATIONS = [ALONE, BESIDE, ATTACKED]
CHANGES_A_SECOND = 20
SLOW, IDLE, STALLED = 100, 1000, 8
SLEEP = 0.05


def main():
    options = section_options("web_attack", __doc__)
    require("nginx", "iperf3", "ip", "unshare")
    use_own_network()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Before whatever else runs on this machine, as far as it is allowed. Inherited by all but the attackers.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    results = {situation: [] for situation in SITUATIONS}
    with tempfile.TemporaryDirectory(prefix="glbd-benchmark-") as directory:
        os.chmod(directory, 0o755)
        with Backends(directory) as backends:
            for number_of_round in range(1, options.rounds + 1):
                for situation in random.sample(SITUATIONS, len(SITUATIONS)):
                    result = measure(situation, backends.web, directory, options)
                    results[situation].append(result)
                    print(f"round {number_of_round}: {situation}: {result}", flush=True)
    section = page(results, options)
    tell_section(options.output, TITLE, section)


def measure(situation, backend, directory, options):
    daemons = [Daemon(options.glbd, backend, directory, name) for name in ["one", "other"]]
    attacked = {ALONE: None, BESIDE: daemons[1], ATTACKED: daemons[0]}[situation]
    counts, stop = {kind: multiprocessing.Value("L", 0) for kind in KINDS}, multiprocessing.Event()
    helpers = [multiprocessing.Process(target=make_events, args=(daemon, backend, stop)) for daemon in daemons]
    if attacked:
        helpers += [multiprocessing.Process(target=abuse, args=(kind, attacked, counts[kind], stop)) for kind in KINDS]
    try:
        for helper in helpers:
            helper.start()
        while attacked and not all(count.value for count in counts.values()):
            time.sleep(SLEEP)
        before = {kind: count.value for kind, count in counts.items()}
        latencies, failed = be_a_client(daemons[0].port, options.seconds)
        done = {kind: count.value - before[kind] for kind, count in counts.items()}
        memory = attacked.memory() if attacked else daemons[0].memory()
        health = daemons[0].answers()
    finally:
        stop.set()
        for helper in helpers:
            if helper.pid:
                helper.join()
        for daemon in daemons:
            daemon.stop()
    return dict(p50=percentile(latencies, 50), p99=percentile(latencies, 99), served=len(latencies), failed=failed,
                memory=memory, health=health, **{kind: done[kind] / options.seconds for kind in KINDS})


class Daemon:
    """A glbd that speaks HTTP."""

    def __init__(self, glbd, backend, directory, name):
        self.port, self.http, self.control = free_port(), free_port(), free_port()
        command = [glbd, "--threads", str(THREADS), "--fifo", f"{directory}/{name}.fifo", "--http",
                   f"127.0.0.1:{self.http}", "--control", f"127.0.0.1:{self.control}", f"127.0.0.1:{self.port}",
                   f"127.0.0.1:{backend}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port, self.process)
        wait_for(self.http, self.process)

    def memory(self):
        """What is resident, in MB."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6

    def answers(self):
        """How long an honest request for /ready takes, in milliseconds; infinite if it is not answered."""
        since = time.perf_counter()
        with socket.socket() as stream:
            stream.settimeout(10)
            try:
                stream.connect(("127.0.0.1", self.http))
                stream.sendall(f"GET /ready HTTP/1.0\r\nHost: 127.0.0.1:{self.http}\r\n\r\n".encode())
                answer = stream.recv(4096)
            except OSError:
                return float("inf")
        return (time.perf_counter() - since) * 1e3 if answer.startswith(b"HTTP/1.0 200") else float("inf")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def make_events(daemon, backend, stop):
    """Changes a weight again and again, each an event for those who read them."""
    weight = 1
    while not stop.wait(1 / CHANGES_A_SECOND):
        weight = 3 - weight
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", daemon.control), 5) as stream:
            stream.sendall(f"127.0.0.1:{backend}:{weight}\n".encode())
            stream.recv(100)


def abuse(kind, daemon, count, stop):
    # It takes what the others leave of the processors: an attacker has its own.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    host = f"Host: 127.0.0.1:{daemon.http}\r\n"
    kept = []
    while not stop.is_set():
        with contextlib.suppress(OSError):
            count.value += KINDS[kind](daemon, host, kept)


def slow(daemon, host, kept):
    """Sends a byte of a head to each of those that are kept, and replaces those that are closed."""
    kept[:] = [stream for stream in kept if goes_on(stream)]
    opened = 0
    while len(kept) < SLOW:
        kept.append(connect(daemon.http, f"GET / HTTP/1.1\r\n{host}X: "))
        opened += 1
    time.sleep(SLEEP)
    return opened


def huge(daemon, host, _kept):
    """Sends a head that is far too long, and one of too many lines."""
    for head in ["X: " + "x" * 200_000 + "\r\n", "".join(f"X{line}: y\r\n" for line in range(2000))]:
        with contextlib.suppress(OSError), connect(daemon.http, "") as stream:
            stream.settimeout(5)
            stream.sendall(f"GET / HTTP/1.1\r\n{host}{head}\r\n".encode())
            stream.recv(4096)
    return 2


def idle(daemon, _host, kept):
    """Holds a thousand connections that say nothing, ever new ones, since older ones make room for them."""
    kept += [connect(daemon.http, "") for _ in range(50)]
    for stream in kept[:-IDLE]:
        stream.close()
    del kept[:-IDLE]
    return 50


def other_origin(daemon, host, _kept):
    """Asks as a page elsewhere has a browser ask, by a name of its own, and for a change."""
    page_of_another = "Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n"
    for line, named in [("GET /api/v1/status", "Host: evil.example\r\n"), ("POST /api/v1/admin/drain", host)]:
        with contextlib.suppress(OSError), connect(daemon.http, f"{line} HTTP/1.0\r\n{named}{page_of_another}\r\n") as stream:
            stream.settimeout(5)
            stream.recv(4096)
    return 2


def stalled(daemon, host, kept):
    """Asks for events, by HTTP and from the control port, and reads none; begins anew where it was let go."""
    kept[:] = [stream for stream in kept if goes_on(stream, b"")]
    opened = 0
    while len(kept) < 2 * STALLED:
        kept.append(connect(daemon.http, f"GET /events HTTP/1.1\r\n{host}\r\n"))
        kept.append(connect(daemon.control, "watch json\n"))
        opened += 2
    time.sleep(SLEEP)
    return opened + 1


KINDS = {"slow": slow, "huge": huge, "idle": idle, "other origin": other_origin, "stalled": stalled}


def connect(port, text):
    stream = socket.socket()
    # As little as the kernel allows is taken before the other side has to wait.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    stream.settimeout(5)
    try:
        stream.connect(("127.0.0.1", port))
        stream.sendall(text.encode())
    except OSError:
        stream.close()
        raise
    return stream


def goes_on(stream, more=b"x"):
    """Whether the other side has not closed it."""
    try:
        stream.sendall(more)
        stream.setblocking(False)
        return not more or stream.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        stream.close()
        return False
    finally:
        with contextlib.suppress(OSError):
            stream.settimeout(5)


def page(results, options):
    lines = [
        TITLE,
        f"Measured by `make attack`. A client of a service connects {CLIENTS_A_SECOND} times a second, asks for a page and reads "
        f"it to its end. Others abuse the HTTP port (`--http`) and the control port of its glbd, all at the same time: {SLOW} "
        "send the head of a request a byte at a time, others heads of 200 kB and of 2000 lines, as fast as they can; "
        f"{IDLE:,} connections say nothing, and are replaced by new ones without a pause; requests come as a page of another "
        f"origin makes them; and {STALLED} clients of `/events` and {STALLED} of `watch` never read, while {CHANGES_A_SECOND} "
        f"changes a second are told to them. Medians of {options.rounds} rounds of {options.seconds} seconds in random order, "
        "over loopback. The client, glbd and the server come before those others on the processors, which they would not share "
        "with them elsewhere; glbd's own thread for HTTP shares them.",
        table(results),
    ]
    return "\n\n".join(lines) + "\n"


def table(results):
    lines = ["| beside | served | p50, ms | p99, ms | `/ready`, ms | resident, MB | idle, huge, other-origin requests a second |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for situation in SITUATIONS:
        rounds = results[situation]
        served, failed = (sum(it[field] for it in rounds) for field in ["served", "failed"])
        cells = [f"{served:,} of {served + failed:,}"]
        cells += [number(median(it[field] for it in rounds)) for field in ["p50", "p99", "health", "memory"]]
        rates = [number(median(it[kind] for it in rounds)) for kind in ["idle", "huge", "other origin"]]
        cells.append(", ".join(rates) if situation != ALONE else "")
        lines.append(f"| {situation} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
