"""A hundred services over fifty pools of twenty destinations: what a reload takes and what a service costs that is idle.

Run by the benchmark, and alone: services.py GLBD
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from contenders import THREADS, free_ports, wait_for

POOLS, DESTINATIONS, SERVICES = 50, 20, 100
RELOADS = 50


class Daemon:
    """A glbd with so many services, each pool with its own destinations, which nobody connects to."""

    def __init__(self, glbd, directory, services, ports):
        self.file, self.control, self.services = f"{directory}/glbd.toml", ports[-1], ports[:services]
        self.directory = directory
        self.write(1)
        command = [glbd, "--config", self.file, "--fifo", f"{directory}/fifo", "--control", f"127.0.0.1:{self.control}"]
        with open(f"{directory}/log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.control, self.process)
        self.ask("getstats")

    def write(self, weight):
        """The weight is that of one destination of each pool."""
        pools = min(POOLS, len(self.services))
        text = [f"[process]\nthreads = {THREADS}\n"]
        for pool in range(pools):
            addresses = [f'"10.{pool}.0.{number + 1}:3306"' for number in range(DESTINATIONS - 1)]
            text.append(f'[pool.p{pool}]\ndestinations = [{", ".join(addresses)}, "10.{pool}.1.1:3306:{weight}"]\n')
        for number, port in enumerate(self.services):
            text.append(f'[service.s{number}]\npool = "p{number % pools}"\nlisten = "127.0.0.1:{port}"\n')
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write("".join(text))
        os.rename(self.file + ".new", self.file)

    def ask(self, command):
        with socket.create_connection(("127.0.0.1", self.control)) as stream:
            stream.sendall(command.encode() + b"\n")
            stream.shutdown(socket.SHUT_WR)
            parts = []
            while part := stream.recv(65536):
                parts.append(part)
        return b"".join(parts).decode()

    def reload(self):
        """In milliseconds, as who asks for it sees it."""
        begun = time.monotonic()
        answer = self.ask("reload")
        taken = (time.monotonic() - begun) * 1e3
        if not answer.endswith("Ok\n"):
            raise SystemExit(f"not reloaded: {answer}")
        return taken

    def status(self, key):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as file:
            return int(dict(line.split(":", 1) for line in file)[key].split()[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def measure(glbd):
    """Lines of Markdown."""
    ports = free_ports(SERVICES + 1)
    memory, threads = {}, 0
    with tempfile.TemporaryDirectory(prefix="glbd-services-") as directory:
        # The same pools with half as many services.
        for services in [POOLS, SERVICES]:
            with Daemon(glbd, directory, services, ports) as daemon:
                memory[services] = daemon.status("RssAnon")
                if services < SERVICES:
                    continue
                threads = daemon.status("Threads")
                same = [daemon.reload() for _ in range(RELOADS)]
                changed = []
                for number in range(RELOADS):
                    daemon.write(2 + number % 2)
                    changed.append(daemon.reload())
    each = (memory[SERVICES] - memory[POOLS]) / (SERVICES - POOLS)
    return [
        f"- A reload of a file that has not changed: {statistics.median(same):.1f} ms, at most {max(same):.1f} ms.",
        f"- One that changes a destination of every pool: {statistics.median(changed):.1f} ms, at most {max(changed):.1f} ms.",
        f"- An idle service: {each:.1f} kB.",
        f"- Threads in all: {threads}.",
    ]


if __name__ == "__main__":
    print("\n".join(measure(sys.argv[1])))
