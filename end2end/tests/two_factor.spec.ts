import { Authenticator, scan } from "../support/authenticator.ts";
import {
  firstFactorGiven,
  signInMailed,
  signedInByApp,
  signedInByBackupCode,
  signedInByCode,
  signedOut,
  signedUpByCode,
  times,
  twoFactorTurnedOff,
  twoFactorTurnedOn,
} from "../support/events.ts";
import { button, expectAccount, expectPage, link, press, signIn, signOut, submitCode, tick } from "../support/journey.ts";
import { latchkey, letFactorsAge } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";
import { enrol, finish, giveBackupCode, giveFirstFactor, giveSecondFactor, shownCodes } from "../support/two_factor.ts";

test("two-factor: set up by scanning, sign in with it, turn it off", { tag: ["@phone", "@js"] }, async ({ page, server, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    twoFactorTurnedOn,
    signedOut,
    [firstFactorGiven, "totp.refused wrong", "mail.sent second_step_failed", signedInByApp],
    ["totp.refused wrong", "totp.accepted turn_off", "step_up.passed totp", twoFactorTurnedOff],
    signedOut,
    signedInByCode,
  );
  await signIn(page, mailbox, address);
  await press(page.getByRole("main").getByRole("button", { name: "Set up two-factor" }));
  await expectPage(page, "Set up two-factor", "/account/two-factor/setup");
  await checkPage(page, "two-factor-setup");

  const key = (await page.locator(".copy").innerText()).replaceAll(/\s/g, "");
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    const scanned = scan(await page.locator(".qr").screenshot());
    expect(scanned?.protocol).toBe("otpauth:");
    expect(decodeURIComponent(scanned?.pathname ?? "")).toContain(`Latchkey:${address}`);
    expect(scanned?.searchParams.get("secret")).toBe(key);
    expect(scanned?.searchParams.get("issuer")).toBe("Latchkey");
  }
  await page.emulateMedia({ colorScheme: null });

  const app = new Authenticator(key);
  await page.getByLabel("Name of this app").fill("Work phone");
  await page.getByLabel("Code from your app").fill(app.wrongCode());
  expect((await press(button(page, "Turn on two-factor"))).status()).toBe(422);
  await expect(page.getByText("Check that your phone's clock sets itself").first()).toBeVisible();
  await expect(page.getByLabel("Name of this app")).toHaveValue("Work phone");
  await checkPage(page, "two-factor-setup-wrong");

  await page.getByLabel("Code from your app").fill(app.code());
  const revealed = await press(button(page, "Turn on two-factor"));
  expect(await revealed.headerValue("cache-control")).toContain("no-store");
  await expectPage(page, "Save your backup codes");
  await expect(page.getByText("Two-factor is on.")).toBeVisible();
  const codes = await shownCodes(page);
  const download = await page.getByRole("link", { name: "Download (.txt)" }).getAttribute("href");
  const file = Buffer.from(download?.split(",")[1] ?? "", "base64").toString();
  for (const code of codes) expect(file).toContain(code);
  await checkPage(page, "backup-codes");

  // On paper: whose they are, since when, and nothing that can be pressed.
  await expect(page.locator(".paper")).toBeHidden();
  await page.emulateMedia({ media: "print" });
  await expect(page.locator(".paper")).toContainText(address);
  await expect(page.locator(".paper time")).toBeVisible();
  for (const code of codes) await expect(page.getByText(code)).toBeVisible();
  for (const gone of ["banner", "navigation", "button"] as const) await expect(page.getByRole(gone)).toHaveCount(0);
  await page.emulateMedia({ media: null });
  await finish(page);
  await checkPage(page, "two-factor");
  await page.goto("/account");
  await checkPage(page, "account-two-factor");
  await mailbox.next(address, "Two-factor is on");

  await signOut(page);
  await giveFirstFactor(page, mailbox, address);
  await checkPage(page, "login-two-factor");
  // The code that turned it on is burnt, as long as the app shows it.
  await page.goto("/account");
  await expectPage(page, "Enter your authenticator code", "/login/two-factor");
  expect(await giveSecondFactor(page, app.wrongCode())).toBe(422);
  await expect(page.getByText(/That code isn't right\. Wait for the next code in your app and try that\./)).toBeVisible();
  await checkPage(page, "login-two-factor-wrong");
  // Whoever came this far reads the owner's mail, if it isn't the owner.
  await mailbox.next(address, "A sign-in was stopped at the second step");
  await letFactorsAge(server, address);
  await giveSecondFactor(page, app.code());
  await expectAccount(page, address);
  await expect(page.getByRole("main")).toContainText(/Email (link|code), authenticator app/);

  await page.goto("/account/two-factor/turn-off");
  await expectPage(page, "Turn off two-factor?");
  await checkPage(page, "two-factor-off");
  await page.getByLabel("Code from your app").fill(app.wrongCode());
  expect((await press(button(page, "Turn off two-factor"))).status()).toBe(422);
  await letFactorsAge(server, address);
  await page.getByLabel("Code from your app").fill(app.code());
  await press(button(page, "Turn off two-factor"));
  await expectAccount(page, address);
  await mailbox.next(address, "Two-factor is off");
  await signOut(page);
  await signIn(page, mailbox, address);
});

test("a code works once, whoever has seen it", async ({ page, server, mailbox, address, otherBrowser, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    twoFactorTurnedOn,
    signedOut,
    [firstFactorGiven, signedInByApp],
    [firstFactorGiven, "totp.refused used", "mail.sent second_step_failed"],
  );
  await signIn(page, mailbox, address);
  const { app } = await enrol(page);
  await signOut(page);
  await giveFirstFactor(page, mailbox, address);
  await letFactorsAge(server, address);
  const code = app.code();
  await giveSecondFactor(page, code);
  await expectAccount(page, address);
  const other = await otherBrowser();
  await other.goto(`${server.url}/login`);
  await other.getByLabel("Email address").fill(address);
  await press(button(other, "Send sign-in email"));
  await submitCode(other, (await mailbox.next(address)).code);
  await expectPage(other, "Enter your authenticator code");
  expect(await giveSecondFactor(other, code)).toBe(422);
  await expect(other.getByText("You've used that code. Wait for the next one.")).toBeVisible();
  await mailbox.next(address, "A sign-in was stopped at the second step");
});

test("the phone is lost: a backup code signs in, new codes are made, two-factor is turned off", { tag: "@phone" }, async ({ page, mailbox, address, server, checkPage, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    twoFactorTurnedOn,
    signedOut,
    [firstFactorGiven, signedInByBackupCode],
    ["backup_code.refused used", "backup_code.used step_up", "mail.sent backup_code_used", "step_up.passed backup_code"],
    [times(2, "backup_codes.created"), "backup_codes.saved", "mail.sent backup_codes_new"],
    ["step_up.passed backup_code", twoFactorTurnedOff],
  );
  await signIn(page, mailbox, address);
  const { codes } = await enrol(page);
  await signOut(page);
  await giveFirstFactor(page, mailbox, address);
  await press(link(page, "Use a backup code"));
  await expectPage(page, "Enter a backup code", "/login/backup-code");
  await checkPage(page, "login-backup-code");
  expect(await giveBackupCode(page, "nonsense")).toBe(422);
  await expect(page.getByText("Enter a backup code, like k7qd-m2xw-t9hp")).toBeVisible();
  await giveBackupCode(page, codes[0]?.toUpperCase().replaceAll("-", " ") ?? "");
  await expectAccount(page, address);
  await mailbox.next(address, "A backup code was used");

  await letFactorsAge(server, address);
  await page.goto("/account/backup-codes");
  await expectPage(page, "Confirm it's you", "/reauth?next=/account/backup-codes");
  await checkPage(page, "reauth-app");
  await press(link(page, "Use a backup code"));
  expect(await giveBackupCode(page, codes[0] ?? "")).toBe(422);
  await expect(page.getByText("You've already used that backup code. Try another.")).toBeVisible();
  await checkPage(page, "reauth-backup-code");
  await giveBackupCode(page, codes[1] ?? "");
  await expectPage(page, "Get new backup codes?", "/account/backup-codes");
  await checkPage(page, "backup-codes-ask");
  await press(button(page, "Get new codes"));
  await expectPage(page, "Save your backup codes");
  const fresh = await shownCodes(page);
  expect(fresh.filter((code) => codes.includes(code))).toEqual([]);
  // Gone without a tick: the security page says so, and the old codes work on.
  await page.goto("/account");
  await expect(page.getByText("You haven't saved your backup codes.")).toBeVisible();
  await page.goto("/account/backup-codes");
  await press(button(page, "Get new codes"));
  const saved = await shownCodes(page);
  await finish(page);

  await press(page.getByRole("link", { name: "Turn off two-factor" }));
  await press(button(page, "Turn off two-factor"));
  await expectAccount(page, address);
  await expect(page.getByRole("main")).toContainText("Off");
  expect(saved).toHaveLength(10);
});

test("an operator resets two-factor", async ({ page, mailbox, address, server, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    twoFactorTurnedOn,
    ["two_factor.reset", "session.revoked two_factor_changed", "mail.sent two_factor_reset"],
    [signedInByCode, "mail.sent new_sign_in"],
  );
  await signIn(page, mailbox, address);
  await enrol(page);
  const said = await latchkey(server, "user", "reset-2fa", address, "--reason", "lost phone, seen in person");
  expect(said).toContain("Two-factor");
  await page.goto("/account");
  await expectPage(page, "Sign in", "/login?next=/account");
  const told = await mailbox.next(address, "Two-factor was reset");
  expect(told.text).not.toContain("seen in person");
  await signIn(page, mailbox, address);
});

test("a trusted browser is not asked, until trust is taken back", { tag: "@phone" }, async ({ page, mailbox, address, server, context, checkPage, expectEvents }) => {
  expectEvents(
    signedUpByCode,
    twoFactorTurnedOn,
    signedOut,
    [firstFactorGiven, signedInByApp, "device.trusted"],
    signedOut,
    [signInMailed, "link.redeemed code", "session.created two_factor"],
    "device.revoked",
    signedOut,
    firstFactorGiven,
  );
  await signIn(page, mailbox, address);
  const { app } = await enrol(page);
  await signOut(page);
  await giveFirstFactor(page, mailbox, address);
  await letFactorsAge(server, address);
  await tick(page, "Don't ask for a code on this browser for 30 days.");
  await giveSecondFactor(page, app.code());
  await expectAccount(page, address);
  const cookie = (await context.cookies()).find(({ name }) => name === "__Host-latchkey-device");
  expect(cookie).toMatchObject({ secure: true, httpOnly: true, sameSite: "Lax", path: "/" });

  await signOut(page);
  await signIn(page, mailbox, address);
  await expect(page.getByRole("main")).toContainText(/Email (link|code), trusted browser/);
  // Trust is no factor: a change asks for one.
  await page.goto("/account/backup-codes");
  await expectPage(page, "Confirm it's you");

  await page.goto("/account/devices");
  await expectPage(page, "Your browsers");
  await checkPage(page, "devices");
  await press(page.getByRole("button", { name: /^Stop trusting/ }).first());
  await expect(page.getByText("No trusted browsers")).toBeVisible();
  await checkPage(page, "devices-none");
  await signOut(page);
  await giveFirstFactor(page, mailbox, address);
});

test("a change asks for a code by mail where there is no two-factor", async ({ page, mailbox, address, server, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, "step_up.mailed", "mail.sent step_up", "step_up.refused", "step_up.passed mail");
  await signIn(page, mailbox, address);
  await letFactorsAge(server, address);
  await page.goto("/account/two-factor/setup");
  await expectPage(page, "Confirm it's you", "/reauth?next=/account/two-factor/setup");
  await checkPage(page, "reauth-mail");
  await press(button(page, "Send the code"));
  const mail = await mailbox.next(address, "Your code for Latchkey");
  await checkPage(page, "reauth-mail-sent");
  await page.getByLabel("6-digit code").fill(mail.wrongCode());
  expect((await press(button(page, "Continue"))).status()).toBe(422);
  await page.getByLabel("6-digit code").fill(mail.code);
  await press(button(page, "Continue"));
  await expectPage(page, "Set up two-factor", "/account/two-factor/setup");
});
