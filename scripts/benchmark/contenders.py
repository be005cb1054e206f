"""The proxies that are compared, each as people run it: in the foreground, on two threads, before one backend."""

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
listen benchmark
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
    upstream backend {{ server 127.0.0.1:{backend}; }}
    server {{ listen 127.0.0.1:{port} reuseport; proxy_pass backend; }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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

    def __init__(self, name, backend, directory, glbd):
        self.port, self.process = backend, None
        if name == DIRECT:
            return
        self.port = free_port()
        command = self.command(name, backend, directory, glbd)
        with open(f"{directory}/{command[0].rpartition('/')[2]}.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(self.port, self.process)

    def command(self, name, backend, directory, glbd):
        values = dict(port=self.port, backend=backend, directory=directory, threads=THREADS,
                      connections=MAX_CONNECTIONS, descriptors=2 * MAX_CONNECTIONS + 100)
        if name == GLBD:
            return [glbd, "--threads", str(THREADS), "--fifo", f"{directory}/glbd.fifo", f"127.0.0.1:{self.port}",
                    f"127.0.0.1:{backend}"]
        if name == PEN:
            most = str(MAX_CONNECTIONS)
            return ["pen", "-f", "-x", most, "-c", most, f"127.0.0.1:{self.port}", f"127.0.0.1:{backend}"]
        template = {HAPROXY: HAPROXY_CONFIGURATION, NGINX: NGINX_CONFIGURATION}[name]
        path = f"{directory}/{name.split()[0].lower()}.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(template.format(**values))
        return ["haproxy", "-db", "-f", path] if name == HAPROXY else ["nginx", "-c", path]

    def tree(self):
        """The process and all its descendants."""
        if self.process is None:
            return []
        parents = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                parents[int(entry)] = int(stat_of(entry)[1])
            except OSError:
                pass
        tree = [self.process.pid]
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
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


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
