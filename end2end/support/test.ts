// What every test gets: a server, a mailbox, an address of its own, browsers that are watched, and a look at the audit after it.

import { randomBytes } from "node:crypto";
import { join } from "node:path";

import { type BrowserContext, type BrowserContextOptions, type Page, test as base, expect } from "@playwright/test";

import { checkEvents } from "./audit.ts";
import type { Events } from "./events.ts";
import { Mailbox } from "./mail_server.ts";
import { note } from "./seen.ts";
import { type Server, type ServerName, fleet } from "./servers.ts";

export { expect };

export interface Options {
  /** Which of the servers the test talks to. */
  serverName: ServerName;
}

interface Fixtures {
  server: Server;
  mailbox: Mailbox;
  /** All that were made for this test. */
  addresses: Set<string>;
  /** Nobody else's. */
  address: string;
  anotherAddress: () => string;
  /** Declares, once, all events that the test causes: when it is over, the audit must hold these for its addresses, and no others. */
  expectEvents: (...events: Events[]) => void;
  /** Another browser: no cookie of the first. */
  otherBrowser: (options?: BrowserContextOptions) => Promise<Page>;
  /** The page's title. How it looks, and what a screen reader says of it, is the gallery's: it has each page in each state. */
  checkPage: (page: Page, name: string) => Promise<void>;
}

/** Where to, for whoever wants to look: every page is drawn in full, twice. */
const screenshots = process.env["SCREENSHOTS"];

/** A browser under watch: what its pages complain of fails the test, and its cookies are written down. */
class Watched {
  private readonly complaints: string[] = [];
  private readonly cookies: Promise<void>[] = [];

  constructor(context: BrowserContext) {
    context.on("console", (message) => {
      if (/Content Security Policy|Refused to/.test(message.text())) this.complaints.push(message.text());
    });
    context.on("weberror", (error) => this.complaints.push(String(error.error())));
    context.on("response", (response) => {
      const read = response.headersArray().then((headers) => {
        for (const { name, value } of headers) {
          const cookie = name.toLowerCase() === "set-cookie" ? /^([\w-]+)=([^;]{16,})/.exec(value) : null;
          if (cookie?.[1] && cookie[2]) note({ kind: "cookie", what: cookie[1], value: cookie[2] });
        }
      });
      // A browser that is closed meanwhile has no headers to give any more.
      this.cookies.push(read.catch(() => undefined));
    });
  }

  async done(): Promise<void> {
    await Promise.all(this.cookies);
    expect(this.complaints, "what the browser complained of").toEqual([]);
  }
}

async function draw(page: Page, path: string): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    // Without motion: colours that are still on their way would be drawn.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.screenshot({ path: `${path}-${colorScheme}.png`, fullPage: true });
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}

export const test = base.extend<Options & Fixtures>({
  serverName: ["main", { option: true }],
  server: async ({ serverName }, use) => use(fleet()[serverName]),
  baseURL: async ({ server }, use) => use(server.url),
  mailbox: async ({}, use) => use(new Mailbox()),
  addresses: async ({}, use) => use(new Set()),
  address: async ({ anotherAddress }, use) => use(anotherAddress()),
  anotherAddress: async ({ addresses }, use) => {
    await use(() => {
      const address = `mara.${randomBytes(6).toString("hex")}@example.org`;
      note({ kind: "address", what: "address", value: address });
      addresses.add(address);
      return address;
    });
  },
  // Begun before the browsers, and so ended after them: nothing more can happen then but mail.
  expectEvents: [
    async ({ server, addresses }, use, info) => {
      let declared: Events | undefined;
      await use((...events) => {
        if (declared) throw new Error("a test declares its events once");
        declared = events;
      });
      // A test that failed has stopped halfway, and says itself why.
      if (info.errors.length === 0) await checkEvents(server, addresses, declared ?? []);
    },
    { auto: true },
  ],
  context: async ({ context }, use) => {
    const watched = new Watched(context);
    await use(context);
    await watched.done();
  },
  otherBrowser: async ({ browser }, use) => {
    const open: { context: BrowserContext; watched: Watched }[] = [];
    await use(async (options = {}) => {
      const context = await browser.newContext(options);
      open.push({ context, watched: new Watched(context) });
      return context.newPage();
    });
    for (const { context, watched } of open) {
      await watched.done();
      await context.close();
    }
  },
  checkPage: async ({}, use, info) => {
    await use(async (page, name) => {
      await test.step(`the page "${name}" is called what it says`, async () => {
        const heading = await page.getByRole("heading", { level: 1 }).innerText();
        const title = (await page.title()).replace(/^Error: /, "");
        const site = (await page.locator("header.admin").count()) > 0 ? "Latchkey admin" : "Latchkey";
        expect(title).toBe(`${heading} – ${site}`);
        if (screenshots) await draw(page, join(screenshots, `${info.project.name}-${name}`));
      });
    });
  },
});
