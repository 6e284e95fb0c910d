import { randomInt } from "node:crypto";

import { signInMailed, times } from "../support/events.ts";
import { askForMail, button, expectPage, press, submitAddress, submitCode } from "../support/journey.ts";
import { expect, test } from "../support/test.ts";

test.use({
  serverName: "limits",
  // A network of its own for each test, so that none uses up another's limits.
  extraHTTPHeaders: async ({}, use) => {
    await use({ "x-forwarded-for": `10.${randomInt(256)}.${randomInt(256)}.${randomInt(1, 255)}` });
  },
});

/** One request of a browser that is never seen again. */
async function askElsewhere(url: string, headers: Record<string, string> | undefined, email: string): Promise<number> {
  const body = new URLSearchParams({ email });
  const answer = await fetch(`${url}/login`, { method: "POST", body, redirect: "manual", ...(headers ? { headers } : {}) });
  return answer.status;
}

test("someone who asks again too early is told how long to wait", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed);
  await askForMail(page, mailbox, address);
  const response = await press(button(page, "Send another email"));
  expect(response.status()).toBe(429);
  expect(Number(await response.headerValue("retry-after"))).toBeGreaterThan(0);
  await expectPage(page, "Check your email");
  await expect(page.getByText(/You can send another email in \d+ seconds?\. The newest email is the only one that works\./)).toBeVisible();
  await expect(button(page, "Send another email")).toHaveAttribute("aria-disabled", "true");
  await checkPage(page, "sent-wait");

  await page.goto("/login");
  expect((await submitAddress(page, address)).status()).toBe(429);
  await expect(page.getByText(/You can send another email in \d+ seconds?/)).toBeVisible();
  await expect(page.getByLabel("Email address")).toHaveValue(address);
});

test("too many mails to one address are refused, and the newest still works", async ({ page, server, address, extraHTTPHeaders, checkPage, expectEvents }) => {
  expectEvents(times(4, signInMailed));
  for (let n = 0; n < 4; n++) expect(await askElsewhere(server.url, extraHTTPHeaders, address)).toBe(303);
  await page.goto("/login");
  const response = await submitAddress(page, address);
  expect(response.status()).toBe(429);
  expect(Number(await response.headerValue("retry-after"))).toBeGreaterThan(0);
  await expectPage(page, "Too many emails");
  await expect(page.getByRole("main")).toContainText(/You can ask for another email to this address in \d+ minutes?\./);
  await checkPage(page, "limited-emails");
  await press(page.getByRole("link", { name: "Get help" }));
  await expectPage(page, "Too many emails, requests or tries", "/help/too-many#emails");
});

test("a network that asks too much is told how long to wait", async ({ page, server, address, anotherAddress, extraHTTPHeaders, checkPage, expectEvents }) => {
  expectEvents(times(6, signInMailed));
  for (let n = 0; n < 6; n++) {
    expect(await askElsewhere(server.url, extraHTTPHeaders, anotherAddress())).toBe(303);
  }
  await page.goto("/login");
  expect((await submitAddress(page, address)).status()).toBe(429);
  await expectPage(page, "Too many requests from your network");
  await checkPage(page, "limited-network");
});

test("a network that guesses too much is told how long to wait", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, times(3, "link.refused wrong_code"));
  const mail = await askForMail(page, mailbox, address);
  for (let n = 0; n < 3; n++) expect((await submitCode(page, mail.wrongCode())).status()).toBe(422);
  expect((await submitCode(page, mail.wrongCode())).status()).toBe(429);
  await expectPage(page, "Too many tries");
  await checkPage(page, "limited-tries");
});
