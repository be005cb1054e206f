"""The proxies that are compared, each as people run it: in the foreground, on two threads, before one backend; with one
service, or with several over half as many pools."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

THREADS = 2
# As many as 20,000 descriptors are enough for, with HAProxy's pipes.
MAX_CONNECTIONS = 6000
GLBD, HAPROXY, NGINX, PEN, DIRECT = "glbd", "HAProxy", "nginx stream", "Pen", "no proxy"
PEERS = [HAPROXY, NGINX, PEN]
ALL = [GLBD, *PEERS, DIRECT]

CONGESTION_CONTROL = "/proc/sys/net/ipv4/tcp_congestion_control"

HAPROXY_CONFIGURATION = """
global
    nbthread {threads}
    maxconn {connections}
defaults
    mode tcp
    maxconn {connections}
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    option splice-request
    option splice-response
"""

HAPROXY_SERVICE = """
listen benchmark{number}
    bind 127.0.0.1:{port}
    server backend 127.0.0.1:{backend}
"""

NGINX_CONFIGURATION = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid {directory}/stream.pid;
error_log {directory}/stream.log;
worker_processes {threads};
worker_rlimit_nofile {descriptors};
events {{ worker_connections {descriptors}; }}
stream {{
{parts}
}}
"""

NGINX_POOL = "    upstream backend{pool} {{ server 127.0.0.1:{backend}; }}"
NGINX_SERVICE = "    server {{ listen 127.0.0.1:{port} reuseport; proxy_pass backend{pool}; }}"

GLBD_CONFIGURATION = """
[process]
threads = {threads}
fifo = "{directory}/glbd.fifo"
"""
GLBD_POOL = """
[pool.p{pool}]
destinations = ["127.0.0.1:{backend}"]
"""
GLBD_SERVICE = """
[service.s{number}]
pool = "p{pool}"
listen = "127.0.0.1:{port}"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for(port, process):
    """Waits until somebody listens on the port. Connecting to it would be taken for a client's connection."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with status {process.returncode}")
        with open("/proc/net/tcp", encoding="ascii") as file:
            if any(line.split()[1:4:2] == [f"0100007F:{port:04X}", "0A"] for line in file):
                return
        time.sleep(0.02)
    raise SystemExit(f"{process.args} does not listen on port {port}")


def version_of(name, glbd):
    if name == PEN:
        command = ["dpkg-query", "--show", "--showformat=${Version}", "pen"]
    else:
        command = {GLBD: [glbd, "--version"], HAPROXY: ["haproxy", "-v"], NGINX: ["nginx", "-v"]}[name]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{name} {re.search(r'[0-9]+[.][0-9.]+', told.stdout + told.stderr)[0]}"


def stat_of(pid):
    """What /proc tells of a process, from its state on: after the name, in which anything may stand."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


class Contender:
    """One proxy before one backend, from start to stop. Without a proxy, the backend itself."""

    def __init__(self, name, backend, directory, glbd, services=1, options=()):
        self.ports, self.processes, self.options = [backend] * services, [], options
        if name == DIRECT:
            return
        self.ports = free_ports(services)
        for number, command in enumerate(self.commands(name, backend, directory, glbd)):
            log_path = f"{directory}/{command[0].rpartition('/')[2]}{number}.log"
            with open(log_path, "w", encoding="utf-8") as log:
                self.processes.append(subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
        for number, port in enumerate(self.ports):
            wait_for(port, self.processes[number % len(self.processes)])

    @property
    def port(self):
        """Of one service, the last."""
        return self.ports[-1]

    def commands(self, name, backend, directory, glbd):
        """What is started: one process, but a Pen for each service."""
        values = dict(backend=backend, directory=directory, threads=THREADS,
                      connections=MAX_CONNECTIONS, descriptors=2 * MAX_CONNECTIONS + 100)
        if name == PEN:
            most = str(MAX_CONNECTIONS)
            return [["pen", "-f", "-x", most, "-c", most, f"127.0.0.1:{port}", f"127.0.0.1:{backend}"]
                    for port in self.ports]
        if name == GLBD and len(self.ports) == 1:
            return [[glbd, "--threads", str(THREADS), "--fifo", f"{directory}/glbd.fifo", *self.options,
                     f"127.0.0.1:{self.port}", f"127.0.0.1:{backend}"]]
        path = f"{directory}/{name.split()[0].lower()}.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(self.configuration(name, values))
        return [{HAPROXY: ["haproxy", "-db", "-f", path], NGINX: ["nginx", "-c", path],
                 GLBD: [glbd, "--config", path]}[name]]

    def configuration(self, name, values):
        pools = max(1, len(self.ports) // 2)
        whole, pool_part, service_part = {
            HAPROXY: (HAPROXY_CONFIGURATION, "", HAPROXY_SERVICE),
            NGINX: (NGINX_CONFIGURATION, NGINX_POOL, NGINX_SERVICE),
            GLBD: (GLBD_CONFIGURATION, GLBD_POOL, GLBD_SERVICE)}[name]
        parts = [pool_part.format(pool=pool, **values) for pool in range(pools)]
        parts += [service_part.format(number=number, pool=number % pools, port=port, **values)
                  for number, port in enumerate(self.ports)]
        text = "\n".join(parts)
        return whole.format(parts=text, **values) if name == NGINX else whole.format(**values) + text

    def tree(self):
        """The processes and all their descendants."""
        parents = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                parents[int(entry)] = int(stat_of(entry)[1])
            except OSError:
                pass
        tree = [process.pid for process in self.processes]
        for pid in tree:
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree

    def cpu_seconds(self):
        ticks = sum(int(used) for pid in self.tree() for used in stat_of(pid)[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident bytes of all its processes, and how many of these are not mapped from files."""
        total, own = 0, 0
        for pid in self.tree():
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
                told = dict(line.split(":", 1) for line in file)
            total += int(told.get("VmRSS", "0").split()[0]) * 1024
            own += int(told.get("RssAnon", "0").split()[0]) * 1024
        return total, own

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def use_own_network():
    """Starts this program anew in a network namespace of its own, where other traffic, the machine's filters and its choice
    of congestion control have no part in what is measured. Who may not, measures on the network that there is."""
    alone = os.environ.pop("GLBD_BENCHMARK_NETWORK", None)
    if alone is None:
        os.environ["GLBD_BENCHMARK_NETWORK"] = os.readlink("/proc/self/ns/net")
        if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            os.execvp("unshare", ["unshare", "--net", sys.executable, "-B", *sys.argv])
    elif alone != os.readlink("/proc/self/ns/net"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # Debian's choice; some kernels let only their first namespace make it. Where nothing is lost, both are much the same.
        for name in ["cubic", "reno"]:
            try:
                with open(CONGESTION_CONTROL, "w", encoding="ascii") as file:
                    file.write(name)
                return
            except OSError:
                pass


def congestion_control():
    with open(CONGESTION_CONTROL, encoding="ascii") as file:
        return file.read().strip()


def require(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}")
