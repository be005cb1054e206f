"""Measures what a client notices while another source opens connections as fast as it can.

In every round, for each setting of --over-limit, the client is measured three times, in random order: alone; while the
service that it uses is attacked; and while the same attack goes to another glbd on the same machine. The client, glbd and
the server behind it come before the attackers on the processors, which they would not share with them elsewhere. Prints
medians, and writes them as a section into --output.
"""

import contextlib
import multiprocessing
import os
import random
import socket
import struct
import subprocess
import tempfile
import time
from statistics import median

from contenders import THREADS, free_port, require, use_own_network, wait_for
from loads import Backends
from report import number, section_options, tell_section

TITLE = "## A source that opens connections as fast as it can"
ATTACKER, CLIENT = "127.0.0.2", "127.0.0.3"
ATTACKERS = 2
# Below its own rate.
CLIENTS_A_SECOND = 200
LIMITS = ["--max-connections-per-source=20", "--connection-rate-per-source=300", "--service-max-connections=100",
          "--connection-rate=1000"]
ALONE, BESIDE, ATTACKED = "alone", "an attack on another glbd", "an attack on its service"
SITUATIONS = [ALONE, BESIDE, ATTACKED]
# How many connections an attacker holds, most of which are reset by then.
HELD = 100
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def main():
    options = section_options("attack", __doc__)
    require("nginx", "iperf3", "ip", "unshare")
    use_own_network()
    # Before whatever else runs on this machine, as far as it is allowed. Inherited by all but the attackers.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    results = {(over_limit, situation): [] for over_limit in ["wait", "reset"] for situation in SITUATIONS}
    with tempfile.TemporaryDirectory(prefix="glbd-benchmark-") as directory:
        os.chmod(directory, 0o755)
        with Backends(directory) as backends:
            for number_of_round in range(1, options.rounds + 1):
                for key in random.sample(list(results), len(results)):
                    result = measure(*key, backends.web, directory, options)
                    results[key].append(result)
                    print(f"round {number_of_round}: {', '.join(key)}: {told(result)}", flush=True)
    section = page(results, options)
    tell_section(options.output, TITLE, section)


def measure(over_limit, situation, backend, directory, options):
    daemons = [Daemon(options.glbd, over_limit, backend, directory, name) for name in ["one", "other"]]
    attacked = {ALONE: None, BESIDE: daemons[1].port, ATTACKED: daemons[0].port}[situation]
    count, stop = multiprocessing.Value("L", 0), multiprocessing.Event()
    attackers = [multiprocessing.Process(target=attack, args=(attacked, count, stop)) for _ in range(ATTACKERS)]
    try:
        if attacked:
            for attacker in attackers:
                attacker.start()
            while count.value == 0:
                time.sleep(0.01)
        latencies, failed = be_a_client(daemons[0].port, options.seconds)
    finally:
        stop.set()
        for attacker in attackers:
            if attacker.pid:
                attacker.join()
        for daemon in daemons:
            daemon.stop()
    return dict(p50=percentile(latencies, 50), p99=percentile(latencies, 99), served=len(latencies), failed=failed,
                attacks=count.value / options.seconds)


class Daemon:
    """A glbd with the limits."""

    def __init__(self, glbd, over_limit, backend, directory, name):
        self.port = free_port()
        command = [glbd, "--threads", str(THREADS), "--fifo", f"{directory}/{name}.fifo", "--over-limit", over_limit,
                   *LIMITS, f"127.0.0.1:{self.port}", f"127.0.0.1:{backend}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port, self.process)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def attack(port, count, stop):
    """Opens connections, and holds them for a while."""
    # It takes what the others leave of the processors: an attacker has its own.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    held = []
    while not stop.is_set():
        for _ in range(HELD):
            stream = socket.socket()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            try:
                stream.bind((ATTACKER, 0))
                stream.connect(("127.0.0.1", port))
                held.append(stream)
            except OSError:
                # It was reset already.
                stream.close()
        with count.get_lock():
            count.value += HELD
        for stream in held[:-HELD]:
            stream.close()
        del held[:-HELD]


def be_a_client(port, seconds):
    """A connection with one request after the other, at a steady pace. Returns the latencies in milliseconds, from before
    the connect to the end of the answer, and how many failed."""
    latencies, failed, begun = [], 0, time.perf_counter()
    for turn in range(seconds * CLIENTS_A_SECOND):
        at = begun + turn / CLIENTS_A_SECOND
        time.sleep(max(0, at - time.perf_counter()))
        since = time.perf_counter()
        if ask(port):
            latencies.append((time.perf_counter() - since) * 1e3)
        else:
            failed += 1
    return latencies, failed


def ask(port):
    with socket.socket() as stream:
        stream.settimeout(10)
        try:
            stream.bind((CLIENT, 0))
            stream.connect(("127.0.0.1", port))
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while part := stream.recv(4096):
                answer += part
        except OSError:
            return False
    return answer.startswith(b"HTTP/1.1 200")


def percentile(values, which):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * which // 100)] if ordered else float("inf")


def told(result):
    return (f"{result['served']} served, {result['failed']} not, p50 {number(result['p50'])} ms, p99 "
            f"{number(result['p99'])} ms, {number(result['attacks'])} attacks a second")


def page(results, options):
    lines = [
        TITLE,
        f"Measured by `make attack`. A client connects {CLIENTS_A_SECOND} times a second, asks for a page and reads it to its end. "
        f"{ATTACKERS} processes open connections from another address as fast as they can, and hold up to {ATTACKERS * HELD}. "
        f"The service has {', '.join(f'`{it}`' for it in LIMITS)}. Medians of {options.rounds} rounds of {options.seconds} "
        "seconds in random order, over loopback. The client, glbd and the server come before the attackers on the processors, "
        "which they would not share with them elsewhere.",
    ]
    for over_limit in ["wait", "reset"]:
        lines += [f"With `--over-limit {over_limit}`:", table(results, over_limit)]
    return "\n\n".join(lines) + "\n"


def table(results, over_limit):
    lines = ["| beside | served | p50, ms | p99, ms | connections of the attack a second |",
             "| --- | ---: | ---: | ---: | ---: |"]
    for situation in SITUATIONS:
        rounds = results[over_limit, situation]
        served, failed = (sum(it[field] for it in rounds) for field in ["served", "failed"])
        cells = [f"{served:,} of {served + failed:,}"]
        cells += [number(median(it[field] for it in rounds)) for field in ["p50", "p99"]]
        cells += [number(median(it["attacks"] for it in rounds)) if situation != ALONE else ""]
        lines.append(f"| {'nothing' if situation == ALONE else situation} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
