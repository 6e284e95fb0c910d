// Appends how many seconds each test took to the file that TEST_TIMES names.

import { appendFileSync } from "node:fs";

import type { Reporter, TestCase, TestResult } from "@playwright/test/reporter";

const file = process.env["TEST_TIMES"];

export default class Times implements Reporter {
  onTestEnd(test: TestCase, result: TestResult): void {
    const name = test.titlePath().filter(Boolean).join(" › ").slice(0, 120);
    if (file) appendFileSync(file, `${(result.duration / 1000).toFixed(1)}\t${name}\n`);
  }

  printsToStdio(): boolean {
    return false;
  }
}
