"""What is told of the measurements: a page in Markdown, with a chart."""

import argparse
import json
import re
from pathlib import Path
from statistics import median

from contenders import ALL, DIRECT, GLBD, PEERS

COLORS = {GLBD: "#d9480f", "HAProxy": "#4263eb", "nginx stream": "#2b8a3e", "Pen": "#868e96"}
BAR, GAP, LABELS, PANEL = 11, 12, 250, 300


class Figures:
    """The results of all rounds, by load and contender."""

    def __init__(self, loads, services):
        self.loads, self.services = loads, services
        self.rounds = {(load.key, number): [] for load in loads for number in services}

    def median(self, load, services, name, field):
        values = [getattr(results[name], field) for results in self.rounds[load.key, services] if name in results]
        return median(values) if values and None not in values else None

    def ratio(self, load, services, name, field):
        """To the best peer of the same round; the median over the rounds."""
        best = max if field == "rate" else min
        ratios = []
        for results in self.rounds[load.key, services]:
            peers = [getattr(results[peer], field) for peer in PEERS if peer in results and peer != name]
            if peers and name in results and best(peers):
                ratios.append(getattr(results[name], field) / best(peers))
        return median(ratios) if ratios else None


def table(figures, load):
    columns = [(field, services) for field in load.units for services in figures.services]
    title = {services: "one service" if services == 1 else f"{services} services" for services in figures.services}
    titles = [load.units[field] + (f", {title[services]}" if len(title) > 1 else "") for field, services in columns]
    lines = ["| | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in ALL:
        cells = []
        for field, services in columns:
            value = figures.median(load, services, name, field)
            free = name == DIRECT and field in ("cost", "total", "own")
            cells.append("" if value is None or free else number(value))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ratios = [figures.ratio(load, services, GLBD, field) for field, services in columns]
    cells = ["" if ratio is None else f"**{ratio:.2f}**" for ratio in ratios]
    lines.append("| glbd to the best peer | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def section_options(program, description, rounds=7):
    """The command line of a program that measures for one section of the page."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("glbd", help="the binary")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--output", help="the page whose section of this is written anew")
    return parser.parse_args()


def tell_section(path, title, section):
    """Prints a section that begins with this title, and writes it into the page, if there is one: in the place of the one
    that is there, or at the end."""
    print(section)
    if not path:
        return
    with open(path, encoding="utf-8") as file:
        text = file.read()
    before, _, after = text.partition(title)
    following = re.search(r"^## ", after, re.MULTILINE)
    after = after[following.start():] if following else ""
    with open(path, "w", encoding="utf-8") as file:
        file.write(before.rstrip("\n") + "\n\n" + section + ("\n" + after if after else ""))


def picks(directory):
    """What cargo's benchmark has found out about the table, as a table."""
    found = {}
    for path in Path(directory).glob("*/*/*/new/estimates.json"):
        policy, situation, destinations = path.parts[-5:-2]
        estimate = json.loads(path.read_text(encoding="utf-8"))["median"]["point_estimate"]
        found[policy, situation, int(destinations)] = f"{number(estimate / 1000)} µs"
    columns = sorted({key[1:] for key in found})
    lines = ["| | " + " | ".join(f"{situation}, {size:,} destinations" for situation, size in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for policy in sorted({key[0] for key in found}):
        lines.append(f"| {policy} | " + " | ".join(found.get((policy, *column), "") for column in columns) + " |")
    return "\n".join(lines)


def page(figures, setting, picks_directory, of_services):
    parts = [
        "# Benchmarks",
        "Written by `make bench`, which measures everything anew: do not edit.",
        setting,
        "Figures are medians. A ratio is glbd's figure divided by that of the best peer in the same round, and the median "
        "of these over the rounds. Processor time is that of the proxy's whole process tree, memory is resident memory "
        "(what nginx's processes share counts for each). The chart shows the ratios of the medians, with one "
        "service.",
        "![glbd, HAProxy, nginx stream and Pen compared, all loads](benchmarks.svg)",
    ]
    for load in figures.loads:
        parts += [f"## {load.title}", table(figures, load)]
    if picks_directory:
        parts += [
            "## Picking a destination",
            "For each policy, to pick and to give back: alone, beside another thread that does nothing else, and for clients "
            "that are seen for the first time, where that makes a difference.",
            picks(picks_directory),
        ]
    parts += ["## A hundred services", "Over fifty pools of twenty destinations each, and without a client:", "\n".join(of_services)]
    return "\n\n".join(parts) + "\n"


def chart(figures):
    """Bars relative to the best peer, which is the line at 1: rates to the left, costs to the right."""
    names = [GLBD, *PEERS]
    row = len(names) * BAR + GAP
    height, width = 70 + row * len(figures.loads), LABELS + 2 * PANEL + 60
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for index, name in enumerate(names):
        x = 10 + index * 110
        svg.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{COLORS[name]}"/><text x="{x + 17}" y="18">{name}</text>')
    panels = [("rate", LABELS, "rate: more is better"), ("cost", LABELS + PANEL + 40, "CPU or memory: less is better")]
    for field, left, title in panels:
        svg.append(f'<text x="{left}" y="45" font-weight="bold">{title} (best peer = 1)</text>')
        for position, load in enumerate(figures.loads):
            svg += bars(figures, load, field, left, 58 + position * row)
    for position, load in enumerate(figures.loads):
        svg.append(f'<text x="10" y="{58 + position * row + row / 2}">{load.title}</text>')
    return "\n".join([*svg, "</svg>"]) + "\n"


def bars(figures, load, field, left, top):
    names = [GLBD, *PEERS]
    values = {name: figures.median(load, figures.services[0], name, field) for name in names}
    peers = [values[peer] for peer in PEERS if values[peer]]
    if not peers or values[GLBD] is None:
        return []
    best = max(peers) if field == "rate" else min(peers)
    scale = PANEL / 2.2
    drawn = []
    for index, name in enumerate(names):
        if values[name] is None:
            continue
        ratio = values[name] / best
        length, y = max(1, min(ratio, 2) * scale), top + index * BAR
        drawn.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{BAR - 2}" fill="{COLORS[name]}"/>'
                     f'<text x="{left + length + 4:.0f}" y="{y + BAR - 3}" font-size="9">{ratio:.2f}</text>')
    line = left + scale
    drawn.append(f'<line x1="{line:.0f}" x2="{line:.0f}" y1="{top - 3}" y2="{top + len(names) * BAR}" stroke="black" '
                 'stroke-dasharray="2 2"/>')
    return drawn
