// Each way to fail says what happened, and has a way on that works.

import { signInMailed, signedInByCode, signedOut, signedUpByCode, signedUpByLink, times } from "../support/events.ts";
import { askForMail, button, expectAccount, expectPage, link, openLink, press, signIn, submitCode } from "../support/journey.ts";
import { letMailsExpire } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

test("an expired link offers a new mail", async ({ page, server, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, signedUpByLink);
  const mail = await askForMail(page, mailbox, address);
  await letMailsExpire(server, address);
  expect((await openLink(page, mail, "This link has expired"))?.status()).toBe(410);
  await expect(page.getByRole("main")).toContainText("Links work for 10 minutes. This one is older than that.");
  await checkPage(page, "link-expired");

  await press(button(page, "Send a new email"));
  await expectPage(page, "Check your email", "/login/sent");
  await openLink(page, await mailbox.next(address), "Sign in to Latchkey?");
  await press(button(page, "Sign in"));
  await expectAccount(page, address);
});

test("a link that expires while its page is open doesn't sign in", async ({ page, server, mailbox, address, expectEvents }) => {
  expectEvents(signInMailed, "link.refused expired");
  const mail = await askForMail(page, mailbox, address);
  await openLink(page, mail, "Sign in to Latchkey?");
  await letMailsExpire(server, address);
  expect((await press(button(page, "Sign in"))).status()).toBe(410);
  await expectPage(page, "This link has expired");
  await page.goto("/account");
  await expectPage(page, "Sign in", "/login?next=/account");
});

test("a used link leads someone who is signed in to their account", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signedUpByLink);
  const mail = await askForMail(page, mailbox, address);
  await openLink(page, mail, "Sign in to Latchkey?");
  await press(button(page, "Sign in"));
  await expectAccount(page, address);
  expect((await openLink(page, mail, "This link has already been used"))?.status()).toBe(410);
  await checkPage(page, "link-used");
  await press(link(page, "Go to your account"));
  await expectAccount(page, address);
});

test("a used link offers a new mail to someone who is signed out", async ({ page, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode, signedOut, signedInByCode);
  const mail = await signIn(page, mailbox, address);
  await press(button(page, "Sign out"));
  // The code used up the mail, and so its link.
  expect((await openLink(page, mail, "This link has already been used"))?.status()).toBe(410);
  await expect(link(page, "Go to your account")).toHaveCount(0);
  await press(button(page, "Send a new email"));
  await expectPage(page, "Check your email");
  await submitCode(page, (await mailbox.next(address)).code);
  await expectAccount(page, address);
});

test("a replaced link leads to the newest code", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, signedUpByCode);
  const first = await askForMail(page, mailbox, address);
  await press(button(page, "Send another email"));
  await expectPage(page, "Check your email", "/login/sent?again=1");
  await expect(page.getByText("We've sent another email.")).toBeVisible();
  await checkPage(page, "sent-again");
  const second = await mailbox.next(address);

  expect((await openLink(page, first, "This link was replaced"))?.status()).toBe(410);
  await checkPage(page, "link-replaced");
  await press(link(page, "Enter the code"));
  await submitCode(page, second.code);
  await expectAccount(page, address);
});

test("a link that was cut short is not found, and offers a new mail", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed);
  const mail = await askForMail(page, mailbox, address);
  const response = await page.goto(mail.link.slice(0, -7));
  expect(response?.status()).toBe(404);
  await expectPage(page, "This link doesn't work");
  await checkPage(page, "link-broken");
  await press(link(page, "Send a new email"));
  await expectPage(page, "Sign in", "/login");
});

test("a link nobody was sent is not found", async ({ page }) => {
  const response = await page.goto(`/login/verify?token=${"A".repeat(43)}`);
  expect(response?.status()).toBe(404);
  await expectPage(page, "This link doesn't work");
});

test("\"This wasn't me\" makes link and code useless", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, "link.cancelled", "link.refused cancelled");
  const mail = await askForMail(page, mailbox, address);
  await openLink(page, mail, "Sign in to Latchkey?");
  expect((await press(button(page, "This wasn't me"))).status()).toBe(410);
  await expectPage(page, "Link cancelled");
  await checkPage(page, "link-cancelled");
  await expect(link(page, "see what you can do")).toHaveAttribute("href", "/help/email-i-didnt-ask-for");

  expect((await openLink(page, mail, "Link cancelled"))?.status()).toBe(410);
  await page.goto("/login/sent");
  expect((await submitCode(page, mail.code)).status()).toBe(410);
  await page.goto("/account");
  await expectPage(page, "Sign in", "/login?next=/account");
});

test("a link never signs in another browser, which can ask for a mail of its own", async ({ page, mailbox, address, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signInMailed, signedUpByLink);
  const mail = await askForMail(page, mailbox, address);
  const other = await otherBrowser();
  expect((await openLink(other, mail, "Open this on the device you started on"))?.status()).toBe(403);
  await expect(other.getByRole("main").getByText("m•••••@example.org")).toBeVisible();
  await expect(other.getByRole("main")).not.toContainText(address);
  await expect(button(other, "Sign in")).toHaveCount(0);
  await checkPage(other, "link-other-browser");

  await press(button(other, "Send an email for this browser"));
  await expectPage(other, "Check your email", "/login/sent");
  // It was not typed here, so it isn't shown here.
  await expect(other.getByRole("main")).not.toContainText(address);
  await checkPage(other, "sent-masked");
  const own = await mailbox.next(address);
  await openLink(other, own, "Sign in to Latchkey?");
  await press(button(other, "Sign in"));
  await expectAccount(other, address);
});

test("the code of one browser's mail doesn't work in another", async ({ page, mailbox, address, otherBrowser, expectEvents }) => {
  expectEvents(signInMailed, "link.refused wrong_code", signedUpByCode);
  const mail = await askForMail(page, mailbox, address);
  const other = await otherBrowser();
  await askForMail(other, mailbox, address);
  await submitCode(other, mail.code);
  await expect(other.getByText("That code isn't right. You have 4 tries left.")).toBeVisible();
  await submitCode(page, mail.code);
  await expectAccount(page, address);
});

test("wrong codes are counted down, the fifth ends the mail, and another mail works", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, times(5, "link.refused wrong_code"), signedUpByCode);
  const mail = await askForMail(page, mailbox, address);
  for (const left of ["4 tries", "3 tries", "2 tries", "1 try"]) {
    expect((await submitCode(page, mail.wrongCode())).status()).toBe(422);
    await expect(page.getByText(`That code isn't right. You have ${left} left.`)).toBeVisible();
    await expect(page).toHaveTitle("Error: Check your email – Latchkey");
  }
  await checkPage(page, "code-wrong");
  expect((await submitCode(page, mail.wrongCode())).status()).toBe(410);
  await expect(page.getByText("That code isn't right, and that was the last try.")).toBeVisible();
  await checkPage(page, "code-last-try");
  expect((await submitCode(page, mail.code)).status()).toBe(410);

  await press(button(page, "Send another email"));
  await submitCode(page, (await mailbox.next(address)).code);
  await expectAccount(page, address);
});

test("an expired code offers another mail", async ({ page, server, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, "link.refused expired", signedUpByCode);
  const mail = await askForMail(page, mailbox, address);
  await letMailsExpire(server, address);
  expect((await submitCode(page, mail.code)).status()).toBe(410);
  await expect(page.getByText("That code has expired. Send another email to get a new one.")).toBeVisible();
  await checkPage(page, "code-expired");
  await press(button(page, "Send another email"));
  await submitCode(page, (await mailbox.next(address)).code);
  await expectAccount(page, address);
});
