// Pictures of the real screens: what help shows, compared with what is there.

import { readdirSync } from "node:fs";
import { join } from "node:path";

import type { Locator, Page, PageScreenshotOptions } from "@playwright/test";

import { expect } from "./test.ts";

const root = join(import.meta.dirname, "../..");

/** Where the binary takes those of help from, and where those of the README lie. */
const HELP = "app/help/pictures";
const README = "docs/pictures";

const DESK = { width: 1280, height: 800 };

/**
 * Makes of the page what it would be on a day in November: what changes from one run to the next is replaced, to the same length. Each
 * key and code becomes one that is an example, and the QR code one that no app reads, or somebody would set up their app with a picture.
 */
function holdStill(): void {
  const replaced: [RegExp, string][] = [
    [/\b\d\d:\d\d:\d\d\b/g, "14:29:40"],
    [/(?<!:)\b\d\d:\d\d\b(?!:)/g, "14:29"],
    [/\b\d{1,2} (January|February|March|April|May|June|July|August|September|October|November|December)\b/g, "24 November"],
    [/\b20\d\d\b/g, "2026"],
    [/\b\d+ minutes? ago/g, "less than a minute ago"],
    [/\bYesterday\b/g, "Today"],
    [/\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, "01995c6a-7b1e-7f3c-9d0a-2f4b6c8e1a3d"],
  ];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const before = text.parentNode?.previousSibling?.nodeValue;
    let still = replaced.reduce((text, [changing, example]) => text.replace(changing, example), text.nodeValue ?? "");
    if (before?.endsWith("until ")) still = still.replace("November", "December");
    if (still !== text.nodeValue) text.nodeValue = still;
  }

  const key = document.querySelector(".copy");
  if (key) key.textContent = "ABCD EFGH IJKL MNOP QRST UVWX YZ23 4567";
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  document.querySelectorAll("ol.codes li").forEach((code, n) => {
    const at = (i: number) => letters[(i * 17 + n * 7 + i * i * 5) % letters.length];
    code.textContent = [0, 4, 8].map((from) => [0, 1, 2, 3].map((i) => at(from + i)).join("")).join("-");
  });

  // The corners of a code, and between them dots that say nothing.
  const svg = document.querySelector<SVGSVGElement>(".qr svg");
  if (svg) {
    const side = 45;
    const corner = (x: number, y: number) => `M${x} ${y}h7v7h-7zM${x + 1} ${y + 1}v5h5v-5zM${x + 2} ${y + 2}h3v3h-3z`;
    let [dots, random] = [corner(4, 4) + corner(side - 4, 4) + corner(4, side - 4), 7];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        random = (random * 1_103_515_245 + 12_345) % 2_147_483_648;
        const inCorner = (x < 8 && (y < 8 || y > side - 9)) || (x > side - 9 && y < 8);
        if (!inCorner && random % 7 < 3) dots += `M${x + 4} ${y + 4}h1v1h-1z`;
      }
    }
    svg.lastElementChild?.setAttribute("d", dots);
    svg.setAttribute("viewBox", `0 0 ${side + 8} ${side + 8}`);
  }
}

/** Takes and compares pictures, and remembers which. */
export class Pictures {
  private readonly taken = new Set<string>();

  constructor(private readonly page: Page) {}

  /** What a page is about, as far as `to`: without what all pages have, and without the link to the article that shows the picture. */
  async forHelp(name: string, to?: Locator): Promise<void> {
    const { page } = this;
    const box = async (part: Locator) => {
      const box = await part.boundingBox();
      if (!box) throw new Error(`nothing to take a picture of: ${name}`);
      return { top: box.y, bottom: box.y + box.height };
    };
    await page.evaluate(holdStill);
    const before = page.viewportSize() ?? DESK;
    // Not `fullPage`: while it draws, the browser is one with a mouse, and the page says so.
    await page.setViewportSize({ ...before, height: await page.evaluate(() => document.documentElement.scrollHeight) });
    const main = page.getByRole("main");
    const [first, last] = [main.locator("> :first-child"), main.locator("> :nth-last-child(1 of :not(.help-link))")];
    const margin = 20;
    const isFlow = (await page.locator(".flow").count()) > 0;
    const top = isFlow ? 0 : Math.floor((await box(first)).top - margin);
    const bottom = Math.ceil((await box(to ?? last)).bottom + margin);
    await this.take(HELP, name, { clip: { x: 0, y: top, width: before.width, height: bottom - top } });
    await page.setViewportSize(before);
  }

  /** What is seen at first, on a desk. */
  async forReadme(name: string): Promise<void> {
    const { page } = this;
    const before = page.viewportSize() ?? DESK;
    await page.setViewportSize(DESK);
    await page.evaluate(holdStill);
    await this.take(README, name, {});
    await page.setViewportSize(before);
  }

  private async take(folder: string, name: string, what: PageScreenshotOptions): Promise<void> {
    const { page } = this;
    for (const scheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      const picture = await page.screenshot({ ...what, animations: "disabled" });
      const file = `${name}-${scheme}.png`;
      this.taken.add(`${folder}/${file}`);
      // So much that other machines' rounding doesn't matter, and less than a word.
      expect.soft(picture, `${folder}/${file} is what the page looks like`).toMatchSnapshot([...folder.split("/"), file], {
        threshold: 0.2,
        maxDiffPixels: 60,
      });
    }
    await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  }

  /** A picture that nobody takes any more would be there for good. */
  expectNoOthers(): void {
    const there = [HELP, README].flatMap((folder) => readdirSync(join(root, folder)).map((file) => `${folder}/${file}`));
    expect(there.sort()).toEqual([...this.taken].sort());
  }
}
