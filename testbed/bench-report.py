#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
What bench.sh has measured, as tables and as a chart.

usage: bench-report.py DIR             print the tables, write table.* and bench.svg
       bench-report.py DIR --readme    put the tables into README.md as well
       bench-report.py DIR --insist    a promise that is not kept is a failure

DIR has ours.txt and, if two kernels were compared, peer.txt: "NAME VALUE UNIT" a
line, with "-" for what could not be had and the reason in place of the unit.
"""

import os
import re
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARKS = "<!-- figures -->", "<!-- /figures -->"

# What a figure is, for people. The first pattern that fits all of the name decides.
TEXTS = [
    (r"attr_set_(\d+)g(_bound)?", "make {0} GiB private{1}"),
    (r"attr_clear_(\d+)g(_bound)?", "make them shared again{1}"),
    (r"attr_slab_(\d+)g(_bound)?", "slab for {0} GiB private{1}"),
    (r"alternating_set()(_bound)?", "make every other page private, each{1}"),
    (r"alternating_clear()(_bound)?", "make them shared again, each{1}"),
    (r"alternating_slab()(_bound)?", "slab for alternating pages, 1 GiB{1}"),
    (r"touch_cold_(\d+)m", "guest touches {0} MiB, not populated"),
    (r"touch_warm_(\d+)m", "guest touches them once more"),
    (r"punch_(\d+)m", "punch {0} MiB that the guest has mapped"),
    (r"fallocate_(\d+)m", "allocate {0} MiB"),
    (r"touch_fallocated_(\d+)m", "guest touches {0} MiB, allocated"),
    (r"punch_unmapped_(\d+)m", "punch {0} MiB that the guest has not mapped"),
    (r"touch_shared_(\d+)m", "guest touches {0} MiB of shared memory"),
    (r"pre_fault_(\d+)m", "pre-fault {0} MiB"),
    (r"touch_pre_faulted_(\d+)m", "guest touches {0} MiB, pre-faulted"),
    (r"convert_4k", "convert 4 KiB there and back, touch each time"),
    (r"convert_4k_touch_2m", "the same, touch the 2 MiB around it"),
    (r"convert_4k_discard", "the same, discard the other side"),
    (r"convert_2m", "convert 2 MiB there and back, touch each time"),
    (r"convert_2m_discard", "the same, discard the other side"),
    (r"vcpus_1_touch_(\d+)m", "1 vCPU touches {0} MiB, in a thread of its own"),
    (r"vcpus_(\d+)_touch_(\d+)m", "{0} vCPUs touch {1} MiB, a part each"),
    (r"vcpus_(\d+)_touch_(\d+)m_interleaved", "{0} vCPUs touch {1} MiB, page by page"),
    (r"slots_(\d+)_punch", "punch a page of a file with {0} slots"),
    (r"slots_(\d+)_convert", "make a page of it shared"),
    (r"snp_accept_(\d+)m", "SNP guest accepts {0} MiB, in 2 MiB if it can"),
    (r"snp_touch_(\d+)m", "touches them"),
    (r"snp_return_(\d+)m", "and gives them back"),
    (r"snp_accept_small_(\d+)m", "SNP guest accepts {0} MiB in 4 KiB"),
    (r"snp_touch_small_(\d+)m", "touches them"),
    (r"snp_return_small_(\d+)m", "and gives them back"),
    (r"snp_launch_(\d+)m", "launch with {0} MiB of content"),
    (r"snp_punch_(\d+)m", "punch them"),
    (r"snp_boot_(\d+)m", "from the VMM's start to the guest's init, {0} MiB"),
]

# What is promised: of our figure itself, in its unit ...
ABSOLUTE = [
    (r"attr_(set|clear)_(64|1024)g(_bound)?", 100e3),
    (r"attr_slab_1024g(_bound)?", 16),
]
# ... of its ratio to the peer's ...
RELATIVE = [
    (r"alternating_(set|clear)(_bound)?", 0.8),
    (r"alternating_slab(_bound)?", 1.5),
    (r"touch_cold_256m", 0.15),
    (r"fallocate_256m", 0.05),
    (r"punch_256m", 0.05),
    (r"pre_fault_256m", 0.15),
    (r"convert_4k", 0.95),
    (r"convert_2m", 0.6),
    (r"snp_accept_64m", 0.1),
    (r"snp_launch_64m", 1.0),
    (r"snp_boot_512m", 0.8),
]
# ... and of its ratio to another one of ours.
AMONG = [
    ("slots_16384_punch", "slots_16_punch", 1.1),
    ("slots_16384_convert", "slots_16_convert", 1.1),
]


class Results:
    def __init__(self, path):
        self.settings, self.values = {}, {}
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.startswith("# "):
                    name, _, value = line[2:].rstrip("\n").partition(" ")
                    self.settings[name] = value
                    continue
                name, value, unit = line.rstrip("\n").split(" ", 2)
                # (None, reason) for what there is not
                self.values[name] = (None if value == "-" else int(value), unit)

    def value(self, name):
        return self.values.get(name, (None, ""))[0]

    def why(self, name):
        return self.values.get(name, (None, "failed"))[1]


def limit(limits, name):
    for pattern, most in limits:
        if re.fullmatch(pattern, name):
            return most
    return None


def text(name):
    for pattern, words in TEXTS:
        m = re.fullmatch(pattern, name)
        if m:
            return words.format(*(", in a slot" if g == "_bound" else g or ""
                                  for g in m.groups()))
    return name


def show(value, unit):
    if value is None:
        return "-"
    if unit == "KiB":
        return "%d KiB" % value
    for name, scale in ("s", 1e9), ("ms", 1e6), ("us", 1e3):
        if value >= scale:
            digits = max(0, 2 - len(str(int(value / scale))) + 1)
            return "%.*f %s" % (digits, value / scale, name)
    return "%d ns" % value


def ratio(a, b):
    # a slab of nothing has no ratio
    return a / b if a is not None and b else None


def show_ratio(r):
    if r is None:
        return "-"
    return "%.3f" % r if r >= 0.001 or not r else "%.0e" % r


def rows(ours, peer):
    names = list(ours.values)
    if peer:
        names += [n for n in peer.values if n not in ours.values]
    for name in names:
        value, theirs = ours.value(name), peer.value(name) if peer else None
        unit = ours.why(name) if value is not None else peer and peer.why(name)
        row = [name, text(name), show(value, unit)]
        if peer:
            row += [show(theirs, unit), show_ratio(ratio(value, theirs))]
        yield row


def promises(ours, peer):
    """What is measured, the figure, its limit, and whether it is met."""
    for name in ours.values:
        most = limit(ABSOLUTE, name)
        if most is not None:
            value, unit = ours.value(name), ours.why(name)
            yield (name, show(value, unit), show(most, unit),
                   None if value is None else value <= most)
        most = limit(RELATIVE, name)
        if most is not None and peer:
            r = ratio(ours.value(name), peer.value(name))
            yield (name + " / peer", show_ratio(r), "%g" % most,
                   None if r is None else r <= most)
    for a, b, most in AMONG:
        if a in ours.values and b in ours.values:
            r = ratio(ours.value(a), ours.value(b))
            yield ("%s / %s" % (a, b), show_ratio(r), "%g" % most,
                   None if r is None else r <= most)


def fixed(head, table):
    table = [head] + table
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    out = []
    for n, row in enumerate(table):
        # Words to the left, figures to the right
        cells = [cell.ljust(w) if i in head.words else cell.rjust(w)
                 for i, (cell, w) in enumerate(zip(row, widths))]
        out.append("  ".join(cells).rstrip())
        if n == 0:
            out.append("  ".join("-" * w for w in widths))
    return "\n".join(out) + "\n"


def markdown(head, table):
    def line(cells):
        return "| " + " | ".join(cells) + " |"
    rule = line(["---" if i in head.words else "---:" for i in range(len(head))])
    return "\n".join([line(head), rule] + [line(row) for row in table]) + "\n"


class Head(list):
    def __init__(self, cells, words):
        super().__init__(cells)
        self.words = words


def chart(where, ours, peer, names, unit):
    """Horizontal bars of all that is a time; false if there is no gnuplot."""
    if not shutil.which("gnuplot"):
        return False
    kernels = [k for k in (ours, peer) if k]
    figures = [n for n in ours.values
               if ours.why(n) == "ns" or peer and peer.why(n) == "ns"]
    height = 0.8 / len(kernels)
    plots, blocks = [], []
    for k, kernel in enumerate(kernels):
        block = []
        for i, name in enumerate(figures):
            value = kernel.value(name)
            y = i - 0.4 + k * height
            if value:
                block.append("%g %g %g %g %g %g" % (
                    value, y, 100, value, y, y + height))
        blocks.append("$kernel%d << END\n%s\nEND\n" % (k, "\n".join(block)))
        plots.append("$kernel%d using 1:2:3:4:5:6 with boxxyerror title '%s' "
                     "lc rgb '%s' fs solid noborder"
                     % (k, names[k], ("#1f77b4", "#d9a441")[k]))
    # gnuplot takes a quote in a string of this kind twice
    ytics = ", ".join("'%s' %d" % (text(n).replace("'", "''"), i)
                      for i, n in enumerate(figures))
    script = "".join(blocks) + """
