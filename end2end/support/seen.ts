// Every secret and every address of the run, written down as it is seen, for the last tests to look for where it must not be.

import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export interface Seen {
  /** How it is looked for. */
  kind: "token" | "code" | "cookie" | "address" | "secret";
  /** Which secret it is: a cookie by its name, a mail's token by its page's path. */
  what: string;
  value: string;
}

const FILE = "END2END_SEEN";

function file(): string {
  const path = process.env[FILE];
  if (!path) throw new Error("the global set-up has not run");
  return path;
}

/** One file for all workers. What it returns removes it. */
export function startNotes(): () => void {
  const path = join(mkdtempSync(join(tmpdir(), "latchkey-seen-")), "seen.jsonl");
  writeFileSync(path, "", { mode: 0o600 });
  process.env[FILE] = path;
  return () => rmSync(dirname(path), { recursive: true, force: true });
}

/** One short append is one write, so workers can't tear each other's lines. */
export function note(seen: Seen): void {
  appendFileSync(file(), `${JSON.stringify(seen)}\n`);
}

export function noted(): Seen[] {
  const lines = new Set(readFileSync(file(), "utf8").split("\n").filter(Boolean));
  return [...lines].map((line) => JSON.parse(line) as Seen);
}

const WHOLE = "END2END_WHOLE";

/**
 * Whether every journey runs, or those that somebody has picked: what `make test` leaves out is run once more, in other browsers. Called
 * where the command's arguments are known.
 */
export function tellWhetherWhole(): void {
  const picked = process.argv.slice(process.argv.indexOf("test") + 1).join(" ");
  process.env[WHOLE] = String(["", "--grep-invert thorough"].includes(picked));
}

export function isWhole(): boolean {
  return process.env[WHOLE] === "true";
}
