// A copy of one's data, and the end of an account.

import { readFile } from "node:fs/promises";

import { signedInByCode, signedOut, signedUpByCode, twoFactorTurnedOn } from "../support/events.ts";
import { button, expectAccount, expectPage, expectSignedOut, link, openLink, press, signIn, signOut } from "../support/journey.ts";
import { letUndoLinksAge } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";
import { enrol } from "../support/two_factor.ts";

const deletionRequested = ["account.deletion_requested", "mail.sent deletion_requested"];
const deletionCancelled = ["account.deletion_cancelled", "mail.sent deletion_cancelled"];

test("somebody downloads what is kept about them, and nothing that signs in", { tag: "@phone" }, async ({ page, context, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, "name.changed", twoFactorTurnedOn, "account.exported");
  const mail = await signIn(page, mailbox, address);
  await page.getByLabel("Your name").fill("Mara Lindqvist");
  await press(button(page, "Save your name"));
  const { app, codes } = await enrol(page);
  await page.goto("/account");
  await press(link(page, "Download your data"));
  await expectPage(page, "Download your data", "/account/export");
  await checkPage(page, "export");

  const arrives = page.waitForEvent("download");
  await button(page, "Download (.json)").click();
  const download = await arrives;
  expect(download.suggestedFilename()).toBe("latchkey-account.json");
  const text = await readFile(await download.path(), "utf8");
  const data = JSON.parse(text);
  expect(data.profile).toMatchObject({ email: address, display_name: "Mara Lindqvist", admin: false });
  expect(data.authenticator_apps).toMatchObject([{ name: "Authenticator app" }]);
  expect(data.backup_codes).toMatchObject({ left: 10 });
  expect(data.sessions).toMatchObject([{ ip: "127.0.0.1", method: "code", ended_at: null }]);
  const happened = data.activity.entries.map(({ what }: { what: string }) => what);
  expect(happened).toEqual(expect.arrayContaining(["user.created", "name.changed", "totp.enrolled"]));

  const cookies = (await context.cookies()).map(({ value }) => value).filter((value) => value.length >= 16);
  expect(cookies.length).toBeGreaterThan(0);
  const secrets = [...cookies, ...codes, ...codes.map((code) => code.replaceAll("-", "")), app.secret, mail.code];
  expect(secrets.filter((secret) => text.includes(secret))).toEqual([]);
  expect(text).not.toMatch(/token|hash|nonce|secret|key/i);

  await page.goto("/account/activity");
  await expect(page.getByRole("heading", { name: "Data downloaded" })).toBeVisible();
});

test("somebody asks for their account to be deleted, and keeps it by the page's button", async ({ page, mailbox, address, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(
    [signedUpByCode, signedInByCode, "mail.sent new_sign_in"],
    [deletionRequested, "session.revoked leaving"],
    [signedOut, signedInByCode],
    deletionCancelled,
  );
  await signIn(page, mailbox, address);
  const other = await otherBrowser();
  await signIn(other, mailbox, address);
  await press(link(page, "Delete account"));
  await expectPage(page, "Delete your account?", "/account/delete");
  await checkPage(page, "delete");
  await press(link(page, "Keep it"));
  await expectAccount(page, address);
  await expect(page.getByText("Your account will be deleted")).toHaveCount(0);

  await press(link(page, "Delete account"));
  await press(button(page, "Delete my account"));
  await expectPage(page, "Your account will be deleted", "/account/delete");
  await checkPage(page, "delete-asked");
  await expectSignedOut(other);
  const told = await mailbox.next(address, "Your account will be deleted");
  expect(told.text).toContain("Until then you can sign in, and keep it.");

  await signOut(page);
  await signIn(page, mailbox, address);
  await expect(page.getByText(/^Your account will be deleted on \d+ \w+ \d+\.$/)).toBeVisible();
  await expect(link(page, "Delete account")).toHaveCount(0);
  await checkPage(page, "account-leaving");
  await press(button(page, "Keep my account"));
  await expectAccount(page, address);
  await expect(page.getByText("Your account will be deleted")).toHaveCount(0);
  await mailbox.next(address, "Your account stays");
  expect((await openLink(page, told, "There's nothing to take back", "/undo"))?.status()).toBe(410);
  await expect(page.getByRole("main")).toContainText("The account already stays.");
  await checkPage(page, "undo-deletion-overtaken");
});

test("the mail about a deletion keeps the account, by a button and not by its link", async ({ page, mailbox, address, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, deletionRequested, deletionCancelled);
  await signIn(page, mailbox, address);
  await page.goto("/account/delete");
  await press(button(page, "Delete my account"));
  const mail = await mailbox.next(address, "Your account will be deleted");
  const reader = await otherBrowser();
  for (let look = 0; look < 2; look++) expect((await openLink(reader, mail, "Keep your account?", "/undo"))?.status()).toBe(200);
  await expect(reader.getByRole("main")).toContainText("will be deleted in 7 days.");
  await checkPage(reader, "undo-deletion");
  await page.reload();
  await expectPage(page, "Your account will be deleted", "/account/delete");

  await press(button(reader, "Keep my account"));
  await expectPage(reader, "Your account stays");
  await checkPage(reader, "undo-deletion-done");
  await mailbox.next(address, "Your account stays");
  expect((await openLink(reader, mail, "This link has already been used", "/undo"))?.status()).toBe(410);
  await checkPage(reader, "undo-deletion-used");
  await expectSignedOut(reader);
  await page.reload();
  await expectPage(page, "Delete your account?", "/account/delete");
});

test("the mail about a deletion comes too late", async ({ page, server, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, deletionRequested);
  await signIn(page, mailbox, address);
  await page.goto("/account/delete");
  await press(button(page, "Delete my account"));
  const mail = await mailbox.next(address, "Your account will be deleted");
  await letUndoLinksAge(server, address, "7 days");
  expect((await openLink(page, mail, "This link has expired", "/undo"))?.status()).toBe(410);
  await checkPage(page, "undo-deletion-expired");
});