set terminal svg size 960,%d font 'sans-serif,12' background rgb 'white'
set output '%s'
set title '%s'
set logscale x
set xrange [100:*]
set yrange [%g:-0.6]
set xtics ('100 ns' 1e2, '1 us' 1e3, '10 us' 1e4, '100 us' 1e5, '1 ms' 1e6, \\
           '10 ms' 1e7, '100 ms' 1e8, '1 s' 1e9, '10 s' 1e10, '100 s' 1e11)
set ytics (%s)
set tics scale 0.3 nomirror
set grid xtics lc rgb '#dddddd'
set border 3 lc rgb '#888888'
set key outside bottom center horizontal
plot %s
""" % (150 + 22 * len(figures), os.path.join(where, "bench.svg").replace("'", "''"),
       unit, len(figures) - 0.4, ytics, ", \\\n     ".join(plots))
    path = os.path.join(where, "bench.gnuplot")
    with open(path, "w", encoding="utf-8") as f:
        f.write(script)
    subprocess.run(["gnuplot", path], check=True, stdin=subprocess.DEVNULL)
    return True


def put_into_readme(table):
    path = os.path.join(TOP, "README.md")
    with open(path, encoding="utf-8") as f:
        readme = f.read()
    before, found, rest = readme.partition(MARKS[0])
    _, found2, after = rest.partition(MARKS[1])
    if not found or not found2:
        sys.exit("bench-report: README.md has no %s ... %s" % MARKS)
    with open(path, "w", encoding="utf-8") as f:
        f.write("%s%s\n\n%s\n%s%s" % (before, MARKS[0], table, MARKS[1], after))


def main():
    args = [a for a in sys.argv[1:] if not a.startswith("-")]
    options = [a for a in sys.argv[1:] if a.startswith("-")]
    if len(args) != 1 or options not in ([], ["--readme"], ["--insist"]):
        sys.exit(__doc__.strip())
    where = args[0]
    ours = Results(os.path.join(where, "ours.txt"))
    path = os.path.join(where, "peer.txt")
    peer = Results(path) if os.path.exists(path) else None
    if not ours.values:
        sys.exit("bench-report: no figures in %s" % where)

    names = [ours.settings.get("kernel", "?") + " with the series"]
    if peer:
        names.append(peer.settings.get("kernel", "?"))
    counted = ours.settings.get("cpus") == "1"
    if counted:
        unit = "Instructions, of host and guest: 1 ns is one"
    else:
        unit = "Time, medians of %s" % ours.settings.get("repeat", "?")
    thp = re.search(r"\[(\w+)\]", ours.settings.get("thp", ""))
    if thp:
        unit += "; transparent huge pages: %s" % thp.group(1)

    head = Head(["figure", "what"] + names + (["ratio"] if peer else []), (0, 1))
    table = list(rows(ours, peer))
    # These are about instructions; time depends on the computer
    promised_head = Head(["promise", "is", "at most", "met"], (0, 3))
    promised = [(what, value, most, {True: "yes", False: "NO", None: "-"}[met])
                for what, value, most, met in promises(ours, peer)] if counted else []
    missing = ["%s: %s" % (what, reason) for what, reason in sorted({
        (names[k], kernel.why(n)) for k, kernel in enumerate((ours, peer)) if kernel
        for n in ours.values if kernel.value(n) is None})]
    # What is not there, and why
    notes = "".join('"-": %s\n' % line for line in missing)

    plain = "\n".join([unit + "\n", fixed(head, table)] + [part for part in (
        notes, promised and fixed(promised_head, promised)) if part])
    for_readme = Head(head[1:], (0,))
    marked = "%s.\n\n%s" % (unit, markdown(for_readme, [row[1:] for row in table]))
    if notes:
        marked += "\n" + "".join("%s  \n" % line for line in notes.splitlines())
    for name, content in ("table.txt", plain), ("table.md", marked):
        with open(os.path.join(where, name), "w", encoding="utf-8") as f:
            f.write(content)
    print(plain, end="")
    if chart(where, ours, peer, names, unit):
        print("\nchart: %s" % os.path.relpath(os.path.join(where, "bench.svg"), TOP))
    else:
        print("\nno chart: gnuplot is missing")
    if options == ["--readme"]:
        put_into_readme(marked)
    if options == ["--insist"]:
        broken = ["%s is %s, not at most %s" % (what, value, most)
                  for what, value, most, met in promised if met != "yes"]
        sys.stdout.flush()
        for line in broken:
            print("bench: MISSED: " + line, file=sys.stderr)
        sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
