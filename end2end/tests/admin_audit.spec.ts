// Administrators read the audit log, narrow it down, and take it along.

import { readFile } from "node:fs/promises";

import { administratorSignedIn, signInAsAdministrator } from "../support/administrator.ts";
import { button, expectPage, link, press } from "../support/journey.ts";
import { expect, test } from "../support/test.ts";

test("an administrator finds what happened, opens it, and follows a request", { tag: "@phone" }, async ({ page, server, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(administratorSignedIn);
  await signInAsAdministrator(page, server, mailbox, address);
  await page.goto("/account");
  await press(link(page, "Open users"));
  await press(page.getByRole("navigation", { name: "Admin" }).getByRole("link", { name: "Audit log" }));
  await expectPage(page, "Audit log", "/admin/audit");
  await expect(page.getByText("Kept for 400 days.")).toBeVisible();

  await page.getByLabel("Person, event, IP or request ID").fill(address);
  await press(button(page, "Search"));
  // By the account's id: an address is in no URL.
  await expectPage(page, "Audit log", /\/admin\/audit\?q=[0-9a-f-]{36}$/);
  const enrolled = page.getByRole("row").filter({ hasText: "Authenticator app added" });
  await expect(enrolled).toContainText("m•••••@example.org".replace("m", address.charAt(0)));
  await expect(page.getByRole("main")).not.toContainText(address);
  await checkPage(page, "admin-audit");

  await enrolled.getByText("Details").click();
  await expect(enrolled.getByText("totp.enrolled")).toBeVisible();
  await press(enrolled.getByRole("link", { name: /All events of request/ }));
  await expectPage(page, "Audit log", /\/admin\/audit\?q=[0-9a-f-]{36}&period=all$/);
  await expect(page.getByRole("row").filter({ hasText: "Authenticator app added" })).toHaveCount(1);
  await expect(page.getByRole("row").filter({ hasText: "Account created" })).toHaveCount(0);

  await page.goto("/admin/audit");
  await page.getByLabel("Event", { exact: true }).selectOption("Two-factor");
  await page.getByLabel("Outcome").selectOption("Failed or refused");
  await page.getByLabel("Period").selectOption("Last 7 days");
  await press(button(page, "Search"));
  await expectPage(page, "Audit log", "/admin/audit?event=two-factor&outcome=failed&period=7d");

  await press(link(page, "Unusual"));
  await expectPage(page, "Audit log", "/admin/audit?show=unusual");
  await checkPage(page, "admin-audit-unusual");
});

test("an address that is nobody's stays where it was typed", async ({ page, server, mailbox, address, anotherAddress, checkPage, expectEvents }) => {
  expectEvents(administratorSignedIn);
  await signInAsAdministrator(page, server, mailbox, address);
  const theirs = anotherAddress();
  await page.goto("/admin/audit");
  await page.getByLabel("Person, event, IP or request ID").fill(theirs);
  const answer = await press(button(page, "Search"));
  expect(answer.status()).toBe(422);
  await expect(page.getByRole("link", { name: "No account has this address" })).toBeVisible();
  await expect(page.getByLabel("Person, event, IP or request ID")).toHaveValue(theirs);
  await checkPage(page, "admin-audit-unknown");
});

test("a copy of the log is taken along, and that is in the log", async ({ page, server, mailbox, address, expectEvents }) => {
  expectEvents(administratorSignedIn, "audit.exported");
  await signInAsAdministrator(page, server, mailbox, address);
  await page.goto("/admin/audit?q=totp.enrolled");
  const [download] = await Promise.all([page.waitForEvent("download"), button(page, "Download (.csv)").click()]);
  expect(download.suggestedFilename()).toMatch(/^latchkey-audit-\d{4}-\d\d-\d\d\.csv$/);
  const lines = (await readFile(await download.path(), "utf8")).split("\r\n");
  expect(lines[0]).toBe("id,created_at,event_type,user_id,actor_id,ip,user_agent,request_id,details");
  expect(lines.slice(1, -1).every((line) => line.includes(",totp.enrolled,"))).toBe(true);
  await page.goto("/admin/audit?q=audit.exported");
  await expect(page.getByRole("row").filter({ hasText: "Audit log downloaded" }).first()).toContainText("CSV");
});
