// Administrators see who is limited and what became of mail, and help.

import { randomInt } from "node:crypto";

import { administratorSignedIn, signInAsAdministrator } from "../support/administrator.ts";
import { signInMailed, times } from "../support/events.ts";
import { button, expectPage, link, press } from "../support/journey.ts";
import { expect, test } from "../support/test.ts";

test.describe("where limits hold", () => {
  const network = () => `10.${randomInt(256)}.${randomInt(256)}.${randomInt(1, 255)}`;
  test.use({ serverName: "limits" });

  test("an administrator lets somebody go who asked too often", { tag: "@phone" }, async ({ page, server, mailbox, address, anotherAddress, checkPage, expectEvents }) => {
    expectEvents(administratorSignedIn, times(5, signInMailed), "limit.released");
    const [theirs, from] = [anotherAddress(), network()];
    const ask = async () => {
      const body = new URLSearchParams({ email: theirs });
      const headers = { "x-forwarded-for": from };
      return (await fetch(`${server.url}/login`, { method: "POST", body, redirect: "manual", headers })).status;
    };
    for (let n = 1; n <= 4; n++) expect(await ask()).toBe(303);
    expect(await ask()).toBe(429);

    await page.setExtraHTTPHeaders({ "x-forwarded-for": network() });
    await signInAsAdministrator(page, server, mailbox, address);
    await page.goto("/admin/limits?limit=link_address_network");
    await expectPage(page, "Limits");
    const row = page.getByRole("row").filter({ hasText: from });
    await expect(row).toContainText("m•••••@example.org");
    await expect(row).toContainText("Sign-in emails to one address, from one network");
    await expect(row).toContainText(/in \d+ (seconds|minutes?)/);
    await expect(page.getByRole("main")).not.toContainText(theirs);
    await checkPage(page, "admin-limits");
    await press(row.getByRole("button"));
    await expectPage(page, "Limits", "/admin/limits?done=released");
    await expect(page.getByText("They can try again at once.")).toBeVisible();
    await page.goto("/admin/limits?limit=link_address_network");
    await expect(row).toHaveCount(0);
    expect(await ask()).toBe(303);
  });
});

test("an administrator sends a test mail and sees that it went out", async ({ page, server, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(administratorSignedIn, "mail.sent test");
  await signInAsAdministrator(page, server, mailbox, address);
  await page.goto("/account");
  await press(link(page, "Open users"));
  await press(page.getByRole("navigation", { name: "Admin" }).getByRole("link", { name: "Mail" }));
  await expectPage(page, "Mail", "/admin/mail");
  await press(button(page, "Send a test email"));
  await expectPage(page, "Mail", "/admin/mail?done=tested");
  await expect(page.getByText("A test email is on its way to you")).toBeVisible();
  const mail = await mailbox.next(address, "Test email");
  expect(mail.text).toContain("to see whether emails from here arrive. This one did.");
  await page.goto("/admin/mail");
  await expect(page.getByRole("row").filter({ hasText: "Test email" }).first()).toContainText("Sent");
  await expect(page.getByRole("main")).not.toContainText(address);
  await checkPage(page, "admin-mail");
  await press(link(page, "Waiting"));
  await expectPage(page, "Mail", "/admin/mail?show=waiting");
  await press(link(page, "Given up"));
  await expectPage(page, "Mail", "/admin/mail?show=given-up");
});
