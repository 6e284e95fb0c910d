// What a screen reader says of every page in every state, and of every mail: the tree of roles and names, as it is kept in
// `end2end/spoken`. Where a page says something else, this fails; `make pictures` writes it down anew.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import type { Page } from "@playwright/test";

import { binary } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

const SPOKEN = join(import.meta.dirname, "../spoken");

/** Draws all of them (`app/examples/gallery.rs`), and says what they are called. */
function gallery(folder: string): string[] {
  execFileSync(join(dirname(binary), "examples/gallery"), [folder]);
  return [...readFileSync(join(folder, "index.html"), "utf8").matchAll(/<a href=(.*?)\.html>/g)].map(([, name]) => name ?? "");
}

/** What no tree may have, whatever else is in it. */
function faults(tree: string): string[] {
  const lines = tree.split("\n").map((line) => line.trim());
  const nameless = lines.filter((line) => /^- (button|link|textbox|searchbox|checkbox|radio|combobox|img|navigation|table|group|region)( \[.*\])?:?$/.test(line));
  const levels = lines.flatMap((line) => /^- heading .*\[level=(\d)\]/.exec(line)?.[1] ?? []).map(Number);
  const headings = [
    ...(levels.filter((level) => level === 1).length === 1 ? [] : ["not one first heading"]),
    ...levels.flatMap((level, n) => (n > 0 && level > (levels[n - 1] ?? 0) + 1 ? [`a heading of level ${level} below one of ${levels[n - 1]}`] : [])),
  ];
  const buttons = lines.flatMap((line) => /^- button "(.*?)"/.exec(line)?.[1] ?? []);
  const twice = buttons.filter((name, n) => buttons.indexOf(name) < n).map((name) => `two buttons are called ${name}`);
  const inMain = lines.slice(lines.indexOf("- main:"));
  const links = new Map<string, string>();
  const ambiguous = inMain.flatMap((line, n) => {
    const name = /^- '?link "(.*?)"/.exec(line)?.[1];
    const leads = /^- \/url: (.*)/.exec(inMain[n + 1] ?? "")?.[1];
    if (name === undefined || leads === undefined) return [];
    const before = links.get(name) ?? leads;
    links.set(name, leads);
    return before === leads ? [] : [`links called ${name} lead to ${before} and to ${leads}`];
  });
  return [...nameless, ...headings, ...twice, ...ambiguous];
}

/** Where things are said to be, for whoever goes from one to the next. */
async function landmarks(page: Page): Promise<string[]> {
  const problems = [];
  if ((await page.getByRole("main").count()) !== 1) problems.push("not one main part");
  const outside = await page.evaluate(() =>
    [...document.body.children].filter((part) => !part.matches(".skip, header, main, footer, div")).map((part) => part.outerHTML),
  );
  return [...problems, ...outside];
}

test("every page says what it is known to say", async ({ page }, info) => {
  test.setTimeout(600_000);
  const folder = info.outputPath("gallery");
  const names = gallery(folder);
  expect(names.length).toBeGreaterThan(150);
  for (const name of names) {
    await page.goto(pathToFileURL(join(folder, `${name}.html`)).href);
    const tree = `${await page.locator("body").ariaSnapshot()}\n`;
    expect.soft(tree, `end2end/spoken/${name}.yml is what the page says`).toMatchSnapshot(["end2end", "spoken", `${name}.yml`]);
    // A mail is a part of somebody else's page. The inbox is for who develops, and lists mails as they are called.
    if (name.startsWith("mail-") || name === "inbox") continue;
    expect.soft([...faults(tree), ...(await landmarks(page))], name).toEqual([]);
  }
  const kept = readdirSync(SPOKEN).map((file) => file.replace(/\.yml$/, ""));
  expect(kept.sort(), "each page is kept, and no page that is gone").toEqual(names.sort());
});
