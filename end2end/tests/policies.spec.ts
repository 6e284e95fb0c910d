// What the operator decides, and what people see of it.

import { signedUpByLink } from "../support/events.ts";
import { askForMail, button, expectPage, link, submitAddress } from "../support/journey.ts";
import { noteSecrets } from "../support/mail_server.ts";
import { expect, test } from "../support/test.ts";

test.describe("while nobody may sign up", () => {
  test.use({ serverName: "closed" });

  test("the page is the same for a stranger, and only the mail tells", async ({ page, mailbox, address, expectEvents }) => {
    expectEvents("link.requested", "mail.sent no_account");
    const mail = await askForMail(page, mailbox, address);
    await expect(page.getByRole("main")).toContainText(`We've sent a link and a code to ${address}.`);
    expect(mail.text).toContain("there's no account for it");
    expect(mail.text).not.toContain("token");
    expect(mail.text).not.toMatch(/^\d{6}$/m);
  });
});

test.describe("while signing in by mail is off", () => {
  test.use({ serverName: "off" });

  test("the page leads to the usual way to sign in", async ({ page, checkPage }) => {
    await page.goto("/login");
    await expectPage(page, "Signing in this way isn't available yet");
    await expect(link(page, "Use your usual sign-in")).toHaveAttribute("href", "https://old.example.org/login");
    await expect(page.getByLabel("Email address")).toHaveCount(0);
    await checkPage(page, "unavailable");
  });

  test("asking for a mail all the same is refused", async ({ server, address }) => {
    const answer = await fetch(`${server.url}/login`, { method: "POST", body: new URLSearchParams({ email: address }) });
    expect(answer.status).toBe(403);
    expect(await answer.text()).toContain("Signing in this way isn't available yet");
  });
});

test.describe("in development without a mail server", () => {
  test.use({ serverName: "inbox" });

  test("mail shows up in the inbox, and its link signs in", { tag: "@phone" }, async ({ page, address, checkPage, expectEvents }) => {
    expectEvents(signedUpByLink);
    await page.goto("/login");
    await submitAddress(page, address);
    await expectPage(page, "Check your email");

    const row = page.locator(".row", { hasText: address });
    await expect(async () => {
      await page.goto("/dev/inbox");
      await expect(row).toBeVisible({ timeout: 250 });
    }).toPass();
    await expectPage(page, "Dev inbox");
    await checkPage(page, "dev-inbox");

    await row.getByRole("link", { name: "Sign in to Latchkey" }).click();
    await expectPage(page, "Sign in to Latchkey");
    const message = page.url();
    const text = await page.locator("pre").innerText();
    noteSecrets(text);
    await checkPage(page, "dev-message");

    const html = await page.request.get(`${message}/html`);
    expect(html.status()).toBe(200);
    expect(html.headers()["content-security-policy"]).toContain("sandbox");
    await page.getByRole("link", { name: "Open the HTML part" }).click();
    await page.waitForURL(`${message}/html`);
    await expect(page.getByText(/^\s*\d{6}\s*$/)).toBeVisible();

    await page.goto(message);
    await page.locator("pre").getByRole("link", { name: /verify/ }).click();
    await expectPage(page, "Sign in to Latchkey?");
    await button(page, "Sign in").click();
    await expectPage(page, "Security", "/account");
  });

  test("the inbox answers nobody who comes through a proxy", async ({ server }) => {
    const answer = await fetch(`${server.url}/dev/inbox`, { headers: { "x-forwarded-for": "203.0.113.7" } });
    expect(answer.status).toBe(404);
  });
});

test("with a mail server there is no inbox", async ({ page }) => {
  expect((await page.goto("/dev/inbox"))?.status()).toBe(404);
});
