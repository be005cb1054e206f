"""What is measured: bulk by iperf3, requests by wrk against nginx, idle connections by this program itself."""

import json
import os
import re
import resource
import socket
import subprocess
import time
from dataclasses import dataclass

from contenders import free_port, wait_for

BACKEND_CONFIGURATION = """
daemon off;
pid {directory}/backend.pid;
error_log {directory}/backend.log;
worker_processes 2;
worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_header_timeout 10m;
    server {{ listen 127.0.0.1:{port} reuseport; location / {{ return 200 "one small answer, a hundred bytes with its head\\n"; }} }}
}}
"""

IDLE_CONNECTIONS = 4000
# Has each thread of wrk use another service.
SPREAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spread.lua")


@dataclass
class Result:
    """One measurement: of `rate`, more is better, of all others less."""

    rate: float | None = None
    cost: float | None = None
    p50: float | None = None
    p99: float | None = None
    total: float | None = None
    own: float | None = None


class Backends:
    """A web server and an iperf3 server."""

    def __init__(self, directory):
        self.web, self.iperf3 = free_port(), free_port()
        path = f"{directory}/backend.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(BACKEND_CONFIGURATION.format(directory=directory, port=self.web))
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes = [
            subprocess.Popen(["nginx", "-c", path], **quiet),
            subprocess.Popen(["iperf3", "--server", "--bind", "127.0.0.1", "--port", str(self.iperf3)], **quiet),
        ]
        wait_for(self.web, self.processes[0])
        wait_for(self.iperf3, self.processes[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
            process.wait()


@dataclass
class Bulk:
    """A stream, or several, as fast as they go."""

    title: str
    key: str
    streams: int
    down: bool
    backend = "iperf3"
    units = {"rate": "Gb/s", "cost": "CPU, s a GB"}

    def run(self, contender, seconds):
        command = ["iperf3", "--client", "127.0.0.1", "--port", str(contender.port), "--time", str(seconds),
                   "--parallel", str(self.streams), "--json"] + ["--reverse"] * self.down
        for _ in range(20):
            before = contender.cpu_seconds()
            told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
            used = contender.cpu_seconds() - before
            if "busy" not in told.get("error", ""):
                break
            # The server serves one at a time, and may not have done with the one before.
            time.sleep(0.1)
        if "error" in told:
            raise SystemExit(f"iperf3: {told['error']}")
        end = told["end"]["sum_received"]
        return Result(rate=end["bits_per_second"] / 1e9, cost=used / (end["bytes"] / 1e9))


@dataclass
class Requests:
    """Small requests. Latencies in milliseconds."""

    title: str
    key: str
    connections: int
    keep_alive: bool
    backend = "web"
    units = {"rate": "requests a second", "cost": "CPU, µs a request", "p50": "p50, ms", "p99": "p99, ms"}

    def run(self, contender, seconds):
        services = len(contender.ports)
        # Of several services, each has a thread of its own, and all of them the same number of connections.
        threads = min(2, self.connections) if services == 1 else min(services, self.connections)
        command = ["wrk", "--latency", "--threads", str(threads), "--connections", str(self.connections),
                   "--duration", f"{seconds}s", f"http://127.0.0.1:{contender.port}/"]
        environment = os.environ
        if threads > 1 and services > 1:
            command += ["--script", SPREAD]
            environment = dict(os.environ, GLBD_BENCHMARK_PORTS=" ".join(map(str, contender.ports)))
        if not self.keep_alive:
            command += ["--header", "Connection: close"]
        before = contender.cpu_seconds()
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        used = contender.cpu_seconds() - before
        if "Non-2xx" in told:
            raise SystemExit(f"requests were refused:\n{told}")
        requests = int(re.search(r"(\d+) requests in", told)[1])
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])
        return Result(rate=rate, cost=used / requests * 1e6, p50=latency(told, 50), p99=latency(told, 99))


def latency(told, percentile):
    """In milliseconds."""
    found = re.search(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s|m)$", told, re.MULTILINE)
    if not found:
        raise SystemExit(f"wrk told no {percentile}th percentile:\n{told}")
    number, unit = found.groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


@dataclass
class Idle:
    """Connections that do nothing."""

    title: str
    key: str
    backend = "web"
    units = {"cost": "kB a connection", "total": "MB in all", "own": "MB without what is mapped from files"}

    def run(self, contender, _seconds):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        # What the first connections bring with them is not theirs.
        first = [self.talk(contender) for _ in range(20)]
        for client in first:
            client.close()
        time.sleep(0.2)
        before, _ = contender.memory()
        clients = [self.talk(contender, number) for number in range(IDLE_CONNECTIONS)]
        after, own = contender.memory()
        for client in clients:
            client.close()
        return Result(cost=(after - before) / IDLE_CONNECTIONS / 1e3, total=after / 1e6, own=own / 1e6)

    @staticmethod
    def talk(contender, number=0):
        """A connection that was used once, and so is known to reach all the way. The services take turns."""
        client = socket.create_connection(("127.0.0.1", contender.ports[number % len(contender.ports)]))
        client.sendall(b"GET / HTTP/1.1\r\nHost: benchmark\r\n\r\n")
        if not client.recv(1000).startswith(b"HTTP/1.1 200"):
            raise SystemExit("a connection that was to be idle was refused")
        return client


LOADS = [
    Bulk("Bulk down, one stream", "down-1", 1, True),
    Bulk("Bulk up, one stream", "up-1", 1, False),
    Bulk("Bulk down, eight streams", "down-8", 8, True),
    Bulk("Bulk up, eight streams", "up-8", 8, False),
    Requests("Keep-alive requests, 64 connections", "keep-alive-64", 64, True),
    Requests("Keep-alive requests, one connection", "keep-alive-1", 1, True),
    Requests("A connection a request, 64 at a time", "connect-64", 64, False),
    Idle("4,000 idle connections", "idle"),
]
