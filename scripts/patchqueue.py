#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
The way between a patch queue and its work tree.

The queue is patches/ (edits to files of the base, one logical commit each) and
the new files, which stand whole beside it under their in-tree paths; a patch
claims the new files that its commit brings by "Adds:" trailers. The work tree
is a git repository: a base commit and one commit per patch.

There are two, the kernel's and QEMU's (--project=qemu):

  queue             work tree     mails               base
  .                 build/linux   build/series        LINUX_SRC
  testbed/qemu      build/qemu    build/series-qemu   QEMU_SRC

  tree     queue -> work tree
  refresh  work tree -> queue
  series   queue -> mails for git send-email or git am
  base     print the base commit
  head     print the commit that the queue makes (the work tree is not touched)
  commits  print what "head" consists of: commit, patch name
  files    print what the series changes: A or M or D, patch name, path
  orphans  print files beside patches/ that no patch claims

Commits are a function of the queue and the base alone, so they are made in a
private index and remembered; only files that differ are written to the work
tree, and everything else keeps its time stamp for incremental builds.

Environment: LINUX_SRC, QEMU_SRC (a tree, a tarball or a .dsc), FORCE=1 (discard
what would otherwise be refused).
"""

import argparse
import email.utils
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

EPOCH = 1700000000  # the date of the base, and of a patch that has none
BRANCH = "series"
MADE = "refs/tooling/made"  # what make tree or make refresh saw last
DROPPED = "refs/tooling/dropped"

# A patch that only adds files has no diff, and quilt stumbles over that; in
# patches/series it stands in a comment of this form, which we read.
NO_EDITS = "#+ "
NO_EDITS_WHY = "# #+ marks a patch that brings new files only: nothing for quilt to do"

DIFF = ["--no-renames", "--no-color", "--no-ext-diff", "--no-textconv", "-U3",
        "--inter-hunk-context=0", "--diff-algorithm=myers",
        "--indent-heuristic", "--src-prefix=a/", "--dst-prefix=b/",
        "--full-index"]


class Refusal(Exception):
    """What the user has to know; printed without a traceback."""


class Project:
    """What one queue does not have in common with another."""

    title = ""        # what the base is
    queue = ""        # where patches/ and the new files stand
    own = set()       # what stands there, too, and is not part of the tree
    tree = ""         # the work tree
    series = ""       # the mails
    variable = ""     # the environment's way to another base
    target = ""       # "make <target>refresh"
    lock = ""
    mark = ""         # a file at the top of every such tree
    built = ()        # what the results of a build look like, and the remedy
    mend = ""
    tested = ""       # the versions that the queue is made for
    takes = ""        # how long an import takes

    def __init__(self, top):
        self.top = top
        self.root = os.path.join(top, self.queue)

    def path(self, name):
        """A path of the queue, as seen from the top of the repository."""
        return os.path.join(self.queue, name)

    def make(self, name):
        return "make " + self.target + name


class Linux(Project):
    title = "Linux"
    own = {".git", ".ci", ".gitignore", "COPYING", "Makefile", "README.md",
           "build", "patches", "scripts", "testbed"}
    tree = "build/linux"
    series = "build/series"
    variable = "LINUX_SRC"
    lock = "build/.lock"
    mark = "Kbuild"
    built = (".config", "vmlinux", "include/generated")
    mend = "run 'make mrproper'"
    tested = "6.1."
    takes = "about a minute"

    def source(self):
        path = "/usr/src/linux-source-6.1.tar.xz"
        if not os.path.exists(path):
            raise Refusal("no kernel source at %s (apt-get install "
                          "linux-source-6.1, or LINUX_SRC=)" % path)
        return path

    @staticmethod
    def version(top):
        text = (read(os.path.join(top, "Makefile")) or b"").decode(errors="replace")
        part = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)$", text, re.M))
        if len(part) != 3:
            raise Refusal("the source is not a Linux tree: its Makefile names no version")
        return "%(VERSION)s.%(PATCHLEVEL)s.%(SUBLEVEL)s" % part


class Qemu(Project):
    title = "QEMU"
    queue = "testbed/qemu"
    own = {".git", "README.md", "patches"}
    tree = "build/qemu"
    series = "build/series-qemu"
    variable = "QEMU_SRC"
    target = "qemu-"
    lock = "build/.lock-qemu"
    mark = "qemu-options.hx"
    built = ("build", "config-host.mak", "GNUmakefile")
    mend = "remove it"
    tested = "10.0."
    takes = "some seconds"

    def source(self):
        """Debian's source package, fetched when it is not here."""
        to = os.path.join(self.top, "build", "qemu-source")
        found = sorted(glob.glob(os.path.join(to, "qemu_*.dsc")))
        if not found:
            say("  fetching the source package of QEMU")
            part = to + ".part"
            shutil.rmtree(part, ignore_errors=True)
            run = subprocess.run([os.path.join(self.top, "testbed", "trixie.sh"),
                                  "source", "qemu", part], check=False)
            found = sorted(glob.glob(os.path.join(part, "qemu_*.dsc")))
            if run.returncode or not found:
                raise Refusal("the source package of QEMU cannot be had "
                              "(QEMU_SRC= takes a tree, a tarball or a .dsc)")
            shutil.rmtree(to, ignore_errors=True)
            os.rename(part, to)
            found = sorted(glob.glob(os.path.join(to, "qemu_*.dsc")))
        return found[-1]

    @staticmethod
    def version(top):
        text = (read(os.path.join(top, "VERSION")) or b"").decode(errors="replace")
        if not re.fullmatch(r"\d+(\.\d+)+\s*", text):
            raise Refusal("the source is not a QEMU tree: its VERSION names no version")
        return text.strip()


