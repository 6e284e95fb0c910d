// The steps that most tests take, as a person takes them.

import type { Locator, Page, Response } from "@playwright/test";

import type { Mail, Mailbox } from "./mail_server.ts";
import { expect } from "./test.ts";

/** Presses and waits for the page that comes of it, behind all redirects. */
export async function press(target: Locator): Promise<Response> {
  const page = target.page();
  const redirects = new Set([301, 302, 303, 307, 308]);
  const arrived = page.waitForResponse((r) => r.request().isNavigationRequest() && !redirects.has(r.status()));
  await target.click();
  const response = await arrived;
  await page.waitForLoadState();
  return response;
}

export function button(page: Page, name: string): Locator {
  return page.getByRole("button", { name, exact: true });
}

/** In the page itself: the header of some pages has a link of the same name. */
export function link(page: Page, name: string): Locator {
  return page.getByRole("main").getByRole("link", { name, exact: true });
}

export async function expectPage(page: Page, heading: string, path?: string | RegExp): Promise<void> {
  await expect(page.getByRole("heading", { level: 1, name: heading, exact: true })).toBeVisible();
  if (path !== undefined) await expect(page).toHaveURL(path);
}

export async function expectAccount(page: Page, address: string): Promise<void> {
  await expectPage(page, "Security", "/account");
  await expect(page.getByRole("main").getByText(address)).toBeVisible();
}

export async function submitAddress(page: Page, address: string): Promise<Response> {
  await page.getByLabel("Email address").fill(address);
  return press(button(page, "Send sign-in email"));
}

/** From the sign-in page to the mail. */
export async function askForMail(page: Page, mailbox: Mailbox, address: string, path = "/login"): Promise<Mail> {
  await page.goto(path);
  await submitAddress(page, address);
  await expectPage(page, "Check your email", "/login/sent");
  return mailbox.next(address);
}

export async function submitCode(page: Page, code: string): Promise<Response> {
  await page.getByLabel("6-digit code").fill(code);
  return press(button(page, "Sign in"));
}

export async function openLink(page: Page, mail: Mail, heading: string, path = "/login/verify"): Promise<Response | null> {
  const response = await page.goto(mail.linkTo(path));
  await expectPage(page, heading);
  // The token must not stay in the address bar, where history, screenshots and shoulders find it.
  expect(page.url()).not.toContain("token");
  return response;
}

export async function signIn(page: Page, mailbox: Mailbox, address: string): Promise<Mail> {
  const mail = await askForMail(page, mailbox, address);
  await submitCode(page, mail.code);
  await expectAccount(page, address);
  return mail;
}

export async function signOut(page: Page): Promise<void> {
  await page.goto("/account");
  await press(button(page, "Sign out"));
  await expectPage(page, "You're signed out");
}

/** By its words, which on a phone reach over the box: fingers are large. */
export async function tick(page: Page, words: string | RegExp): Promise<void> {
  await page.locator("label").filter({ hasText: words }).click();
  await expect(page.getByRole("checkbox", { name: words })).toBeChecked();
}

/** A click finds the browser signed out. */
export async function expectSignedOut(page: Page): Promise<void> {
  await page.goto("/account");
  await expectPage(page, "Sign in", "/login?next=/account");
}
