// What Lighthouse says of the pages that anybody may find. How fast they are depends on the machine, and is no test (CONTRIBUTING.md).

import { chromium, expect, test } from "@playwright/test";
import lighthouse, { desktopConfig } from "lighthouse";

import { freePort, fleet } from "../support/servers.ts";

const categories = ["accessibility", "best-practices", "seo"];

for (const [name, config] of [["a phone", undefined], ["a computer", desktopConfig]] as const) {
  test(`Lighthouse finds nothing to better on ${name}`, async ({ launchOptions }) => {
    const port = await freePort();
    const browser = await chromium.launch({ ...launchOptions, args: [...(launchOptions.args ?? []), `--remote-debugging-port=${port}`] });
    try {
      for (const path of ["/login", "/help", "/help/no-email", "/help/admin-rollout"]) {
        const result = await lighthouse(`${fleet().main.url}${path}`, { port, logLevel: "error", onlyCategories: categories }, config);
        if (!result) throw new Error(`no result for ${path}`);
        const { lhr } = result;
        expect(lhr.runtimeError).toBeUndefined();
        const failed = Object.values(lhr.audits).filter(({ score }) => score !== null && score < 1);
        expect(failed.map(({ id, details }) => ({ id, details })), path).toEqual([]);
        expect(Object.fromEntries(categories.map((id) => [id, lhr.categories[id]?.score])), path).toEqual(
          Object.fromEntries(categories.map((id) => [id, 1])),
        );
      }
    } finally {
      await browser.close();
    }
  });
}