def say(text):
    print(text, flush=True)


def forced():
    return os.environ.get("FORCE", "") not in ("", "0")


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def write(path, data, executable=False):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "wb") as f:
        f.write(data)
    os.chmod(path + ".tmp", 0o755 if executable else 0o644)
    os.replace(path + ".tmp", path)


def sha(data):
    return hashlib.sha1(data).hexdigest()


def is_executable(path):
    return bool(os.stat(path).st_mode & 0o100)


def clean_env():
    """Nothing of the user's git configuration may change what we make."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env.update(GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1",
               LC_ALL="C.UTF-8", TZ="UTC")
    return env


class Git:
    def __init__(self, top, **env):
        self.top = top
        self.env = dict(clean_env(), **env)

    def start(self, *args, **kw):
        return subprocess.run(("git",) + args, cwd=self.top, env=self.env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False, **kw)

    def raw(self, *args, data=None):
        run = self.start(*args, input=data)
        if run.returncode:
            raise Refusal("git %s: %s" % (" ".join(args[:3]),
                                          run.stderr.decode().strip()))
        return run.stdout

    def __call__(self, *args, data=None):
        return self.raw(*args, data=data).decode().strip()

    def ok(self, *args):
        return self.start(*args).returncode == 0

    def ref(self, name):
        run = self.start("rev-parse", "-q", "--verify", name + "^{commit}")
        return run.stdout.decode().strip() if run.returncode == 0 else None

    def commit(self, tree, parent, author, date, message):
        env = {}
        for who in ("AUTHOR", "COMMITTER"):
            env["GIT_%s_NAME" % who], env["GIT_%s_EMAIL" % who] = author
            env["GIT_%s_DATE" % who] = date
        args = ["commit-tree", tree] + (["-p", parent] if parent else [])
        return Git(self.top, **dict(self.env, **env))(
            *args, data=message.encode())


# -- patches ---------------------------------------------------------------

class Patch:
    """One file of the queue."""

    def __init__(self, project, name):
        self.project = project
        self.name = name
        self.path = project.path("patches/" + name)
        text = read(os.path.join(project.top, self.path))
        if text is None:
            raise Refusal("%s names %s, which does not exist" %
                          (project.path("patches/series"), name))
        lines = text.split(b"\n")
        end = len(lines)
        for i, line in enumerate(lines):
            if line == b"---" or re.match(rb"diff --git |--- \S|Index: ", line):
                end = i
                break
        self.diff = b"\n".join(lines[end:])
        if lines[end:] and lines[end] == b"---":
            self.diff = b"\n".join(lines[end + 1:])
        try:
            head = [line.decode() for line in lines[:end]]
        except UnicodeDecodeError as err:
            raise Refusal("%s: the message is not UTF-8" % self.path) from err
        self._header(head)
        self._edits()

    def _header(self, head):
        fields = {}
        while head:
            m = re.match(r"(From|Date|Subject): *(.*\S)\s*$", head[0])
            if not m:
                break
            fields[m.group(1)] = m.group(2)
            head.pop(0)
        for need in ("From", "Subject"):
            if need not in fields:
                raise Refusal("%s: no %s: line at its top" % (self.path, need))
        who, mail = email.utils.parseaddr(fields["From"])
        if not mail or not who:
            raise Refusal("%s: From: %s is not a name and an address" %
                          (self.path, fields["From"]))
        self.author = (who, mail)
        self.date = "%d +0000" % EPOCH
        if "Date" in fields:
            try:
                when = email.utils.parsedate_to_datetime(fields["Date"])
            except (TypeError, ValueError) as err:
                raise Refusal("%s: Date: %s is not a date" %
                              (self.path, fields["Date"])) from err
            self.date = "%d %s" % (when.timestamp(), when.strftime("%z") or "+0000")
        self.subject = fields["Subject"]
        self.adds = []
        body = []
        for line in head:
            m = re.match(r"Adds:\s*(\S+)\s*$", line)
            if m:
                self.adds.append(m.group(1))
            else:
                body.append(line.rstrip())
        self.body = "\n".join(body).strip("\n")
        for path in self.adds:
            if (os.path.normpath(path) != path or path.startswith(("/", ".."))
                    or path.split("/")[0] in self.project.own):
                raise Refusal("%s: Adds: %s is not a path for a new file of %s" %
                              (self.path, path, self.project.title))

    def _edits(self):
        """Which files, and where the hunks are: for the error messages."""
        self.edits = []
        self.hunks = []  # (path, number, line of the old file, header)
        path, number, made = None, 0, False
        for line in self.diff.split(b"\n"):
            if line.startswith(b"--- "):
                made = line[4:].strip() == b"/dev/null"
                path = line[4:].split(b"\t")[0].decode().partition("/")[2]
                number = 0
            elif line.startswith(b"+++ ") and path is not None:
                if made:
                    path = line[4:].split(b"\t")[0].decode().partition("/")[2]
                    raise Refusal(
                        "%s creates %s in its diff: the new file stands whole "
                        "at %s, and the patch says Adds: %s" %
                        (self.path, path, self.project.path(path), path))
                self.edits.append(path)
            else:
                m = re.match(rb"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@", line)
                if m:
                    number += 1
                    self.hunks.append((path, number, int(m.group(1)),
                                       line.decode(errors="replace")))

    def message(self):
        return self.subject + "\n" + ("\n" + self.body + "\n" if self.body else "")

    def why_not(self, stderr):
        """Says in plain words what git apply complained about."""
        out = ["%s does not apply:" % self.path]
        for line in stderr.decode(errors="replace").splitlines():
            m = re.match(r"error: patch failed: (.*):(\d+)$", line)
            if m:
                path, where = m.group(1), int(m.group(2))
                total = sum(1 for h in self.hunks if h[0] == path)
                for h in self.hunks:
                    if h[0] == path and h[2] == where:
                        out.append("  file %s\n  hunk %d of %d: %s" %
                                   (path, h[1], total, h[3]))
                        break
                else:
                    out.append("  file %s\n  at line %d" % (path, where))
                continue
            m = re.match(r"error: (.*): does not exist in index$", line)
            if m:
                hunk = next((h for h in self.hunks if h[0] == m.group(1)), None)
                out.append("  file %s\n  which the base does not have" % m.group(1))
                if hunk:
                    out.append("  hunk %d: %s" % (hunk[1], hunk[3]))
                continue
            if not line.endswith(": patch does not apply"):
                out.append("  " + line)
        return "\n".join(out)


class Queue:
    def __init__(self, project):
        self.root = project.root
        text = read(os.path.join(self.root, "patches", "series")) or b""
        self.head = []
        names = []
        for line in text.decode().splitlines():
            m = re.match(re.escape(NO_EDITS) + r"(\S+)", line)
            if m:
                names.append(m.group(1))
                continue
            name = line.split("#")[0].split()
            if name:
                names.append(name[0])
            elif line.startswith("#") and not names and line != NO_EDITS_WHY:
                self.head.append(line)
        if len(names) != len(set(names)):
            raise Refusal("%s names a patch twice" % project.path("patches/series"))
        self.names = names
        self.patches = [Patch(project, n) for n in names]
        self.owner = {}
        for p in self.patches:
            for path in p.adds:
                if path in self.owner:
                    raise Refusal("%s adds %s, but %s added it before" %
                                  (p.path, path, self.owner[path].path))
                self.owner[path] = p
        for p in self.patches:
            for path in p.edits:
                if path in self.owner:
                    raise Refusal(
                        "%s changes %s, which %s adds: a new file belongs to "
                        "one patch" % (p.path, path, self.owner[path].path))

    def inputs(self):
        """path -> content of everything the queue is made of."""
        out = {}
        for name in ["series"] + self.names:
            out["patches/" + name] = read(os.path.join(self.root, "patches", name))
        for path in self.owner:
            out[path] = read(os.path.join(self.root, path))
        return {k: v for k, v in out.items() if v is not None}


# -- the base --------------------------------------------------------------

def counted(args, what, **kw):
    """Runs a command that prints a line per file, and shows how far it is."""
    with tempfile.TemporaryFile() as err:
        with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=err, **kw) as p:
            n, last, start = 0, time.time(), time.time()
            for _ in p.stdout:
                n += 1
                if not n % 500 and time.time() - last > 3:
                    last = time.time()
                    say("    %s: %d files" % (what, n))
        if p.returncode:
            err.seek(0)
            raise Refusal("%s: %s" % (args[0], err.read().decode().strip()[-800:]))
    say("    %s: %d files, %.0f s" % (what, n, time.time() - start))


class Source:
    """Where the base comes from, and a key that tells when it changed."""

    def __init__(self, project):
        self.project = project
        path = os.environ.get(project.variable)
        if not path:
            path = project.source()
        self.path = os.path.realpath(os.path.expanduser(path))
        if not os.path.exists(self.path):
            raise Refusal("no %s source at %s" % (project.title, path))
        if os.path.isfile(self.path):
            st = os.stat(self.path)
            self.kind = "tar"
            what = "tar %s %d %d" % (self.path, st.st_size, st.st_mtime_ns)
            if self.path.endswith(".dsc"):
                # It names the other files' checksums
                self.kind = "dsc"
                what = "dsc " + sha(read(self.path))
        elif not os.path.isfile(os.path.join(self.path, project.mark)):
            raise Refusal("%s is not a source tree of %s" % (path, project.title))
        elif os.path.exists(os.path.join(self.path, ".git")):
            self.kind = "git"
            git = Git(self.path)
            self.safe = ["-c", "safe.directory=*"]
            what = "git " + git(*self.safe, "rev-parse", "HEAD^{tree}")
            if git(*self.safe, "status", "--porcelain", "-uno"):
                say("  note: %s has uncommitted changes; its HEAD is the base" % path)
        else:
            self.kind = "dir"
            for built in project.built:
                if os.path.exists(os.path.join(self.path, built)):
                    raise Refusal("%s holds the results of a build (%s): %s there "
                                  "first" % (path, built, project.mend))
            h = hashlib.sha1()
            for top, dirs, files in os.walk(self.path):
                dirs.sort()
                for f in sorted(files):
                    st = os.lstat(os.path.join(top, f))
                    h.update(("%s/%s %d %d\n" % (top, f, st.st_size,
                                                 st.st_mtime_ns)).encode())
            what = "dir " + h.hexdigest()
        self.key = sha(what.encode())

    def unpack(self, to):
        """Leaves the source in a new directory, and says which version it is."""
        shutil.rmtree(to, ignore_errors=True)
        if self.kind == "dsc":
            if not shutil.which("dpkg-source"):
                raise Refusal("there is no dpkg-source (apt-get install dpkg-dev)")
            run = subprocess.run(["dpkg-source", "--no-copy", "-x", self.path, to],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 env=clean_env(), check=False)
            if run.returncode:
                raise Refusal("dpkg-source: " + run.stdout.decode().strip()[-800:])
            shutil.rmtree(os.path.join(to, ".pc"), ignore_errors=True)
            return self.project.version(to)
        os.makedirs(to)
        if self.kind == "tar":
            counted(["tar", "-xvf", self.path, "-C", to, "--strip-components=1",
                     "--no-same-owner"], "unpacked")
        elif self.kind == "git":
            with subprocess.Popen(["git"] + self.safe + ["archive", "HEAD"],
                                  cwd=self.path, env=clean_env(),
                                  stdout=subprocess.PIPE) as p:
                counted(["tar", "-xv", "-C", to], "unpacked", stdin=p.stdout)
                p.stdout.close()
            if p.returncode:
                raise Refusal("git archive in %s failed" % self.path)
        else:
            counted(["cp", "-av", self.path + "/.", to], "copied")
        return self.project.version(to)


class Tree:
    """The work tree and what we remember about it."""

    def __init__(self, project):
        self.project = project
        self.root = project.root
        self.name = project.tree
        self.top = os.path.join(project.top, self.name)
        self.dot = os.path.join(self.top, ".git")
        self.git = Git(self.top)
        self.memo = None

    def exists(self):
        return os.path.isdir(self.dot)

    # the base

    def base(self):
        """The commit of the base, imported if this source is new."""
        src = Source(self.project)
        ref = "refs/base/" + src.key
        if self.exists():
            commit = self.git.ref(ref)
            if commit:
                return commit
        elif os.path.exists(self.top):
            raise Refusal("%s exists and is no git repository: move it away" %
                          self.name)
        say("  base: %s (once; %s)" % (src.path, self.project.takes))
        tmp = self.top + ".import"
        version = src.unpack(tmp)
        if not version.startswith(self.project.tested):
            say("  note: this is %s %s; the series is made for %s" %
                (self.project.title, version, self.project.tested.rstrip(".")))
        if self.exists():
            index = os.path.join(self.dot, "import-index")
            git = Git(tmp, GIT_DIR=self.dot, GIT_WORK_TREE=tmp,
                      GIT_INDEX_FILE=index)
            commit = self._record(git, version)
            os.unlink(index)
            shutil.rmtree(tmp)
        else:
            git = Git(tmp)
            git("init", "-q", "-b", BRANCH)
            # The base is very many loose objects: no repacking behind the
            # back of somebody who commits.
            git("config", "gc.auto", "0")
            git("config", "core.autocrlf", "false")
            git("config", "advice.detachedHead", "false")
            commit = self._record(git, version)
            git("update-ref", "refs/heads/" + BRANCH, commit)
            git("update-ref", MADE, commit)
            git("tag", "base", commit)
            os.rename(tmp, self.top)
        self.git("update-ref", ref, commit)
        return commit

    def _record(self, git, version):
        counted(["git", "add", "-A", "-f", "-v", "."], "recorded",
                cwd=git.top, env=git.env)
        title = self.project.title
        author = (title, title.lower() + "@localhost")
        return git.commit(git("write-tree"), None, author,
                          "%d +0000" % EPOCH, "%s %s\n" % (title, version))

    def show_new_files(self):
        """
        The .gitignore of Debian's kernel ends by ignoring everything, which
        hides new files from git status and git add -A. The base stays as it
        is; only the copy in the work tree goes without those lines, and git is
        told not to look.
        """
        path = os.path.join(self.top, ".gitignore")
        text = read(path) or b""
        lines = text.split(b"\n")
        if b"/*" in lines and b"!/debian/" in lines:
            self.git("update-index", "--skip-worktree", ".gitignore")
            write(path, b"\n".join(t for t in lines if t not in (b"/*", b"!/debian/")))

    # queue -> commits

    def _remember(self):
        if self.memo is None:
            self.memo = json.loads(read(os.path.join(self.dot, "made.json")) or "{}")
        return self.memo

    def commits(self, queue, base):
        """Makes the commits of the queue; [(patch, commit)]."""
        memo = self._remember()
        chain, parent, index = [], base, None
        for p in queue.patches:
            h = hashlib.sha1()
            h.update(repr((parent, p.author, p.date, p.message(), p.diff)).encode())
            new = []
            for path in p.adds:
                full = os.path.join(self.root, path)
                if os.path.islink(full) or not os.path.isfile(full):
                    raise Refusal("%s: Adds: %s, but there is no such file" %
                                  (p.path, self.project.path(path)))
                mode = "100755" if is_executable(full) else "100644"
                data = read(full)
                new.append((path, mode, data))
                h.update(repr((path, mode, sha(data))).encode())
            key = h.hexdigest()
            commit = memo.get(key)
            if not (commit and self.git.ok("cat-file", "-e", commit)):
                if index is None:
                    index = Git(self.top, GIT_INDEX_FILE=os.path.join(
                        self.dot, "tooling-index"))
                    index("read-tree", parent)
                commit = self._commit(index, p, new, parent)
                memo[key] = commit
            else:
                index = None
            chain.append((p, commit))
            parent = commit
        write(os.path.join(self.dot, "made.json"),
              json.dumps(memo, indent=0).encode())
        return chain

    def _commit(self, index, p, new, parent):
        if p.edits or p.diff.strip():
            run = index.start("apply", "--cached", "--whitespace=nowarn", "-",
                              input=p.diff)
            if run.returncode:
                raise Refusal(p.why_not(run.stderr))
        lines = []
        for path, mode, data in new:
            if self.git.ok("cat-file", "-e", parent + ":" + path):
                raise Refusal("%s: Adds: %s, which the base has already" %
                              (p.path, path))
            blob = self.git("hash-object", "-w", "--stdin", data=data)
            lines.append("%s %s\t%s\n" % (mode, blob, path))
        if lines:
            index("update-index", "--add", "--index-info",
                  data="".join(lines).encode())
        return self.git.commit(index("write-tree"), parent, p.author, p.date,
                               p.message())

    # guards

    def busy(self):
        for name, what in (("rebase-merge", "rebase"), ("rebase-apply", "rebase or am"),
                           ("CHERRY_PICK_HEAD", "cherry-pick"),
                           ("MERGE_HEAD", "merge"), ("sequencer", "cherry-pick"),
                           ("REVERT_HEAD", "revert")):
            if os.path.exists(os.path.join(self.dot, name)):
                return what
        return None

    def dirty(self):
        return self.git("status", "--porcelain", "-uno")

    def state(self):
        return json.loads(read(os.path.join(self.dot, "inputs.json")) or "{}")

    def set_state(self, commit, inputs):
        self.git("update-ref", MADE, commit)
        write(os.path.join(self.dot, "inputs.json"), json.dumps(
            {k: sha(v) for k, v in sorted(inputs.items())}, indent=0).encode())


# -- commands --------------------------------------------------------------

def cmd_tree(project):
    queue = Queue(project)
    tree = Tree(project)
    base = tree.base()
    chain = tree.commits(queue, base)
    new = chain[-1][1] if chain else base
    git = tree.git
    head = git.ref("HEAD")
    branch = git("rev-parse", "--abbrev-ref", "HEAD")
    if new != head or branch != BRANCH:
        problem = guard_tree(tree, head, branch)
        if problem and not forced():
            raise Refusal(problem)
        if problem:
            for op in ("rebase", "cherry-pick", "am", "revert"):
                git.start(op, "--quit")
            git("update-ref", DROPPED, head)
            say("  %s was at %s, kept as %s" % (tree.name, head[:12], DROPPED))
            git("checkout", "-q", "-f", "-B", BRANCH, new)
        else:
            git("checkout", "-q", "-B", BRANCH, new)
    git("tag", "-f", "base", base)
    tree.show_new_files()
    tree.set_state(new, queue.inputs())
    say("  %s: %s + %d patches" %
        (tree.name, git("log", "-1", "--format=%s", base), len(chain)))


def guard_tree(tree, head, branch):
    """What would be lost if the work tree were set to another commit."""
    git = tree.git
    hint = "\n(FORCE=1 discards it)"
    busy = tree.busy()
    if busy:
        return "%s is in the middle of a %s: finish it first%s" % (tree.name, busy, hint)
    dirty = tree.dirty()
    if dirty:
        return ("%s has uncommitted changes:\n%s\ncommit them and run %s%s" %
                (tree.name, "\n".join(dirty.splitlines()[:20]),
                 tree.project.make("refresh"), hint))
    made = git.ref(MADE)
    if made and git.ok("merge-base", "--is-ancestor", head, made):
        return None
    bases = git("for-each-ref", "--format=%(objectname)", "refs/base").split()
    if head in bases:
        return None
    known = ["^" + made] if made else []
    lost = git("log", "--format=  %h %s", head, *known, *["^" + b for b in bases])
    return ("%s has commits (branch %s) that are not in %s:\n%s\n"
            "run %s to bring them there%s" %
            (tree.name, branch, tree.project.path("patches/"), lost,
             tree.project.make("refresh"), hint))


def slug(n, subject):
    text = re.sub(r"[^A-Za-z0-9._]+", "-", subject)
    text = re.sub(r"\.{2,}", ".", text).strip("-.")[:57].strip("-.")
    return "%04d-%s.patch" % (n, text)


def describe(git, commit):
    return git("log", "-1", "--format=%h (%s)", commit)


def render(tree, base, head):
    """The queue that the commits base..head make: {path: (content, executable)}."""
    git = tree.git
    out, series, owner = {}, [], {}
    for commit in git("rev-list", "--reverse", "%s..%s" % (base, head)).split():
        if len(git("log", "-1", "--format=%P", commit).split()) != 1:
            raise Refusal("commit %s is a merge: the series is linear" %
                          describe(git, commit))
        adds = []
        fields = git.raw("diff-tree", "-r", "-z", "--no-renames", "--raw",
                         commit + "^", commit).split(b"\0")
        for meta, path in zip(fields[::2], fields[1::2]):
            _, mode, _, blob, what = meta.decode().split()
            path = path.decode()
            if path in owner:
                raise Refusal(
                    "%s is added by commit %s and %s by commit %s: a new file "
                    "belongs to one patch, move the change there" %
                    (path, describe(git, owner[path]),
                     "deleted" if what == "D" else "changed",
                     describe(git, commit)))
            if what == "A":
                if mode not in ("100644", "100755"):
                    raise Refusal("commit %s adds %s, which is no plain file" %
                                  (describe(git, commit), path))
                if path.split("/")[0] in tree.project.own:
                    raise Refusal(
                        "commit %s adds %s, a path that this repository uses "
                        "for itself" % (describe(git, commit), path))
                if git.ok("cat-file", "-e", "%s:%s" % (base, path)):
                    raise Refusal("commit %s adds %s again, a file of the base" %
                                  (describe(git, commit), path))
                owner[path] = commit
                adds.append(path)
                out[path] = (git.raw("cat-file", "blob", blob), mode == "100755")
            elif what not in ("M", "D"):
                raise Refusal("commit %s changes the type of %s" %
                              (describe(git, commit), path))
        name = slug(len(series) + 1, git("log", "-1", "--format=%s", commit))
        text = render_patch(git, commit, adds)
        series.append(name if b"\ndiff --git " in text else NO_EDITS + name)
        out["patches/" + name] = (text, False)
    return out, series


def render_patch(git, commit, adds):
    name, mail, date, subject = git(
        "log", "-1", "--format=%an%n%ae%n%ad%n%s", "--date=raw", commit).split("\n")
    message = git("log", "-1", "--format=%b", commit)
    body = [line.rstrip() for line in message.splitlines()
            if not re.match(r"Adds:\s", line)]
    for line in body:
        if line == "---" or re.match(r"(diff --git |--- |\+\+\+ |Index: |@@ -)", line):
            raise Refusal("commit %s: its message has a line that looks like a "
                          "patch: %s" % (describe(git, commit), line))
    body = "\n".join(body).strip("\n")
    head = "From: %s\n" % email.utils.formataddr((name, mail), "utf-8") \
        if name.isascii() else "From: %s <%s>\n" % (name, mail)
    seconds, zone = date.split()
    if date != "%d +0000" % EPOCH:
        offset = int(zone[:3]) * 3600 + int(zone[0] + zone[3:]) * 60
        head += "Date: %s %s\n" % (time.strftime(
            "%a, %d %b %Y %H:%M:%S", time.gmtime(int(seconds) + offset)), zone)
    head += "Subject: %s\n\n" % subject
    if body:
        head += body + "\n"
    if adds:
        last = body.split("\n\n")[-1].splitlines() if body else []
        if last and not all(re.match(r"[A-Za-z-]+: ", t) for t in last):
            head += "\n"
        head += "".join("Adds: %s\n" % a for a in sorted(adds))
    diff = git.raw("diff-tree", "-r", "-p", "--diff-filter=a", *DIFF,
                   commit + "^", commit)
    if re.search(rb"^(Binary files|GIT binary patch)", diff, re.M):
        raise Refusal("commit %s changes a binary file" % describe(git, commit))
    diff = re.sub(rb"^index [0-9a-f]{40}\.\.[0-9a-f]{40}( \d+)?\n", b"", diff,
                  flags=re.M)
    return head.encode() + b"---\n" + diff


def cmd_refresh(project):
    root, tree = project.root, Tree(project)
    if not tree.exists():
        raise Refusal("there is no %s: %s makes it" % (tree.name, project.make("tree")))
    git = tree.git
    queue = Queue(project)
    busy = tree.busy()
    if busy:
        raise Refusal("%s is in the middle of a %s: finish it first" %
                      (tree.name, busy))
    dirty = tree.dirty()
    if dirty and not forced():
        raise Refusal("%s has uncommitted changes:\n%s\ncommit them first "
                      "(FORCE=1 leaves them out)" %
                      (tree.name, "\n".join(dirty.splitlines()[:20])))
    base, head = git.ref("refs/tags/base"), git.ref("HEAD")
    if not git.ok("merge-base", "--is-ancestor", base, head):
        raise Refusal("%s: HEAD does not descend from the tag base" % tree.name)
    out, names = render(tree, base, head)
    if names or queue.names or queue.head:
        head_lines = list(queue.head)
        if any(name.startswith(NO_EDITS) for name in names):
            head_lines.append(NO_EDITS_WHY)
        out["patches/series"] = ("".join(
            line + "\n" for line in head_lines + names).encode(), False)

    # What stands here may have been edited since the work tree was made from it.
    old, state, clash = queue.inputs(), tree.state(), []
    gone = [path for path in old if path not in out]
    for path in sorted(set(out) | set(gone)):
        here = read(os.path.join(root, path))
        want = out[path][0] if path in out else None
        if here is not None and here != want and state.get(path) != sha(here):
            clash.append(path)
    if clash and not forced():
        raise Refusal(
            "these were changed here since %s was made from them:\n%s\n"
            "(FORCE=1 replaces them by what %s has)" %
            (tree.name, "\n".join("  " + project.path(c) for c in clash), tree.name))

    changed = 0
    for path, (data, executable) in sorted(out.items()):
        full = os.path.join(root, path)
        if read(full) != data or is_executable(full) != executable:
            write(full, data, executable)
            say("  %s %s" % ("changed" if path in old else "new    ",
                             project.path(path)))
            changed += 1
    for path in sorted(gone):
        os.unlink(os.path.join(root, path))
        say("  removed %s" % project.path(path))
        changed += 1
        top = os.path.dirname(path)
        while top and not os.listdir(os.path.join(root, top)):
            os.rmdir(os.path.join(root, top))
            top = os.path.dirname(top)
    tree.set_state(head, {k: v[0] for k, v in out.items()})
    say("  %d patches, %d files changed" % (len(names), changed))


def cmd_series(project):
    queue = Queue(project)
    tree = Tree(project)
    base = tree.base()
    chain = tree.commits(queue, base)
    to = os.path.join(project.top, project.series)
    shutil.rmtree(to, ignore_errors=True)
    if not chain:
        raise Refusal("%s is empty: there is no series to make" %
                      project.path("patches/series"))
    os.makedirs(to)
    last = chain[-1][1]
    name, mail = tree.git("log", "-1", "--format=%an%n%ae", last).split("\n")
    date = tree.git("log", "-1", "--format=%ad", "--date=raw", last)
    git = Git(tree.top, GIT_COMMITTER_NAME=name, GIT_COMMITTER_EMAIL=mail,
              GIT_COMMITTER_DATE=date, GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=mail)
    git("format-patch", "-q", "-n", "--cover-letter", "--no-signature",
        "--no-renames", "--no-thread", "--encode-email-headers", "-o", to,
        "%s..%s" % (base, last))
    text = (read(os.path.join(project.root, "patches", "cover-letter")) or
            ("The series for %s\n" % project.title).encode()).decode()
    subject, _, body = text.strip().partition("\n")
    subject = re.sub(r"^Subject: *", "", subject)
    body = body.strip("\n") + "\n\nBase: %s\n" % tree.git("log", "-1", "--format=%s", base)
    letter = os.path.join(to, "0000-cover-letter.patch")
    mail = read(letter).decode()
    mail = mail.replace("*** SUBJECT HERE ***", subject)
    mail = mail.replace("*** BLURB HERE ***\n", body)
    # Not *.patch, so that "git am *.patch" takes the patches and nothing else.
    write(os.path.join(to, "0000-cover-letter.txt"), mail.encode())
    os.unlink(letter)
    say("  %s: a cover letter and %d patches" % (project.series, len(chain)))


def cmd_show(project, what):
    queue = Queue(project)
    tree = Tree(project)
    base = tree.base()
    if what == "base":
        return print(base)
    chain = tree.commits(queue, base)
    if what == "head":
        print(chain[-1][1] if chain else base)
    elif what == "commits":
        for p, commit in chain:
            print(commit, p.name)
    elif what == "files":
        for p, _ in chain:
            for path in p.edits:
                print("M", p.name, path)
            for path in p.adds:
                print("A", p.name, path)
    return None


def cmd_orphans(project):
    queue, root = Queue(project), project.root
    for path in Git(root).raw("ls-files", "-z", "-c", "-o",
                              "--exclude-standard").decode().split("\0"):
        if (path and path.split("/")[0] not in project.own and path not in queue.owner
                and os.path.exists(os.path.join(root, path))):
            print(project.path(path))


def main():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    projects = {"linux": Linux, "qemu": Qemu}
    parser = argparse.ArgumentParser(description="patch queue <-> work tree")
    parser.add_argument("--root", default=here)
    parser.add_argument("--project", choices=sorted(projects), default="linux")
    parser.add_argument("command", choices=["tree", "refresh", "series", "base", "head",
                                            "commits", "files", "orphans"])
    args = parser.parse_args()
    project = projects[args.project](os.path.abspath(args.root))
    os.makedirs(os.path.join(project.top, "build"), exist_ok=True)
    commands = {"tree": cmd_tree, "refresh": cmd_refresh, "series": cmd_series,
                "orphans": cmd_orphans}
    with open(os.path.join(project.top, project.lock), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if args.command in commands:
                commands[args.command](project)
            else:
                cmd_show(project, args.command)
        except Refusal as err:
            sys.exit("%s: %s" % (args.command, err))
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
