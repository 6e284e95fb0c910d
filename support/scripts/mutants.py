#!/usr/bin/env python3
"""Proves that each security rule has a test that fails without it. Each patch in `support/mutants` removes one rule, and names the
promise and the test.

    support/scripts/mutants.py [NAME ...]   removes the rules (all, or these) one by one, and runs the test of each: it must fail
    support/scripts/mutants.py --check      builds nothing: each patch applies, and its test is there

`SHARD=2/4` takes the second quarter. It works in a copy of the tree under `target/mutants`, which stays, with what was built.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = ROOT / "support/mutants"
WORK = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "mutants"
TREE = WORK / "tree"
TEST_SECONDS = 90
TEST = re.compile(r"cargo test -p (\w+) (--lib|--test \w+) -- --exact ([\w:]+)")


class Mistake(Exception):
    """What is wrong with a patch."""


class Mutant:
    def __init__(self, path):
        self.name, self.patch = path.stem, path.read_text()
        head, _, diff = self.patch.partition("\ndiff ")
        fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        if not re.fullmatch(r".+\. \([\w/.-]+\.md\)", fields.get("Promise", "")):
            raise Mistake("its first line is no `Promise: A sentence. (DOCUMENT.md)`")
        self.document = fields["Promise"].rsplit("(", 1)[1].rstrip(")")
        test = TEST.fullmatch(fields.get("Test", ""))
        if not test:
            raise Mistake("its second line is no `Test: cargo test -p CRATE --lib -- --exact NAME`, or `--test it`")
        self.crate, self.target, self.test = test.groups()
        self.files = re.findall(r"^\+\+\+ b/(\S+)", diff, re.M)
        self.hunks = list(hunks(diff))

    def build(self):
        return (self.crate, *self.target.split())


def hunks(diff):
    """The file and the lines that it must hold, for each hunk."""
    file, lines = None, None
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            file = line[6:]
        elif line.startswith("@@"):
            if lines:
                yield file, lines
            lines = []
        elif line.startswith(("--- a/", "diff --git ", "index ")):
            if lines:
                yield file, lines
            lines = None
        elif lines is not None and line[:1] in " -":
            lines.append(line[1:])
    if lines:
        yield file, lines


def mutants(names):
    found, wrong = [], []
    for path in sorted(PATCHES.glob("*.patch")):
        if names and path.stem not in names:
            continue
        try:
            found.append(Mutant(path))
        except Mistake as mistake:
            wrong.append((path.stem, str(mistake)))
    for name in set(names) - {path.stem for path in PATCHES.glob("*.patch")}:
        wrong.append((name, "there is no such patch"))
    return found, wrong


# Without a repository around it, or git would leave out what lies in a folder that it ignores.
def apply(mutant, *options, tree):
    env = os.environ | {"GIT_CEILING_DIRECTORIES": str(tree.parent)}
    return subprocess.run(["git", "apply", *options], cwd=tree, env=env, input=mutant.patch, capture_output=True, text=True)


def examine(mutant):
    """What can be said without building."""
    if not (ROOT / mutant.document).is_file():
        raise Mistake(f"there is no {mutant.document}")
    if "thorough" in mutant.test.split("::"):
        raise Mistake("`make test` doesn't run its test")
    *folders, name = mutant.test.split("::")
    sources = (ROOT / test_folder(mutant)).rglob("*.rs")
    declared = re.compile(rf"\bfn {name}\b")
    if not any(declared.search(path.read_text()) for path in sources):
        raise Mistake(f"there is no test {mutant.test}")
    for file, lines in mutant.hunks:
        path = ROOT / file
        times = ("\n" + path.read_text()).count("\n" + "\n".join(lines) + "\n") if path.is_file() else 0
        if times != 1:
            raise Mistake(f"does not apply: {file} has its lines {times} times")
    applied = apply(mutant, "--check", tree=ROOT)
    if applied.returncode:
        raise Mistake(f"does not apply: {applied.stderr.strip()}")


def test_folder(mutant):
    folder = mutant.crate if (ROOT / mutant.crate / "Cargo.toml").is_file() else f"support/{mutant.crate}"
    return f"{folder}/src" if mutant.target == "--lib" else f"{folder}/tests"


def read_tree():
    """Every file and what it holds, changes that are not committed included."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    return {name: ((ROOT / name).read_bytes(), (ROOT / name).stat().st_mode) for name in names}


