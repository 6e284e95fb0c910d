// The pictures in help and in the README, taken on the way of somebody who signs in, and of somebody who looks after others. Where one
// isn't what the screen looks like any more, this fails; `make pictures` takes them anew.

import { administratorSignedIn, signInAsAdministrator } from "../support/administrator.ts";
import { Authenticator, scan } from "../support/authenticator.ts";
import { firstFactorGiven, signedInByApp, signedOut, signedUpByLink, times, twoFactorTurnedOn } from "../support/events.ts";
import { button, expectAccount, expectPage, link, openLink, press, submitAddress, tick } from "../support/journey.ts";
import { Pictures } from "../support/pictures.ts";
import { note } from "../support/seen.ts";
import { letFactorsAge } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";
import { finish, giveFirstFactor, giveSecondFactor, shownCodes } from "../support/two_factor.ts";

test.use({ serverName: "pictures" });

const elsewhere = {
  userAgent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
  extraHTTPHeaders: { "X-Forwarded-For": "198.51.100.7" },
};

test("every picture is what the screen looks like", async ({ page, server, mailbox, addresses, otherBrowser, expectEvents }) => {
  test.setTimeout(240_000);
  const [mara, priya] = ["mara@example.org", "priya@example.org"];
  for (const address of [mara, priya]) {
    note({ kind: "address", what: "an address", value: address });
    addresses.add(address);
  }
  expectEvents(
    [signedUpByLink, twoFactorTurnedOn, signedOut],
    [firstFactorGiven, signedInByApp, "device.trusted"],
    [firstFactorGiven, signedInByApp, "mail.sent new_sign_in", signedOut],
    [administratorSignedIn, times(2, "user.viewed")],
    [times(2, "flag.changed"), "rollout.started"],
  );
  const pictures = new Pictures(page);
  const main = page.getByRole("main");
  const panel = (heading: string) => main.locator(".panel", { has: page.getByRole("heading", { name: heading, exact: true }) });

  await test.step("signing in", async () => {
    await page.goto("/login");
    await pictures.forHelp("sign-in");
    await submitAddress(page, mara);
    await expectPage(page, "Check your email", "/login/sent");
    await pictures.forHelp("check-your-email");
    const mail = await mailbox.next(mara);
    const other = await otherBrowser(elsewhere);
    await other.goto(mail.link);
    await expectPage(other, "Open this on the device you started on");
    await openLink(page, mail, "Sign in to Latchkey?");
    await pictures.forHelp("confirm-link");
    await press(button(page, "Sign in"));
    await expectAccount(page, mara);
    await openLink(page, mail, "This link has already been used");
    await pictures.forHelp("link-used");
  });

  const { app } = await test.step("two-factor", async () => {
    await page.goto("/account");
    await press(main.getByRole("button", { name: "Set up two-factor" }));
    await expectPage(page, "Set up two-factor", "/account/two-factor/setup");
    const key = (await page.locator(".copy").innerText()).replaceAll(/\s/g, "");
    const app = new Authenticator(key);
    await pictures.forHelp("set-up-two-factor");
    expect(scan(await page.locator(".qr").screenshot()), "nobody sets up an app with a picture").toBeUndefined();
    await page.getByLabel("Code from your app").fill(app.code());
    await press(button(page, "Turn on two-factor"));
    await expectPage(page, "Save your backup codes");
    await shownCodes(page);
    await pictures.forHelp("backup-codes");
    await finish(page);
    return { app };
  });

  await test.step("the second step, and a browser that is trusted", async () => {
    await press(button(page, "Sign out"));
    await giveFirstFactor(page, mailbox, mara);
    await pictures.forHelp("second-step");
    await press(link(page, "Use a backup code"));
    await expectPage(page, "Enter a backup code");
    await pictures.forHelp("enter-backup-code");
    await page.goto("/login/two-factor");
    await letFactorsAge(server, mara);
    await tick(page, /^Don't ask for a code on this browser/);
    await giveSecondFactor(page, app.code());
    await expectAccount(page, mara);
    await page.goto("/account/devices");
    await pictures.forHelp("trusted-browsers");
  });

  await test.step("what an account's owner sees of it", async () => {
    const other = await otherBrowser(elsewhere);
    await giveFirstFactor(other, mailbox, mara);
    await letFactorsAge(server, mara);
    await giveSecondFactor(other, app.code());
    await page.goto("/account/sessions");
    await pictures.forHelp("sessions");
    await letFactorsAge(server, mara);
    await page.goto("/account/two-factor/turn-off");
    await pictures.forHelp("turn-off-two-factor");
  });

  await test.step("for the README", async () => {
    await page.goto("/account");
    await pictures.forReadme("account");
    await press(button(page, "Sign out"));
    await page.goto("/login");
    await pictures.forReadme("sign-in");
  });

  await test.step("an administrator", async () => {
    await signInAsAdministrator(page, server, mailbox, priya);
    await page.goto("/admin/users");
    await page.getByLabel("Email or user ID").fill(mara);
    await press(button(page, "Search"));
    await press(page.getByRole("table").getByRole("link"));
    await expectPage(page, mara);
    await pictures.forHelp("admin-account", panel("Change this account"));
    await press(link(page, "Reset two-factor"));
    await expectPage(page, "Reset two-factor?");
    await pictures.forHelp("admin-reset-two-factor");
    await page.goto("/admin/users/invite");
    await pictures.forHelp("admin-invite");
    await page.goto("/admin/rollout");
    const change = async (act: string, confirmed: string) => {
      await page.getByLabel("Reason").fill("As agreed on Monday");
      await press(button(page, act));
      await press(button(page, confirmed));
      await expectPage(page, "Rollout", "/admin/rollout?done=changed");
    };
    await change("Turn off now", "Turn off now");
    await change("Start the guarded rollout", "Start the rollout");
    // Accounts are counted once a minute.
    await expect(async () => {
      await page.goto("/admin/rollout");
      await expect(main).toContainText("2 accounts.", { timeout: 1 });
    }).toPass({ timeout: 90_000 });
    await pictures.forHelp("admin-rollout", button(page, "End the rollout"));
  });

  pictures.expectNoOthers();
});
