// What people do, without a mouse and without JavaScript.

import { administratorSignedIn, signInAsAdministrator } from "../support/administrator.ts";
import { Authenticator } from "../support/authenticator.ts";
import {
  firstFactorGiven,
  signInMailed,
  signedInByApp,
  signedInByCode,
  signedInByLink,
  signedOut,
  signedUpByCode,
  times,
  twoFactorTurnedOn,
} from "../support/events.ts";
import { askForMail, button, expectAccount, expectPage, expectSignedOut, link, openLink, signIn } from "../support/journey.ts";
import { Keyboard } from "../support/keyboard.ts";
import { letFactorsAge } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";
import { shownCodes } from "../support/two_factor.ts";

test("signing in by code and by link, turning two-factor on, and the second step", async ({ page, server, mailbox, address, expectEvents }) => {
  expectEvents(
    [signedUpByCode, signedOut],
    signedInByLink,
    [twoFactorTurnedOn, signedOut],
    [firstFactorGiven, signedInByApp, "device.trusted"],
  );
  const keyboard = new Keyboard(page);
  const email = page.getByLabel("Email address");
  const code = page.getByLabel("6-digit code");
  const ask = async () => {
    await page.goto("/login");
    await keyboard.type(email, address);
    await keyboard.go();
    await expectPage(page, "Check your email", "/login/sent");
    return mailbox.next(address);
  };

  await test.step("the first stop leads past what all pages have", async () => {
    await page.goto("/login");
    const skip = page.getByRole("link", { name: "Skip to content" });
    await expect(skip).not.toBeInViewport({ ratio: 1 });
    await keyboard.tab();
    await expect(skip).toBeFocused();
    await expect(skip).toBeInViewport({ ratio: 1 });
    await page.keyboard.press("Enter");
    await expect(page).toHaveURL("/login#main");
    await keyboard.tab();
    await expect(email).toBeFocused();
  });

  await test.step("by code", async () => {
    const mail = await ask();
    await keyboard.to(code);
    await page.keyboard.type(mail.code);
    await keyboard.go();
    await expectAccount(page, address);
    await keyboard.press(button(page, "Sign out"), "Space");
    await expectPage(page, "You're signed out");
  });

  await test.step("by link", async () => {
    await openLink(page, await ask(), "Sign in to Latchkey?");
    await keyboard.press(button(page, "Sign in"), "Space");
    await expectAccount(page, address);
  });

  const app = await test.step("two-factor is turned on, and the codes are saved", async () => {
    await keyboard.press(page.getByRole("main").getByRole("button", { name: "Set up two-factor" }));
    await expectPage(page, "Set up two-factor", "/account/two-factor/setup");
    const app = new Authenticator((await page.locator(".copy").innerText()).replaceAll(/\s/g, ""));
    await keyboard.type(page.getByLabel("Code from your app"), app.code());
    await keyboard.press(button(page, "Turn on two-factor"));
    await expectPage(page, "Save your backup codes");
    await shownCodes(page);
    const saved = page.getByRole("checkbox", { name: /^I've saved these codes/ });
    await keyboard.to(saved);
    await page.keyboard.press("Space");
    await expect(saved).toBeChecked();
    await keyboard.press(button(page, "Finish"));
    await expectPage(page, "Two-factor", "/account/two-factor");
    await keyboard.press(button(page, "Sign out"));
    await expectPage(page, "You're signed out");
    return app;
  });

  await test.step("the second step, and back to a box that was passed over", async () => {
    const mail = await ask();
    await keyboard.to(code);
    await page.keyboard.type(mail.code);
    await keyboard.go();
    await expectPage(page, "Enter your authenticator code", "/login/two-factor");
    await letFactorsAge(server, address);
    await keyboard.type(code, app.code());
    await keyboard.to(button(page, "Continue"));
    const trust = page.getByRole("checkbox", { name: /^Don't ask for a code/ });
    await keyboard.to(trust, true);
    await page.keyboard.press("Space");
    await expect(trust).toBeChecked();
    await keyboard.press(button(page, "Continue"), "Space");
    await expectAccount(page, address);
  });
});

test("a wrong code leaves the focus where it is to be mended", async ({ page, mailbox, address, expectEvents }) => {
  expectEvents([signInMailed, "link.refused wrong_code", "link.redeemed code", "session.created email", "user.created"]);
  const keyboard = new Keyboard(page);
  const mail = await askForMail(page, mailbox, address);
  const code = page.getByLabel("6-digit code");
  await keyboard.type(code, mail.wrongCode());
  await keyboard.go();
  await expect(page.getByText(/That code isn't right/)).toBeVisible();
  await expect(code).toBeFocused();
  await page.keyboard.press("Control+A");
  await page.keyboard.type(mail.code);
  await keyboard.go();
  await expectAccount(page, address);
});

test("another session is ended", async ({ page, mailbox, address, otherBrowser, expectEvents }) => {
  expectEvents(signedUpByCode, [signedInByCode, "mail.sent new_sign_in"], "session.revoked signed_out_elsewhere");
  const keyboard = new Keyboard(page);
  await signIn(page, mailbox, address);
  const other = await otherBrowser();
  await signIn(other, mailbox, address);
  await keyboard.press(page.getByRole("navigation", { name: "Account" }).getByRole("link", { name: "Sessions" }));
  await expectPage(page, "Sessions", "/account/sessions");
  await keyboard.press(page.getByRole("button", { name: /^Sign out Chrome on / }));
  await expectPage(page, "Sessions", "/account/sessions");
  await expect(page.getByRole("main")).toContainText("No other sessions");
  await expectSignedOut(other);
});

test("an administrator turns an account off, and says why", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    administratorSignedIn,
    times(3, "user.viewed"),
    ["user.disabled", "session.revoked account_off", "mail.sent account_disabled"],
  );
  const theirs = anotherAddress();
  await signIn(await otherBrowser(), mailbox, theirs);
  await signInAsAdministrator(page, server, mailbox, address);

  const keyboard = new Keyboard(page);
  await page.goto("/admin");
  await keyboard.press(page.getByRole("navigation", { name: "Admin" }).getByRole("link", { name: "Users" }));
  await keyboard.type(page.getByLabel("Email or user ID"), theirs);
  await keyboard.go();
  await keyboard.press(page.getByRole("table").getByRole("link"));
  await expectPage(page, theirs);
  await keyboard.press(link(page, "Disable account"));
  await keyboard.type(page.getByLabel("Reason"), "Left the company");
  await keyboard.press(button(page, "Disable account"));
  await expectPage(page, theirs);
  await expect(page.getByRole("main")).toContainText("Disabled");
});

test("help is searched and read", async ({ page }) => {
  const keyboard = new Keyboard(page);
  await page.goto("/help");
  await keyboard.type(page.getByLabel("Search help"), "lost phone");
  await keyboard.go();
  await keyboard.press(link(page, "I've lost my phone"));
  await expectPage(page, "I've lost my phone", "/help/lost-phone");
  await keyboard.press(page.getByRole("navigation", { name: "Related" }).getByRole("link", { name: "Use a backup code" }));
  await expectPage(page, "Use a backup code", "/help/backup-codes");
});