def write_tree(files):
    """Makes the copy so. What is written is younger than any build of it."""
    for path in [path for path in TREE.rglob("*") if path.is_file() and str(path.relative_to(TREE)) not in files]:
        path.unlink()
    for name, (content, mode) in files.items():
        path = TREE / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode)


def cargo(*arguments, seconds=None, **env):
    """Its exit status, `None` where it took too long, and what it said."""
    # Nobody looks at line numbers here: without them it builds faster.
    env = os.environ | {"CARGO_TARGET_DIR": str(WORK / "target"), "CARGO_PROFILE_DEV_DEBUG": "0"} | env
    # Into a file: what a test leaves running would hold a pipe open.
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        running = subprocess.Popen(["cargo", *arguments], cwd=TREE, env=env, stdout=said, stderr=said, start_new_session=True)
        try:
            status = running.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            status = None
        said.seek(0)
        return status, said.read()


# Asks PostgreSQL about each query, so that a patch may change one.
def build(crate, *target):
    return cargo("test", "-p", crate, *target, "--no-run", SQLX_OFFLINE="false")


def run(crate, *target, tests, seconds=None):
    return cargo("test", "-p", crate, *target, "--", "--exact", *tests, seconds=seconds, SQLX_OFFLINE="false")


def passes_unpatched(found):
    """Whether each named test passes while nothing is removed."""
    targets = {}
    for mutant in found:
        targets.setdefault(mutant.build(), set()).add(mutant.test)
    whole = True
    for target, tests in sorted(targets.items()):
        begun = time.monotonic()
        _, said = run(*target, tests=sorted(tests))
        failed = [test for test in sorted(tests) if f"test {test} ... ok" not in said]
        whole = whole and not failed
        print(f"{len(tests) - len(failed):4} tests of {' '.join(target)} pass while nothing is removed, {time.monotonic() - begun:.0f} s")
        if failed:
            print(said[-4000:], "\n  DO NOT PASS: " + ", ".join(failed))
    return whole


def result_of(mutant, files):
    """What becomes of its test without the rule, in a word or three, and what else there is to say."""
    try:
        applied = apply(mutant, tree=TREE)
        if applied.returncode:
            return "does not apply", applied.stderr
        status, said = build(*mutant.build())
        if status:
            return "does not build", said[-3000:]
        status, said = run(*mutant.build(), tests=[mutant.test], seconds=TEST_SECONDS)
        if status is None:
            return "takes too long", f"over {TEST_SECONDS} s\n"
        if "\nrunning 1 test\n" not in said:
            return "runs no test", said[-3000:]
        failed = f"test {mutant.test} ... FAILED" in said and "panicked at" in said
        return ("killed" if failed else "SURVIVED"), ""
    finally:
        # Also what a test has written.
        write_tree(files)


def check(found, wrong):
    for mutant in found:
        try:
            examine(mutant)
        except Mistake as mistake:
            wrong.append((mutant.name, str(mistake)))
    for name, why in wrong:
        print(f"{name}: {why}")
    print(f"{len(found)} rules are removed by patches that apply and name a test, {len(wrong)} by none.")
    return not wrong


def prove(found, wrong):
    # Beside one another those that touch the same crates and run the same tests: less is built.
    found.sort(key=lambda mutant: (mutant.files[0].split("/")[0], mutant.build(), mutant.name))
    part, parts = map(int, os.environ.get("SHARD", "1/1").split("/"))
    found = found[len(found) * (part - 1) // parts : len(found) * part // parts]
    files = read_tree()
    write_tree(files)
    if not passes_unpatched(found):
        return False
    results = Counter(["wrong"] * len(wrong))
    for name, why in wrong:
        print(f"{'wrong':14}      {name}: {why}")
    for mutant in found:
        begun = time.monotonic()
        result, said = result_of(mutant, files)
        results[result] += 1
        print(f"{result:14} {time.monotonic() - begun:3.0f}s {mutant.name}\n{said}", end="")
    print(", ".join(f"{count} {result}" for result, count in results.items()))
    return set(results) <= {"killed"}


def main():
    sys.stdout.reconfigure(line_buffering=True)
    names = [name for name in sys.argv[1:] if name != "--check"] or os.environ.get("MUTANTS", "").split()
    if "--check" not in sys.argv and "latchkey-scratch" not in os.environ.get("DATABASE_URL", ""):
        beside = ROOT / "support/scripts/scratch-postgres.sh"
        os.execv(beside, [str(beside), sys.executable, __file__, *sys.argv[1:]])
    found, wrong = mutants(names)
    sys.exit(not (check(found, wrong) if "--check" in sys.argv else prove(found, wrong)))


main()
