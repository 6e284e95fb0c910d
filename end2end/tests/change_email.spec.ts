import type { Page } from "@playwright/test";

import {
  addressChanged,
  changeCodeMailed,
  changeUndone,
  firstFactorGiven,
  signedInByApp,
  signedInByCode,
  signedOut,
  signedUpByCode,
  times,
  twoFactorTurnedOn,
} from "../support/events.ts";
import { askForMail, button, expectAccount, expectPage, expectSignedOut, link, openLink, press, signIn, signOut } from "../support/journey.ts";
import type { Mail, Mailbox } from "../support/mail_server.ts";
import { letAppsAge, letFactorsAge, letUndoLinksAge } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";
import { enrol, giveFirstFactor, giveSecondFactor } from "../support/two_factor.ts";

async function askFor(page: Page, address: string): Promise<number> {
  await page.getByLabel("New email address").fill(address);
  return (await press(button(page, "Send code"))).status();
}

async function giveCode(page: Page, code: string): Promise<number> {
  await page.getByLabel("6-digit code").fill(code);
  return (await press(button(page, "Change address"))).status();
}

/** From the account's page to another address. Returns the mail to the old one. */
async function move(page: Page, mailbox: Mailbox, from: string, to: string): Promise<Mail> {
  await page.goto("/account/email");
  await askFor(page, to);
  await giveCode(page, (await mailbox.next(to, "Confirm your new email address")).code);
  await expectAccount(page, to);
  return mailbox.next(from, "Your email address was changed");
}

