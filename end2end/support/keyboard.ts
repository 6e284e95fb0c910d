// Somebody without a mouse: Tab, Shift+Tab, Enter and Space, and eyes that look for where they are.

import type { Locator, Page } from "@playwright/test";

import { expect } from "./test.ts";

/** More stops than any page has. Whoever hasn't arrived by then goes in circles, or is caught. */
const STOPS = 80;

/** What is wrong with where the focus is: nothing may be, or nobody sees where they are. */
function unseen(): string[] {
  const at = document.activeElement;
  if (!at || at === document.body) return [];
  const box = at.getBoundingClientRect();
  const style = getComputedStyle(at);
  const problems = [];
  if (style.outlineStyle === "none" || Number.parseFloat(style.outlineWidth) < 2) problems.push("no ring around it");
  if (box.width < 1 || box.height < 1) problems.push("nothing to be seen of it");
  if (box.bottom < 0 || box.top > innerHeight || box.right < 0 || box.left > innerWidth) problems.push("outside of the window");
  return problems.map((problem) => `${problem}: ${at.outerHTML}`);
}

export class Keyboard {
  constructor(private readonly page: Page) {}

  /** One stop on, or back. Each lies behind the one before, as on the page, until it begins anew. */
  async tab(back = false): Promise<void> {
    const { page } = this;
    const before = await page.evaluateHandle(() => document.activeElement);
    await page.keyboard.press(back ? "Shift+Tab" : "Tab");
    expect(await page.evaluate(unseen)).toEqual([]);
    const inOrder = await page.evaluate(
      ({ before, back }) => {
        const at = document.activeElement;
        if (!before || !at || before === document.body || at === document.body || before === at) return true;
        const expected = back ? Node.DOCUMENT_POSITION_PRECEDING : Node.DOCUMENT_POSITION_FOLLOWING;
        return (before.compareDocumentPosition(at) & expected) > 0;
      },
      { before, back },
    );
    expect(inOrder, "the focus goes through the page in its order").toBe(true);
  }

  async to(target: Locator, back = false): Promise<void> {
    const isThere = () => target.evaluate((element) => element === document.activeElement);
    for (let n = 0; n < STOPS; n++) {
      if (await isThere()) return;
      await this.tab(back);
    }
    throw new Error(`${String(target)} is not reached with Tab`);
  }

  async type(field: Locator, text: string): Promise<void> {
    await this.to(field);
    await this.page.keyboard.type(text);
    await expect(field).toHaveValue(text);
  }

  /** By Enter or Space, and waits for the page that comes of it. */
  async go(key: "Enter" | "Space" = "Enter"): Promise<void> {
    const arrived = this.page.waitForEvent("framenavigated");
    await this.page.keyboard.press(key);
    await arrived;
    await this.page.waitForLoadState();
  }

  async press(target: Locator, key: "Enter" | "Space" = "Enter"): Promise<void> {
    await this.to(target);
    await this.go(key);
  }
}
