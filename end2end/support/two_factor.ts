// A second factor, as a person sets it up and gives it.

import type { Page } from "@playwright/test";

import { Authenticator } from "./authenticator.ts";
import { askForMail, button, expectPage, press, submitCode, tick } from "./journey.ts";
import type { Mailbox } from "./mail_server.ts";
import { note } from "./seen.ts";
import { expect } from "./test.ts";

async function begin(page: Page): Promise<Authenticator> {
  await press(button(page, "Set up two-factor"));
  await expectPage(page, "Set up two-factor", "/account/two-factor/setup");
  const key = await page.locator(".copy").innerText();
  return new Authenticator(key.replaceAll(/\s/g, ""));
}

export async function shownCodes(page: Page): Promise<string[]> {
  const codes = await page.locator("ol.codes li").allInnerTexts();
  for (const code of codes) {
    expect(code).toMatch(/^[a-hjkmnp-z2-9]{4}-[a-hjkmnp-z2-9]{4}-[a-hjkmnp-z2-9]{4}$/);
    note({ kind: "secret", what: "backup code", value: code });
    note({ kind: "secret", what: "backup code", value: code.replaceAll("-", "") });
  }
  expect(new Set(codes).size).toBe(10);
  return codes;
}

export async function finish(page: Page): Promise<void> {
  await tick(page, /^I've saved these codes/);
  await press(button(page, "Finish"));
  await expectPage(page, "Two-factor", "/account/two-factor");
}

export async function enrol(page: Page): Promise<{ app: Authenticator; codes: string[] }> {
  await page.goto("/account/two-factor");
  const app = await begin(page);
  await page.getByLabel("Code from your app").fill(app.code());
  await press(button(page, "Turn on two-factor"));
  await expectPage(page, "Save your backup codes");
  const codes = await shownCodes(page);
  await finish(page);
  return { app, codes };
}

export async function giveFirstFactor(page: Page, mailbox: Mailbox, address: string): Promise<void> {
  const mail = await askForMail(page, mailbox, address);
  await submitCode(page, mail.code);
  await expectPage(page, "Enter your authenticator code", "/login/two-factor");
}

export async function giveSecondFactor(page: Page, code: string): Promise<number> {
  await page.getByLabel("6-digit code").fill(code);
  return (await press(button(page, "Continue"))).status();
}

export async function giveBackupCode(page: Page, code: string): Promise<number> {
  await page.getByLabel("Backup code").fill(code);
  return (await press(button(page, "Continue"))).status();
}
