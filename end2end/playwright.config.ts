import { existsSync } from "node:fs";
import { join } from "node:path";

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
const installed = "/usr/bin/chromium-headless-shell";
const executablePath = process.env["CHROMIUM_BIN"] ?? (existsSync(installed) ? installed : undefined);

// As small as phones are, and sharp.
const pictured = {
  viewport: { width: 360, height: 740 },
  deviceScaleFactor: 2,
  hasTouch: true,
  isMobile: true,
  userAgent:
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
  extraHTTPHeaders: { "X-Forwarded-For": "203.0.113.24" },
  javaScriptEnabled: false,
};

const launch = {
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
};
// Pictures are compared, so they need the same fonts everywhere.
const withFonts = {
  ...launch,
  args: [...launch.args, "--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb"],
  env: { ...process.env, FONTCONFIG_FILE: join(import.meta.dirname, "support/fonts.conf") } as Record<string, string>,
};

const afterwards = ["events.spec.ts", "secrets.spec.ts"];
/** Each has a project of its own. */
const others = ["gallery.spec.ts", "lighthouse.spec.ts", "pictures.spec.ts"];
const journeys = { testIgnore: ["ready.spec.ts", ...afterwards, ...others], dependencies: ["ready"] };

export default defineConfig<Options>({
  testDir: "tests",
  outputDir: "test-results",
  globalSetup: "./support/global_setup.ts",
  fullyParallel: true,
  workers: 2,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: Boolean(process.env["CI"]),
  reporter: [["list"], ["./support/times.ts"]],
  // By its whole path: pictures lie where the binary takes them from.
  snapshotPathTemplate: "../{arg}{ext}",
  use: {
    // `--trace on` for a closer look: recording doubles the time of a run.
    trace: "off",
    launchOptions: launch,
  },
  projects: [
    // The teardown of a project that all others depend on runs last, and runs even where they failed.
    { name: "ready", testMatch: "ready.spec.ts", teardown: "afterwards" },
    { name: "afterwards", testMatch: afterwards },
    { name: "pictures", testMatch: "pictures.spec.ts", dependencies: ["ready"], use: { ...pictured, launchOptions: withFonts } },
    { name: "nojs-desktop", ...journeys, use: { ...desktop, javaScriptEnabled: false } },
    { name: "gallery", testMatch: "gallery.spec.ts", dependencies: ["ready"], use: { ...phone, userAgent: undefined } },
    // `make test` leaves these out by their name: journeys where a small screen or JavaScript could make another one of them, and Lighthouse.
    { name: "thorough-phone", ...journeys, grep: /@phone/, use: { ...phone, javaScriptEnabled: false } },
    { name: "thorough-js", ...journeys, grep: /@js/, use: desktop },
    { name: "thorough-lighthouse", testMatch: "lighthouse.spec.ts", dependencies: ["ready"] },
  ],
});
