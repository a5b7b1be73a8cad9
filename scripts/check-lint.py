#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
TAP: sparse, the compiler at W=1 and kernel-doc have nothing to say about what
is ours: all of a new file, and the changed lines of a file of the base.

The objects are built in a directory of their own, build/kernel/lint, because
W=1 changes the command lines. What the series touches is built anew each time
(ccache remembers what the compiler said), the rest once.
"""

import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINUX = os.path.join(TOP, "build", "linux")
OUT = os.path.join(TOP, "build", "kernel", "lint")
# The test kernels' configurations, but warnings are collected, not fatal, and
# everything of ours is on.
FRAGMENTS = ("base", "snp-host")
CONFIG = """
# CONFIG_KVM_WERROR is not set
# CONFIG_WERROR is not set
CONFIG_HEADERS_INSTALL=y
CONFIG_SAMPLES=y
CONFIG_SAMPLE_KVM_GUEST_MEMFD=y
"""


def git(*args):
    return subprocess.run(("git", "-C", LINUX) + args, check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def kmake(*args):
    return subprocess.run(
        ["make", "-C", LINUX, "O=" + OUT, "ARCH=x86_64", "LOCALVERSION=",
         "CC=ccache gcc", "HOSTCC=ccache gcc", "-j%d" % (os.cpu_count() or 1),
         "-s", "-k"] + list(args), check=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace")


def changes(base):
    """{path: None for a new file, or the set of changed lines}"""
    out, path = {}, None
    for line in git("-c", "core.quotePath=false", "diff", "--no-color", "--no-renames",
                    "--no-ext-diff", "-U0", base).splitlines():
        if line.startswith("--- "):
            new = line == "--- /dev/null"
        elif line.startswith("+++ "):
            path = line[6:] if line != "+++ /dev/null" else None
            if path:
                out[path] = None if new else set()
        else:
            m = re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)
            if m and path and out[path] is not None:
                start, count = int(m.group(1)), int(m.group(2) or 1)
                out[path].update(range(start, start + count))
    return out


def target(path):
    """(make target, object) of a source file"""
    stem = path[:-2]
    # virt/kvm has no Makefile of its own, and samples are more than objects
    if path.startswith(("virt/kvm/", "arch/x86/kvm/")):
        return "arch/x86/kvm/", stem + ".o"
    if path.startswith("samples/"):
        return os.path.dirname(path) + "/", stem + ".o"
    return stem + ".o", stem + ".o"


def configure():
    # What comes later wins
    chosen = {}
    texts = []
    for name in FRAGMENTS:
        with open(os.path.join(TOP, "testbed", "configs", name + ".config"),
                  encoding="utf-8") as f:
            texts.append(f.read())
    for line in "\n".join(texts + [CONFIG]).splitlines():
        m = re.match(r"(?:# )?(CONFIG_\w+)(?:=| is not set$)", line)
        if m:
            chosen[m.group(1)] = line
    os.makedirs(OUT, exist_ok=True)
    want = os.path.join(OUT, "wanted.config")
    with open(want, "w", encoding="utf-8") as f:
        f.write("\n".join(chosen.values()) + "\n")
    return kmake("KCONFIG_ALLCONFIG=" + want, "allnoconfig")


def complaints(text, mine):
    """{path: [line of output]} for what is said about our lines"""
    said = {}
    for line in text.splitlines():
        m = re.match(r"(\S+?):(\d+)(?::\d+)?:(?:\d+:)? *(?:fatal )?(warning|error)\b", line)
        if m:
            path = os.path.relpath(os.path.realpath(os.path.join(OUT, m.group(1))),
                                   os.path.realpath(LINUX))
            lines = mine.get(path, set())
            # The base has errors of its own, as sparse sees it; one that stops
            # the compiler leaves an object of ours unbuilt.
            if lines is None or int(m.group(2)) in lines:
                said.setdefault(path, []).append(line)
            continue
        m = re.match(r"(\S+)\.o: warning: objtool", line)
        if m and mine.get(m.group(1) + ".c", set()) is None:
            said.setdefault(m.group(1) + ".c", []).append(line)
    return said


def main():
    base = git("rev-parse", "base").strip()
    mine = changes(base)
    sources, headers, elsewhere = [], [], []
    for path in sorted(mine):
        if path.startswith(("tools/", "Documentation/", "scripts/")):
            continue
        if path.startswith("arch/") and not path.startswith("arch/x86/"):
            elsewhere.append(path)
        elif path.endswith(".c"):
            sources.append(path)
        elif path.endswith(".h"):
            headers.append(path)
    for path in elsewhere:
        print("# of another architecture: %s" % path)
    if not sources and not headers:
        print("1..1\nok 1 - lint # SKIP the series touches no kernel source")
        return 0

    run = configure()
    if run.returncode:
        print("Bail out! configuration\n# " + run.stdout.strip().replace("\n", "\n# "))
        return 1
    targets = set()
    for path in sources:
        what, obj = target(path)
        targets.add(what)
        if os.path.exists(os.path.join(OUT, obj)):
            os.unlink(os.path.join(OUT, obj))
    run = kmake("W=1", "C=1", "CF=-D__CHECK_ENDIAN__ -fmax-warnings=unlimited", *sorted(targets))
    text = run.stdout
    with open(os.path.join(OUT, "lint.log"), "w", encoding="utf-8") as f:
        f.write(text)
    for path in headers:
        text += subprocess.run(
            [os.path.join(LINUX, "scripts", "kernel-doc"), "-none",
             os.path.join(LINUX, path)], check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace").stdout
    said = complaints(text, mine)

    number = 0

    def result(fine, name, lines=(), note=""):
        nonlocal number
        number += 1
        print("%s %d - %s%s" % ("ok" if fine else "not ok", number, name, note))
        for t in lines:
            print("# " + t)

    for path in sources:
        obj = target(path)[1]
        built = os.path.exists(os.path.join(OUT, obj)) or \
            os.path.exists(os.path.join(OUT, path[:-2]))
        if path in said:
            result(False, path, said[path])
        elif built:
            result(True, path)
        elif mine[path] is None or run.returncode == 0:
            # What is ours has to be built by some configuration: by this one.
            result(False, path, ["it was not built, see %s" %
                                 os.path.relpath(os.path.join(OUT, "lint.log"), TOP)])
        elif "No rule to make target '%s'" % obj in text:
            result(True, path, [], " # SKIP not built by the base configuration")
        else:
            result(False, path, ["it was not built"])
    for path in headers:
        result(path not in said, path, said.get(path, []))
    # What stopped the build elsewhere: in a file that the series does not touch.
    for path in sorted(set(said) - set(sources) - set(headers)):
        result(False, path, said[path])
    print("1..%d" % number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
