// Administrators see how signing in goes.

import type { Page } from "@playwright/test";

import { administratorSignedIn, signInAsAdministrator } from "../support/administrator.ts";
import { signedUpByCode } from "../support/events.ts";
import { expectPage, link, press, signIn } from "../support/journey.ts";
import { type Server, sql } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

const steps = (page: Page) => page.getByRole("list").filter({ hasText: "Link or code used" }).getByRole("listitem");

/** What the page says of a step between asking and being signed in. */
async function shown(page: Page, step: string): Promise<number> {
  const text = await steps(page).filter({ hasText: step }).locator(".number").first().innerText();
  return Number(text.replaceAll(",", ""));
}

/** The same, counted by hand. */
async function finished(server: Server): Promise<number> {
  const since = "date_trunc('hour', now()) - interval '23 hours'";
  const whole = "event_type = 'session.created' and details ->> 'level' <> 'first_factor'";
  return Number(await sql(server, `select count(*) from auth_audit where created_at >= ${since} and ${whole}`));
}

test("an administrator sees the overview, and a sign-in counted in it", async ({
  page,
  server,
  mailbox,
  address,
  anotherAddress,
  otherBrowser,
  checkPage,
  expectEvents,
}) => {
  // What happens is counted twice a minute, and accounts once.
  test.setTimeout(240_000);
  expectEvents(administratorSignedIn, signedUpByCode);
  await signInAsAdministrator(page, server, mailbox, address);

  await page.goto("/admin");
  await expectPage(page, "Overview", "/admin");
  const navigation = page.getByRole("navigation", { name: "Admin" });
  await expect(navigation.getByRole("link", { name: "Overview" })).toHaveAttribute("aria-current", "page");

  await signIn(await otherBrowser(), mailbox, anotherAddress());
  const atLeast = await finished(server);
  await expect(async () => {
    await page.goto("/admin");
    expect(await shown(page, "Signed in")).toBeGreaterThanOrEqual(atLeast);
    expect(await page.getByRole("listitem").filter({ hasText: "Accounts with two-factor" }).innerText()).toContain("%");
  }).toPass({ intervals: [2_000], timeout: 120_000 });
  expect(await shown(page, "Signed in")).toBeLessThanOrEqual(await finished(server));
  expect(await shown(page, "Email asked for")).toBeGreaterThanOrEqual(await shown(page, "Link or code used"));

  await expect(page.getByRole("img", { name: "Sign-ins finished, by hour" })).toBeVisible();
  await expect(page.getByRole("main").getByRole("listitem").filter({ hasText: "Audit log" })).toContainText("OK");
  await checkPage(page, "admin-overview");

  const table = page.getByRole("table", { name: "Sign-ins finished" });
  await expect(table).toBeHidden();
  await page.getByText("Show as a table: Sign-ins finished").click();
  await expect(table.getByRole("row").nth(1)).toContainText("%");
  await checkPage(page, "admin-overview-table");

  await press(link(page, "30 days"));
  await expectPage(page, "Overview", "/admin?span=30d");
  await expect(link(page, "30 days")).toHaveAttribute("aria-current", "true");
  await expect(page.getByRole("heading", { name: "Sign-ins by method, by day" })).toBeVisible();
  await checkPage(page, "admin-overview-month");
  await press(link(page, "Change rollout"));
  await expectPage(page, "Rollout", "/admin/rollout");
});
