"""Compares glbd with HAProxy, nginx stream, Pen and no proxy at all, side by side, with one service and with ten.

In every round each load meets every contender once, in random order, each freshly started. Prints medians and ratios,
and writes a page with a chart into --output.
"""

import argparse
import os
import platform
import random
import tempfile

import report
import services
from contenders import (
    ALL, GLBD, HAPROXY, NGINX, PEN, THREADS, Contender, congestion_control, require, use_own_network, version_of)
from loads import LOADS, Backends


def main():
    options = command_line()
    require("haproxy", "nginx", "pen", "iperf3", "wrk", "ip", "unshare")
    use_own_network()
    loads = [load for load in LOADS if not options.loads or load.key in options.loads]
    figures = report.Figures(loads, options.services)
    with tempfile.TemporaryDirectory(prefix="glbd-benchmark-") as directory:
        os.chmod(directory, 0o755)
        with Backends(directory) as backends:
            for number in range(1, options.rounds + 1):
                measure_round(number, options, loads, figures, backends, directory)
    for load in loads:
        print(f"\n{load.title}\n{report.table(figures, load)}")
    if options.output:
        write(options, figures)


def command_line():
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__)
    parser.add_argument("glbd", help="the binary")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--services", type=int, nargs="+", default=[1, 10], help="measure with each of these numbers")
    parser.add_argument("--loads", nargs="*", choices=[load.key for load in LOADS], help="only these")
    parser.add_argument("--contenders", nargs="*", choices=ALL, default=ALL, help="only these")
    parser.add_argument("--output", help="directory for benchmarks.md and benchmarks.svg")
    parser.add_argument("--picks", help="directory of what `cargo bench --bench pick` has measured, to be told as well")
    return parser.parse_args()


def measure_round(number, options, loads, figures, backends, directory):
    settings = [(load, count) for load in loads for count in options.services]
    for load, count in random.sample(settings, len(settings)):
        results = {}
        for name in random.sample(options.contenders, len(options.contenders)):
            with Contender(name, getattr(backends, load.backend), directory, options.glbd, count) as contender:
                results[name] = load.run(contender, options.seconds)
            told = ", ".join(f"{report.number(getattr(results[name], field))} {unit}" for field, unit in load.units.items())
            print(f"round {number}: {load.title}, services: {count}: {name}: {told}", flush=True)
        figures.rounds[load.key, count].append(results)


def write(options, figures):
    versions = ", ".join(version_of(name, options.glbd) for name in [GLBD, HAPROXY, NGINX, PEN])
    kernel = ".".join(platform.release().split(".")[:2])
    setting = (
        f"{options.rounds} rounds of {options.seconds} seconds for each load and contender, in random order, over loopback, "
        f"with clients, proxy and servers on the same {os.cpu_count()} processors (Linux {kernel}, congestion control "
        f"{congestion_control()}). Each proxy "
        f"has {THREADS} threads or workers, but Pen, which has one, and is a process for each service; HAProxy splices both "
        f"ways. Several services take destinations from half as many pools; requests and idle connections are spread over "
        f"all of them, each by a client thread of its own, and bulk and single connections go through one. "
        f"Versions: {versions}.")
    os.makedirs(options.output, exist_ok=True)
    for name, content in [("benchmarks.md", report.page(figures, setting, options.picks, services.measure(options.glbd))), ("benchmarks.svg", report.chart(figures))]:
        with open(os.path.join(options.output, name), "w", encoding="utf-8") as file:
            file.write(content)


if __name__ == "__main__":
    main()
