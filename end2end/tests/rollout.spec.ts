// Administrators see who can sign in and what would stop that, and hold the lever. And the keys of programs.

import type { Page } from "@playwright/test";

import { administratorSignedIn, signInAsAdministrator } from "../support/administrator.ts";
import { signInMailed } from "../support/events.ts";
import { button, expectPage, link, press, tick } from "../support/journey.ts";
import { note } from "../support/seen.ts";
import { alone } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

/** By its words, which on a phone reach over the circle. */
async function choose(page: Page, words: string): Promise<void> {
  await page.locator("label").filter({ hasText: new RegExp(`^${words}$`) }).click();
  await expect(page.getByRole("radio", { name: words, exact: true })).toBeChecked();
}

test.describe("where the flag is turned", () => {
  test.use({ serverName: "rollout" });

  test("the lever is reviewed before it moves, and holds everywhere", { tag: "@phone" }, async ({ page, server, mailbox, address, anotherAddress, checkPage, otherBrowser, expectEvents }) => {
    expectEvents(administratorSignedIn, "flag.changed", "flag.changed", "flag.changed", signInMailed.slice(0, 1), "mail.sent not_yet");
    // It may have to wait for another.
    test.slow();
    await alone(server, async () => {
      await signInAsAdministrator(page, server, mailbox, address);
      await page.goto("/admin/rollout");
      await expectPage(page, "Rollout", "/admin/rollout");
      await checkPage(page, "admin-rollout");

      await test.step("without a reason nothing moves, and what was chosen stays", async () => {
        await choose(page, "25%");
        await press(button(page, "Review change"));
        await expectPage(page, "Rollout", "/admin/rollout");
        await expect(page.getByText("Say why you're changing this")).toBeVisible();
        await expect(page.getByRole("radio", { name: "25%", exact: true })).toBeChecked();
        await checkPage(page, "admin-rollout-error");
      });

      await test.step("off is off for whoever comes", async () => {
        await page.getByLabel("Reason").fill("A drill");
        await press(button(page, "Turn off now"));
        await expectPage(page, "Turn off passwordless sign-in?", "/admin/rollout");
        await expect(page.getByText("A drill")).toBeVisible();
        await checkPage(page, "admin-rollout-review");
        await press(button(page, "Turn off now"));
        await expectPage(page, "Rollout", "/admin/rollout?done=changed");
        const visitor = await otherBrowser();
        await visitor.goto("/login");
        await expectPage(visitor, "Signing in this way isn't available yet");
        await expect(link(visitor, "Use your usual sign-in")).toBeVisible();
      });

      await test.step("on for some: the page is the same for all, and the mail tells", async () => {
        const theirs = anotherAddress();
        await choose(page, "5% of administrators");
        await page.getByLabel("Reason").fill("A canary");
        await press(button(page, "Review change"));
        await press(button(page, "Make the change"));
        await expectPage(page, "Rollout", "/admin/rollout?done=changed");
        const visitor = await otherBrowser();
        await expect(async () => {
          await visitor.goto("/login");
          await expectPage(visitor, "Sign in");
        }).toPass({ timeout: 10_000 });
        await visitor.getByLabel("Email address").fill(theirs);
        await press(button(visitor, "Send sign-in email"));
        await expectPage(visitor, "Check your email");
        const mail = await mailbox.next(theirs, "Sign in to Latchkey");
        expect(mail.text).toContain("isn't turned on for it yet");
        expect(mail.text).toContain("https://old.example.org/login");
      });
      await test.step("and back, for whoever comes next", async () => {
        await choose(page, "Everyone");
        await page.getByLabel("Reason").fill("The drill is over");
        await press(button(page, "Review change"));
        await press(button(page, "Make the change"));
        await expect(page.getByRole("row").filter({ hasText: "Passwordless sign-in: everyone" }).first()).toContainText("The drill is over");
      });
    });
  });
});

test("a program's key is shown once, and ends at once", { tag: "@phone" }, async ({ page, server, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(administratorSignedIn, "api_key.created", "mail.sent api_key_created", "api_key.revoked", "mail.sent api_key_revoked");
  await signInAsAdministrator(page, server, mailbox, address);
  await page.goto("/admin/api-keys");
  await expectPage(page, "API keys", "/admin/api-keys");
  await checkPage(page, "admin-api-keys");
  await press(link(page, "Make an API key"));
  await expectPage(page, "Make an API key", "/admin/api-keys/new");
  await page.getByLabel("Name").fill("Billing");
  await press(button(page, "Make key"));
  await expect(page.getByRole("heading", { name: "There's a problem" })).toBeVisible();
  await expect(page.getByLabel("Name")).toHaveValue("Billing");
  await checkPage(page, "admin-api-keys-error");
  await tick(page, "users");
  await press(button(page, "Make key"));
  await expectPage(page, "Copy your API key");
  await checkPage(page, "admin-api-keys-made");
  const key = /lk_[\w-]{40,}/.exec(await page.getByRole("main").innerText())?.[0] ?? "";
  note({ kind: "token", what: "API key", value: key.slice(-43) });
  const ask = async () => (await fetch(`${server.url}/api/v1/users`, { headers: { Authorization: `Bearer ${key}` } })).status;
  expect(await ask()).toBe(200);
  await press(link(page, "I've copied it"));
  await expect(page.getByRole("main")).not.toContainText(key);
  const row = page.getByRole("row").filter({ hasText: key.slice(0, 11) });
  await press(row.getByRole("link"));
  await expectPage(page, "Revoke this key?");
  await page.getByLabel("Reason").fill("It was a test");
  await press(button(page, "Revoke key"));
  await expect(row).toContainText("Revoked");
  expect(await ask()).toBe(401);
});