test("an account moves to another address by a code sent there", async ({ page, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(
    [signedUpByCode, signedInByCode, "mail.sent new_sign_in"],
    [times(3, changeCodeMailed), times(3, "email.change_refused"), addressChanged, "session.revoked email_changed"],
    [signedOut, signedInByCode, "mail.sent new_sign_in"],
    ["link.requested", "mail.sent no_account"],
  );
  const [mistyped, wanted] = [anotherAddress(), anotherAddress()];
  await signIn(page, mailbox, address);
  const other = await otherBrowser();
  await signIn(other, mailbox, address);
  await press(link(page, "Change email"));
  await expectPage(page, "Change your email address", "/account/email");
  await checkPage(page, "email");

  const main = page.getByRole("main");
  const field = page.getByLabel("New email address");
  for (const [typed, error] of [
    ["", "Enter your new email address"],
    ["mara.example.org", "Enter an email address, like name@example.org"],
    [address.toUpperCase(), "That's the address you sign in with now. Enter another one."],
  ] as const) {
    expect(await askFor(page, typed)).toBe(422);
    await expect(page.getByText(error)).toBeVisible();
    await expect(field).toHaveValue(typed.replace("EXAMPLE.ORG", "example.org"));
    await expect(page).toHaveTitle("Error: Change your email address – Latchkey");
  }
  await checkPage(page, "email-same");

  expect(await askFor(page, mistyped)).toBe(200);
  await expectPage(page, "Change your email address", "/account/email");
  await expect(main).toContainText(`We've sent a code to ${mistyped}.`);
  await checkPage(page, "email-sent");
  const first = await mailbox.next(mistyped, "Confirm your new email address");
  expect(await giveCode(page, first.wrongCode())).toBe(422);
  await expect(page.getByText("That code isn't right. You have 4 tries left.")).toBeVisible();
  await checkPage(page, "email-code-wrong");

  await press(button(page, "Send another code"));
  const second = await mailbox.next(mistyped, "Confirm your new email address");
  expect(await giveCode(page, first.code)).toBe(422);
  await press(link(page, "Use another address"));
  expect(await askFor(page, wanted)).toBe(200);
  await expect(main).toContainText(`We've sent a code to ${wanted}.`);
  const third = await mailbox.next(wanted, "Confirm your new email address");
  expect(third.text).not.toContain("http");
  // The code shows who reads mail at the address it went to, and nowhere else.
  expect(await giveCode(page, second.code)).toBe(422);

  await giveCode(page, third.code);
  await expectAccount(page, wanted);
  await expectSignedOut(other);
  const told = await mailbox.next(address, "Your email address was changed");
  expect(told.text).not.toContain(wanted);

  await signOut(page);
  const mail = await askForMail(page, mailbox, address);
  expect(mail.text).toContain("there's no account for it");
  await signIn(page, mailbox, wanted);
});

test("whoever reads the old address takes a change back", { tag: "@phone" }, async ({ page, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    [changeCodeMailed, addressChanged],
    [changeUndone, "session.revoked email_changed"],
    [signedInByCode, "mail.sent new_sign_in"],
    ["link.requested", "link.redeemed code", "mail.sent sign_in", "session.created email", "user.created"],
  );
  const moved = anotherAddress();
  await signIn(page, mailbox, address);
  const mail = await move(page, mailbox, address, moved);
  const owner = await otherBrowser();
  for (let look = 0; look < 2; look++) {
    expect((await openLink(owner, mail, "Take back the change of address?", "/undo"))?.status()).toBe(200);
  }
  await expect(owner.getByRole("main")).not.toContainText(moved);
  await expect(owner.getByLabel("6-digit code")).toHaveCount(0);
  await checkPage(owner, "undo-email");
  await page.reload();
  await expectAccount(page, moved);

  await press(button(owner, "Take it back"));
  await expectPage(owner, "Your address is back");
  await checkPage(owner, "undo-email-done");
  await expectSignedOut(page);
  const told = await mailbox.next(address, "Your email address is back");
  expect(told.text).toContain("You sign in with this address again.");

  expect((await openLink(owner, mail, "This link has already been used", "/undo"))?.status()).toBe(410);
  await expect(owner.getByRole("main")).toContainText("Sign in with the address this email went to.");
  await checkPage(owner, "undo-email-used");
  await signIn(owner, mailbox, address);
  // The address it was moved to is nobody's again: signing in with it makes an account of its own.
  await signIn(page, mailbox, moved);
});

test("with two-factor, taking a change back asks for a code", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(
    [signedUpByCode, twoFactorTurnedOn],
    [changeCodeMailed, addressChanged],
    ["totp.refused wrong", "backup_code.refused wrong", "totp.accepted undo"],
    [changeUndone, "session.revoked email_changed"],
    [firstFactorGiven, signedInByApp, "mail.sent new_sign_in"],
  );
  const moved = anotherAddress();
  await signIn(page, mailbox, address);
  const { app } = await enrol(page);
  await letAppsAge(server, address);
  const mail = await move(page, mailbox, address, moved);
  const owner = await otherBrowser();
  await openLink(owner, mail, "Take back the change of address?", "/undo");
  await checkPage(owner, "undo-email-two-factor");
  const takeBack = async (field: string, code: string) => {
    await owner.getByLabel(field).fill(code);
    return (await press(button(owner, "Take it back"))).status();
  };
  expect(await takeBack("6-digit code", app.wrongCode())).toBe(422);
  await expect(owner.getByText(/That code isn't right\./)).toBeVisible();
  await checkPage(owner, "undo-email-wrong");
  await press(link(owner, "Use a backup code"));
  expect(await takeBack("Backup code", "k7qd-m2xw-t9hp")).toBe(422);
  await expect(owner.getByText(/That backup code isn't right\./)).toBeVisible();
  await checkPage(owner, "undo-email-backup-code");
  await press(link(owner, "Use your app"));
  await page.reload();
  await expectAccount(page, moved);

  await letFactorsAge(server, moved);
  await takeBack("6-digit code", app.code());
  await expectPage(owner, "Your address is back");
  await expectSignedOut(page);
  await mailbox.next(address, "Your email address is back");
  // It signed nobody in, and two-factor is as it was.
  await expectSignedOut(owner);
  await giveFirstFactor(owner, mailbox, address);
  await letFactorsAge(server, address);
  await giveSecondFactor(owner, app.code());
  await expectAccount(owner, address);
});

test("a change of address is taken back for 72 hours, and with it all that followed", async ({ page, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, times(2, [changeCodeMailed, addressChanged]), [changeUndone, "session.revoked email_changed"]);
  const [second, third] = [anotherAddress(), anotherAddress()];
  await signIn(page, mailbox, address);
  const early = await move(page, mailbox, address, second);
  const late = await move(page, mailbox, second, third);
  const owner = await otherBrowser();
  await openLink(owner, early, "Take back the change of address?", "/undo");
  await press(button(owner, "Take it back"));
  await expectPage(owner, "Your address is back");
  expect((await openLink(owner, late, "There's nothing to take back", "/undo"))?.status()).toBe(410);
  await checkPage(owner, "undo-email-overtaken");
});

test("after 72 hours a change of address stays", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, [changeCodeMailed, addressChanged]);
  const moved = anotherAddress();
  await signIn(page, mailbox, address);
  const mail = await move(page, mailbox, address, moved);
  await letUndoLinksAge(server, address, "72 hours");
  const owner = await otherBrowser();
  expect((await openLink(owner, mail, "This link has expired", "/undo"))?.status()).toBe(410);
  await expect(owner.getByRole("main")).toContainText("A change of address can be taken back for 72 hours.");
  await checkPage(owner, "undo-email-expired");
});

test("the page tells nobody that an address has an account, and the mail does", async ({ page, mailbox, address, anotherAddress, otherBrowser, expectEvents }) => {
  expectEvents(times(2, signedUpByCode), ["email.change_requested", "mail.sent email_taken", "email.change_refused"]);
  const neighbours = anotherAddress();
  const neighbour = await otherBrowser();
  await signIn(neighbour, mailbox, neighbours);
  await signIn(page, mailbox, address);
  await page.goto("/account/email");
  expect(await askFor(page, neighbours)).toBe(200);
  await expect(page.getByRole("main")).toContainText(`We've sent a code to ${neighbours}.`);
  const mail = await mailbox.next(neighbours, "This address already has an account");
  expect(mail.text).toContain("it already has one. Nothing was changed.");
  expect(mail.text).not.toContain(address);
  expect(mail.text).not.toMatch(/^\d{6}$/m);
  expect(await giveCode(page, "123 456")).toBe(422);
  await expect(page.getByText("That code isn't right. You have 4 tries left.")).toBeVisible();
  await neighbour.reload();
  await expectAccount(neighbour, neighbours);
});

test("whoever signed in a while ago gives a code first", async ({ page, server, mailbox, address, anotherAddress, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    times(2, ["step_up.mailed", "mail.sent step_up", "step_up.passed mail"]),
    [changeCodeMailed, addressChanged],
  );
  const wanted = anotherAddress();
  await signIn(page, mailbox, address);
  const stepUp = async () => {
    await expectPage(page, "Confirm it's you", "/reauth?next=/account/email");
    await press(button(page, "Send the code"));
    await page.getByLabel("6-digit code").fill((await mailbox.next(address, "Your code for Latchkey")).code);
    await press(button(page, "Continue"));
    await expectPage(page, "Change your email address", "/account/email");
  };
  await letFactorsAge(server, address);
  await press(link(page, "Change email"));
  await stepUp();
  await askFor(page, wanted);
  const mail = await mailbox.next(wanted, "Confirm your new email address");
  // Also between the two: a browser left open is not to be enough.
  await letFactorsAge(server, address);
  await giveCode(page, mail.code);
  await stepUp();
  await giveCode(page, mail.code);
  await expectAccount(page, wanted);
  await mailbox.next(address, "Your email address was changed");
});
