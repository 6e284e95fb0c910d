// Every page in every state, and every mail, as `app/examples/gallery.rs` writes them: what must hold of all, at every width, in
// every colour and at every text size, and what a screen reader says of each. That is the tree of roles and names, as it is kept in
// `end2end/aria_snapshots`: where a page says something else, this fails, and `make pictures` writes it down anew.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import type axe from "axe-core";
import { type CDPSession, type Page, expect, test } from "@playwright/test";

import { ariaFaults, cutOff, structure, targets, unmarked } from "../support/page_checks.ts";
import { binary, fleet } from "../support/servers.ts";

/** Where the gallery's own test leaves it. */
const folder = join(binary, "../../gallery");
const index = join(folder, "index.html");
const states = existsSync(index) ? [...readFileSync(index, "utf8").matchAll(/<a href=(.*?)\.html>/g)].map(([, name]) => name ?? "") : [];
const isMail = (name: string) => name.startsWith("mail-");
const origin = "http://gallery.test";
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** As the server would answer: with its policy, under which nothing but our own style is taken. A mail is shown by others. */
async function serve(page: Page): Promise<string[]> {
  const answer = await page.request.get(`${fleet().main.url}/login`);
  const policy = answer.headers()["content-security-policy"];
  if (!policy) throw new Error("the server has no policy");
  await page.route(`${origin}/**`, async (route) => {
    const { pathname } = new URL(route.request().url());
    const path = join(folder, pathname);
    const headers: Record<string, string> = isMail(pathname.slice(1)) ? {} : { "content-security-policy": policy };
    await route.fulfill(existsSync(path) ? { path, headers } : { status: 404 });
  });
  await page.addInitScript({ path: AXE });
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return complaints;
}

/** What axe finds. Where only the colours have changed, only these are asked about. */
async function violations(page: Page, name: string, only?: "color-contrast"): Promise<unknown[]> {
  const options: axe.RunOptions = {
    resultTypes: ["violations"],
    ...(only ? { runOnly: [only] } : {}),
    // A mail is no page of its own: what shows it has the landmarks.
    ...(isMail(name) ? { rules: { "landmark-one-main": { enabled: false }, region: { enabled: false } } } : {}),
  };
  return page.evaluate(async (options) => {
    const { violations } = await (window as unknown as { axe: typeof axe }).axe.run(document, options);
    return violations.map(({ id, nodes }) => ({ id, at: nodes.map((node) => node.html) }));
  }, options);
}

/** Nothing wider than the window, and nothing cut off, at each of these text sizes. */
async function fits(page: Page, name: string, width: number, ...sizes: number[]): Promise<void> {
  await page.setViewportSize({ width, height: 800 });
  for (const percent of sizes) {
    const at = `${name} at ${width} px with ${percent}% of the text size`;
    await page.evaluate((size) => document.documentElement.style.setProperty("font-size", size), `${percent}%`);
    expect.soft(await page.evaluate(() => document.documentElement.scrollWidth), `${at}: its width`).toBeLessThanOrEqual(width);
    expect.soft(await page.evaluate(cutOff, percent > 100), `${at}: what is cut off`).toEqual([]);
  }
  await page.evaluate(() => document.documentElement.style.removeProperty("font-size"));
}

/** On a computer: a phone is told other things of the QR code. */
async function saysWhatItIsKnownToSay(page: Page, name: string, chromium: CDPSession): Promise<void> {
  await page.setViewportSize({ width: 1280, height: 800 });
  await chromium.send("Emulation.setTouchEmulationEnabled", { enabled: false });
  const tree = `${await page.locator("body").ariaSnapshot()}\n`;
  const file = `${name}.yml`;
  expect.soft(tree, `end2end/aria_snapshots/${file} is what the page says`).toMatchSnapshot(["end2end", "aria_snapshots", file]);
  // A mail is a part of somebody else's page. The inbox is for who develops, and lists mails as they are called.
  if (!isMail(name) && name !== "inbox") expect.soft(ariaFaults(tree), `${name}: what is said of it`).toEqual([]);
  await chromium.send("Emulation.setTouchEmulationEnabled", { enabled: true });
}

async function isSound(page: Page, name: string, chromium: CDPSession): Promise<void> {
  await page.setViewportSize({ width: 390, height: 800 });
  await page.emulateMedia({ colorScheme: "light", forcedColors: "none", reducedMotion: "reduce" });
  await page.goto(`${origin}/${name}.html`);
  expect.soft(await violations(page, name), `${name}: axe`).toEqual([]);
  if (!isMail(name)) {
    expect.soft(await page.evaluate(() => matchMedia("(pointer: coarse)").matches)).toBe(true);
    expect.soft(await page.evaluate(structure), `${name}: how it is built`).toEqual([]);
    await page.emulateMedia({ forcedColors: "active" });
    expect.soft(await violations(page, name, "color-contrast"), `${name}: axe in forced colours`).toEqual([]);
    expect.soft(await page.evaluate(unmarked), `${name}: what forced colours leave without an edge`).toEqual([]);
    await page.emulateMedia({ forcedColors: "none" });
  }
  await page.emulateMedia({ colorScheme: "dark" });
  expect.soft(await violations(page, name, "color-contrast"), `${name}: axe in dark`).toEqual([]);
  await page.emulateMedia({ colorScheme: "light" });

  if (isMail(name)) {
    for (const width of [320, 600]) await fits(page, name, width, 100);
  } else {
    for (const width of [390, 768]) await fits(page, name, width, 100);
    for (const width of [320, 1280]) await fits(page, name, width, 100, 200);
    expect.soft(await page.evaluate(targets), `${name}: what is too small for a finger`).toEqual([]);
  }
  await saysWhatItIsKnownToSay(page, name, chromium);
}

test("the gallery is there, each page's words are kept, and those of no page that is gone", () => {
  const mails = states.filter(isMail);
  expect(states.length - mails.length, `cargo test --workspace --example gallery writes ${folder}`).toBeGreaterThan(180);
  expect(mails.length).toBeGreaterThan(35);
  const kept = readdirSync(join(import.meta.dirname, "../aria_snapshots")).map((file) => file.replace(/\.yml$/, ""));
  expect(kept.sort()).toEqual([...states].sort());
});

for (let first = 0; first < states.length; first += 10) {
  const names = states.slice(first, first + 10);
  test(`sound: ${names.join(", ")}`, async ({ page }) => {
    const complaints = await serve(page);
    const chromium = await page.context().newCDPSession(page);
    for (const name of names) {
      await test.step(name, () => isSound(page, name, chromium));
      expect.soft(complaints.splice(0), `${name}: what the browser complained of`).toEqual([]);
    }
  });
}
