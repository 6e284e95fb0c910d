// Every page in every state, and every mail, as `cargo run -p app --example gallery` writes them: what must hold of all, at every width, in
// every colour and at every text size.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import AxeBuilder from "@axe-core/playwright";
import { type Page, expect, test } from "@playwright/test";

import { cutOff, structure, targets, unmarked } from "../support/look.ts";
import { fleet } from "../support/servers.ts";

const folder = process.env["GALLERY"] ?? join(import.meta.dirname, "../../target/gallery");
const files = existsSync(folder) ? readdirSync(folder) : [];
const states = files.filter((file) => file.endsWith(".html") && file !== "index.html").map((file) => file.replace(".html", ""));
const mails = states.filter((name) => name.startsWith("mail-"));
const pages = states.filter((name) => !mails.includes(name));
const origin = "http://gallery.test";

/** As the server would answer: with its policy, under which nothing but our own style is taken. A mail is shown by others. */
async function open(page: Page, name: string): Promise<void> {
  const answer = await page.request.get(`${fleet().main.url}/login`);
  const policy = answer.headers()["content-security-policy"];
  if (!policy) throw new Error("the server has no policy");
  const headers: Record<string, string> = name.startsWith("mail-") ? {} : { "content-security-policy": policy };
  await page.route(`${origin}/**`, async (route) => {
    const path = join(folder, new URL(route.request().url()).pathname);
    await route.fulfill(existsSync(path) ? { path, headers } : { status: 404 });
  });
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  await page.goto(`${origin}/${name}.html`);
}

async function axe(page: Page, name: string, only?: "color-contrast"): Promise<void> {
  // Legacy: in this page, without another one for what comes from frames. There are none.
  const builder = new AxeBuilder({ page }).setLegacyMode();
  // A mail is no page of its own: what shows it has the landmarks.
  if (name.startsWith("mail-")) builder.disableRules(["landmark-one-main", "region"]);
  const { violations } = await (only ? builder.withRules([only]) : builder).analyze();
  expect.soft(violations.map(({ id, nodes }) => ({ id, at: nodes.map((node) => node.html) }))).toEqual([]);
}

async function colours(page: Page, name: string): Promise<void> {
  await axe(page, name);
  // Only colours are others.
  await page.emulateMedia({ colorScheme: "dark" });
  await axe(page, name, "color-contrast");
}

async function fits(page: Page, width: number, percent = 100): Promise<void> {
  await test.step(`at ${width} px with ${percent}% of the text size`, async () => {
    await page.setViewportSize({ width, height: 800 });
    await page.evaluate((size) => document.documentElement.style.setProperty("font-size", size), `${percent}%`);
    expect.soft(await page.evaluate(() => document.documentElement.scrollWidth), "its width").toBeLessThanOrEqual(width);
    expect.soft(await page.evaluate(cutOff, percent > 100), "what is cut off").toEqual([]);
  });
}

test("the gallery is there", () => {
  expect(pages.length, `cargo run -p app --example gallery -- ${folder}`).toBeGreaterThan(180);
  expect(mails.length).toBeGreaterThan(35);
});

for (const name of pages) {
  test(`${name} is sound`, async ({ page }) => {
    await open(page, name);
    expect.soft(await page.evaluate(() => matchMedia("(pointer: coarse)").matches)).toBe(true);
    expect.soft(await page.evaluate(structure), "how it is built").toEqual([]);
    await colours(page, name);
    await page.emulateMedia({ colorScheme: "light", forcedColors: "active" });
    await axe(page, name, "color-contrast");
    expect.soft(await page.evaluate(unmarked), "what forced colours leave without an edge").toEqual([]);
    await page.emulateMedia({ forcedColors: "none" });
    for (const width of [320, 390, 768, 1280]) await fits(page, width);
    expect.soft(await page.evaluate(targets), "what is too small for a finger").toEqual([]);
    for (const width of [320, 1280]) await fits(page, width, 200);
  });
}

for (const name of mails) {
  test(`${name} is sound`, async ({ page }) => {
    await open(page, name);
    await colours(page, name);
    for (const width of [320, 600]) await fits(page, width);
  });
}
