#!/usr/bin/env python3
"""How many lines of Rust the product has, without comments, blank lines and tests.

`lines.py` prints a row for each folder of the first level, `lines.py --files` a row for each file.
"""

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What `latchkey` is built from, but for the private PostgreSQL, which never was counted.
PRODUCT = ["auth/src", "app/src", "server/src", "support/smoke/src", "support/http_client/src", "support/smtp_sink/src"]

# All that may hide a brace or a slash, else one character or a run without either.
TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*)
      | (?P<block>/\*)
      | (?P<text>\b(?:br|cr|r)(?P<hashes>\#*)".*?"(?P=hashes) | "(?:\\.|[^"\\])*" | '(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\])')
      | (?P<code>[^/"'brc]+|.)""",
    re.X | re.S,
)
BLOCK = re.compile(r"/\*|\*/")
TEST = re.compile(r"#\[cfg\(test\)\]")
MODULE = re.compile(r"\bmod (\w+);\s*$")


def without_comments(source):
    """Line by line what it was, but for comments, and for what stands inside texts."""
    kept, at = [], 0
    while at < len(source):
        token = TOKEN.match(source, at)
        at = token.end()
        if token["block"]:
            depth = 1
            while depth:
                mark = BLOCK.search(source, at)
                depth += 1 if mark[0] == "/*" else -1
                at = mark.end()
            kept.append("\n" * source.count("\n", token.start(), at))
        elif token["text"]:
            kept.append('"_"' + '\n"_"' * token["text"].count("\n"))
        elif token["code"]:
            kept.append(token["code"])
    return "".join(kept)


def end_of_item(code, at):
    """Where the item ends that begins at `at`: behind its semicolon or its last brace."""
    depth = 0
    for mark in re.compile(r"[\[({})\];]").finditer(code, at):
        depth += {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1, ";": 0}[mark[0]]
        if depth == 0 and mark[0] in ";}":
            # A list of imports goes on to its semicolon.
            rest = re.compile(r"\s*;").match(code, mark.end())
            return rest.end() if rest and mark[0] == "}" else mark.end()
    return len(code)


def read(path):
    """The file's lines of the product, and the modules in files of their own that are tests."""
    code = without_comments(path.read_text())
    modules = []
    while test := TEST.search(code):
        end = end_of_item(code, test.end())
        module = MODULE.search(code[test.end() : end])
        if module:
            modules.append(module[1])
        code = code[: test.start()] + code[end:]
    return sum(1 for line in code.splitlines() if line.strip()), modules


def count():
    lines, tests = {}, set()
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.rs")):
            lines[path], modules = read(path)
            below = path.parent if path.stem in ("mod", "lib", "main") else path.with_suffix("")
            tests.update(below / module for module in modules)
    return {
        path.relative_to(ROOT): n
        for path, n in lines.items()
        if path.name not in ("test.rs", "tests.rs") and "tests" not in path.parts and not any(path.with_suffix("").is_relative_to(test) for test in tests)
    }


def main():
    depth = 9 if "--files" in sys.argv else None
    rows, crates = Counter(), Counter()
    for path, n in count().items():
        # `auth/src/audit/…` is a row, and so is `auth/src/clock.rs`.
        crate = path.parts.index("src")
        rows["/".join(path.parts[: depth or crate + 2])] += n
        crates["/".join(path.parts[:crate])] += n
    for name, n in rows.items():
        print(f"{n:7,}  {name}")
    print()
    for name, n in crates.items():
        print(f"{n:7,}  {name}")
    print(f"{crates.total():7,}  in all")


main()
