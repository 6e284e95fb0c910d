import { existsSync } from "node:fs";

import { defineConfig } from "@playwright/test";

import type { Options } from "./support/test.ts";

const desktop = { viewport: { width: 1280, height: 800 } };
const phone = {
  viewport: { width: 390, height: 844 },
  hasTouch: true,
  isMobile: true,
  userAgent:
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
};

// Debian's Chromium where there is one; elsewhere the one that `npx playwright install chromium` brought.
const installed = "/usr/bin/chromium";
const executablePath = process.env["CHROMIUM_BIN"] ?? (existsSync(installed) ? installed : undefined);

const afterwards = ["events.spec.ts", "secrets.spec.ts"];
const journeys = { testIgnore: ["ready.spec.ts", ...afterwards], dependencies: ["ready"] };

export default defineConfig<Options>({
  testDir: "tests",
  outputDir: "test-results",
  globalSetup: "./support/global_setup.ts",
  fullyParallel: true,
  workers: 2,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: Boolean(process.env["CI"]),
  reporter: [["list"]],
  use: {
    // `--trace on` for a closer look: recording doubles the time of a run.
    trace: "off",
    launchOptions: {
      ...(executablePath ? { executablePath } : {}),
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
  projects: [
    // The teardown of a project that all others depend on runs last, and runs even where they failed.
    { name: "ready", testMatch: "ready.spec.ts", teardown: "afterwards" },
    { name: "afterwards", testMatch: afterwards },
    { name: "nojs-desktop", ...journeys, use: { ...desktop, javaScriptEnabled: false } },
    { name: "nojs-phone", ...journeys, use: { ...phone, javaScriptEnabled: false } },
    { name: "js-desktop", ...journeys, use: desktop },
    { name: "js-phone", ...journeys, use: phone },
  ],
});
