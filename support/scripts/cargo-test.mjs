#!/usr/bin/env node
// `cargo test` with these arguments; appends how many seconds each test took to the file that TEST_TIMES names. libtest doesn't tell, but
// it begins tests in the order of their names, as many at once as there are processors: each begins when an earlier one has made room.

import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { createInterface } from "node:readline";

const atOnce = Number(process.env.RUST_TEST_THREADS) || availableParallelism();
const file = process.env.TEST_TIMES;
let begun = 0;
let ended = [];

function writeDown() {
  const names = ended.map(({ name }) => name).sort();
  const lines = ended.map(({ name, at }) => {
    const room = names.indexOf(name) - atOnce;
    const from = room < 0 ? begun : ended[room].at;
    return `${((at - from) / 1000).toFixed(1)}\t${name}\n`;
  });
  appendFileSync(file, lines.join(""));
}

const cargo = spawn("cargo", ["test", ...process.argv.slice(2)], { stdio: ["inherit", "pipe", "inherit"] });
createInterface({ input: cargo.stdout }).on("line", (line) => {
  process.stdout.write(`${line}\n`);
  const name = /^test (.+?)(?: - should panic)? \.\.\. /.exec(line)?.[1];
  if (/^running \d+ tests?$/.test(line)) [begun, ended] = [Date.now(), []];
  else if (name) ended.push({ name, at: Date.now() });
  else if (file && line.startsWith("test result: ")) writeDown();
});
cargo.on("close", (code) => {
  process.exitCode = code ?? 1;
});
