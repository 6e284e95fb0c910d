// Administrators look after other people's accounts, on the pages and at the shell.

import type { Page } from "@playwright/test";

import { administratorSignedIn, signInAsAdministrator } from "../support/administrator.ts";
import { signInMailed, signedInByCode, signedUpByCode, times, twoFactorTurnedOn } from "../support/events.ts";
import { askForMail, button, expectAccount, expectPage, expectSignedOut, link, press, signIn, submitCode } from "../support/journey.ts";
import { alone, latchkey, letFactorsAge, sql } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";
import { enrol, giveSecondFactor } from "../support/two_factor.ts";

/** By the list, as one who knows the address and nothing else. */
async function open(page: Page, address: string): Promise<void> {
  await page.goto("/admin/users");
  await page.getByLabel("Email or user ID").fill(address);
  await press(button(page, "Search"));
  await press(page.getByRole("table").getByRole("link"));
  await expectPage(page, address);
}

/** From an account's page, by the page that asks why. Returns the status of the answer. */
async function change(page: Page, verb: string, reason: string): Promise<number> {
  await press(link(page, verb));
  return giveReason(page, verb, reason);
}

async function giveReason(page: Page, verb: string, reason: string): Promise<number> {
  await page.getByLabel("Reason").fill(reason);
  return (await press(button(page, verb))).status();
}

/** How often an account's page is made: it is recorded each time. One change does so twice. */
const viewed = (n: number) => times(n, "user.viewed");

test("who is no administrator finds what everybody finds", async ({ page, baseURL, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode);
  await page.goto("/admin/users");
  await expectPage(page, "Sign in", "/login?next=/admin/users");
  await signIn(page, mailbox, address);
  const nowhere = await page.goto("/no-such-page");
  const found = async () => (await page.locator("body").innerText()).replace(/Request .*/, "");
  const words = await found();
  expect(nowhere?.status()).toBe(404);
  for (const path of ["", "?q=mara", "/invite", "/00000000-0000-4000-8000-000000000000", "/00000000-0000-4000-8000-000000000000/disable"]) {
    expect((await page.goto(`/admin/users${path}`))?.status()).toBe(404);
    expect(await found()).toBe(words);
  }
  await expectPage(page, "We can't find that page");
  await checkPage(page, "admin-not-found");
  for (const path of ["invite", "disable", "make-admin"]) {
    const form = { id: "00000000-0000-4000-8000-000000000000", email: address, reason: "I want to" };
    const answer = await page.request.post(`/admin/users/${path}`, { form, headers: { Origin: baseURL ?? "" } });
    expect(answer.status()).toBe(404);
  }
});

test("an administrator sets up two-factor first, then finds somebody", { tag: "@phone" }, async ({ page, server, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(administratorSignedIn, [signedUpByCode, "name.changed"], viewed(1));
  const theirs = anotherAddress();
  const person = await otherBrowser();
  await signIn(person, mailbox, theirs);
  await person.getByLabel("Your name").fill("Mara Lindqvist");
  await press(button(person, "Save your name"));

  await latchkey(server, "user", "create", address, "--admin");
  await submitCode(page, (await askForMail(page, mailbox, address, "/login?next=/admin/users")).code);
  await expectPage(page, "Set up two-factor", "/account/two-factor/setup");
  await expect(page.getByText("Two-factor comes first.")).toBeVisible();
  await checkPage(page, "two-factor-required");
  await enrol(page);
  await page.goto("/account");
  const main = page.getByRole("main");
  await expect(main.getByText("Admin", { exact: true })).toBeVisible();
  await checkPage(page, "account-admin");
  await press(link(page, "Open users"));
  await expectPage(page, "Users", "/admin/users");
  await checkPage(page, "admin-users");

  const [search, twoFactor, table] = [page.getByLabel("Email or user ID"), page.getByLabel("Two-factor"), page.getByRole("table")];
  await search.fill(theirs);
  await twoFactor.selectOption("Off");
  await page.getByLabel("Status").selectOption("Active");
  await press(button(page, "Search"));
  await expect(main).toContainText("1 match. Addresses are masked until you open an account.");
  await expect(search).toHaveValue(theirs);
  await expect(table).toContainText("m•••••@example.org");
  await expect(table).toContainText(/Today, \d\d:\d\d/);
  await expect(main).not.toContainText(theirs);
  await checkPage(page, "admin-users-found");
  await twoFactor.selectOption("On");
  await press(button(page, "Search"));
  await expect(main).toContainText("Nobody matches");
  await checkPage(page, "admin-users-none");
  await press(link(page, "Clear filters"));
  await expect(twoFactor).toHaveValue("");

  await open(page, theirs);
  await expect(main).toContainText("Mara Lindqvist");
  await expect(main).toContainText(/Active .* ago/);
  await expect(main.getByText("Name changed")).toBeVisible();
  await checkPage(page, "admin-user");
});

test("an administrator turns an account off and on, and ends its sessions", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(
    [administratorSignedIn, signedUpByCode],
    viewed(9),
    ["user.disabled", "session.revoked account_off", "mail.sent account_disabled"],
    ["link.requested", "mail.sent account_off"],
    ["user.enabled", "mail.sent account_enabled"],
    signedInByCode,
    ["user.sessions_ended", "session.revoked ended_by_admin", "mail.sent sessions_ended"],
  );
  const theirs = anotherAddress();
  const person = await otherBrowser();
  await signIn(person, mailbox, theirs);
  await signInAsAdministrator(page, server, mailbox, address);
  await open(page, theirs);
  const main = page.getByRole("main");
  await press(link(page, "Disable account"));
  await expectPage(page, "Disable this account?");
  await expect(main).toContainText(theirs);
  await checkPage(page, "admin-disable");
  expect(await giveReason(page, "Disable account", "  ")).toBe(422);
  await expectPage(page, "Disable this account?");
  await expect(page.getByText("Say why you're changing this")).toBeVisible();
  await expect(main).toContainText(theirs);
  await expect(page).toHaveTitle("Error: Disable this account? – Latchkey admin");
  await checkPage(page, "admin-disable-no-reason");
  await person.reload();
  await expectAccount(person, theirs);
  await giveReason(page, "Disable account", "sends spam");
  await expectPage(page, theirs);
  await expect(page.locator(".notice")).toContainText("Account disabled");
  await expect(main).toContainText("Nobody is signed in to this account.");
  await checkPage(page, "admin-user-disabled");

  await expectSignedOut(person);
  const told = await mailbox.next(theirs, "Your account was turned off");
  expect(told.text).not.toContain("sends spam");
  expect((await askForMail(person, mailbox, theirs)).text).toContain("its account is turned off");

  await change(page, "Enable account", "they've stopped");
  await expect(page.locator(".notice")).toContainText("Account enabled");
  await mailbox.next(theirs, "Your account is on again");
  await signIn(person, mailbox, theirs);
  await page.reload();
  await change(page, "End all sessions", "left a browser open");
  await expect(page.locator(".notice")).toContainText("All sessions ended");
  await mailbox.next(theirs, "You were signed out everywhere");
  await expectSignedOut(person);
});

test("an administrator gives their own code again, and resets somebody's two-factor", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(
    [signedUpByCode, twoFactorTurnedOn],
    administratorSignedIn,
    ["totp.accepted step_up", "step_up.passed totp"],
    viewed(3),
    ["two_factor.reset", "session.revoked two_factor_changed", "mail.sent two_factor_reset"],
    [signedInByCode, "mail.sent new_sign_in"],
  );
  const theirs = anotherAddress();
  const person = await otherBrowser();
  await signIn(person, mailbox, theirs);
  await enrol(person);
  const { app } = await signInAsAdministrator(page, server, mailbox, address);
  await open(page, theirs);
  await checkPage(page, "admin-user-two-factor");

  await letFactorsAge(server, address);
  await press(link(page, "Reset two-factor"));
  await expectPage(page, "Confirm it's you", /\/reauth\?next=\/admin\/users\/[0-9a-f-]{36}\/reset-two-factor$/);
  await giveSecondFactor(page, app.code());
  await expectPage(page, "Reset two-factor?");
  await checkPage(page, "admin-reset-two-factor");
  await giveReason(page, "Reset two-factor", "lost phone, seen in person");
  await expectPage(page, theirs);
  await expect(page.locator(".notice")).toContainText("Two-factor reset");

  await expectSignedOut(person);
  const told = await mailbox.next(theirs, "Two-factor was reset");
  expect(told.text).not.toContain("seen in person");
  await signIn(person, mailbox, theirs);
});

test("an administrator makes somebody another, and an ordinary account again", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(
    [signedUpByCode, twoFactorTurnedOn],
    administratorSignedIn,
    viewed(5),
    ["admin.granted", "mail.sent admin_granted"],
    ["admin.revoked", "mail.sent admin_revoked"],
  );
  const theirs = anotherAddress();
  const person = await otherBrowser();
  await signIn(person, mailbox, theirs);
  await signInAsAdministrator(page, server, mailbox, address);
  await open(page, theirs);
  await press(link(page, "Make administrator"));
  await expectPage(page, "Make this person an administrator?");
  await checkPage(page, "admin-make");
  await giveReason(page, "Make administrator", "helps out");
  await expect(page.locator(".notice")).toContainText("They're an administrator now");
  await mailbox.next(theirs, "You're an administrator now");

  await person.goto("/admin/users");
  await expectPage(person, "Set up two-factor", "/account/two-factor/setup");
  await enrol(person);
  await person.goto("/admin/users");
  await expectPage(person, "Users");

  await change(page, "Remove administrator", "is on leave");
  await expect(page.locator(".notice")).toContainText("They're no administrator any more");
  await mailbox.next(theirs, "You're no longer an administrator");
  expect((await person.goto("/admin/users"))?.status()).toBe(404);
});

test.describe("where only who is invited signs up", () => {
  test.use({ serverName: "invite" });

  test("the last administrator invites somebody, and can't go before they take over", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, checkPage, expectEvents }) => {
    expectEvents(
      administratorSignedIn,
      ["invite.created", "mail.sent invite"],
      [signInMailed, "invite.used", "user.created", "link.redeemed code", "session.created email"],
      viewed(7),
      ["admin.granted", "mail.sent admin_granted"],
      ["admin.revoked", "mail.sent admin_revoked"],
    );
    await alone(server, async () => {
      await sql(server, "update users set is_admin = false");
      const theirs = anotherAddress();
      await signInAsAdministrator(page, server, mailbox, address);
      await page.goto("/account/delete");
      expect((await press(button(page, "Delete my account"))).status()).toBe(409);
      await expectPage(page, "You're the last administrator");
      await checkPage(page, "delete-last-admin");

      await open(page, address);
      expect(await change(page, "Remove administrator", "had enough")).toBe(409);
      await expectPage(page, "Nothing was changed");
      await expect(page.getByText("This is the last administrator. Make somebody else one first.")).toBeVisible();
      await checkPage(page, "admin-last");
      await press(link(page, "Find somebody else"));

      await press(link(page, "Invite someone"));
      await expectPage(page, "Invite someone", "/admin/users/invite");
      await checkPage(page, "admin-invite");
      for (const [typed, error] of [
        ["mara.example.org", "Enter an email address, like name@example.org"],
        [address, "There's already an account with this address"],
      ] as const) {
        await page.getByLabel("Email address").fill(typed);
        expect((await press(button(page, "Send invitation"))).status()).toBe(422);
        await expect(page.getByText(error)).toBeVisible();
        await expect(page.getByLabel("Email address")).toHaveValue(typed);
      }
      await checkPage(page, "admin-invite-has-account");
      await page.getByLabel("Email address").fill(theirs);
      await press(button(page, "Send invitation"));
      await expectPage(page, "Users");
      await expect(page.locator(".notice")).toContainText("Invitation sent");
      await expect(page.getByRole("table")).toContainText("Invited");
      await checkPage(page, "admin-invited");

      const { hostname } = new URL(server.url);
      const invitation = await mailbox.next(theirs, `You're invited to ${hostname}`);
      expect(invitation.text).toContain(`${address} invited you.`);
      const person = await otherBrowser();
      await person.goto(invitation.linkTo("/invite"));
      await expectPage(person, `You're invited to ${hostname}`);
      await checkPage(person, "invite");
      await press(button(person, "Send sign-in email"));
      await submitCode(person, (await mailbox.next(theirs)).code);
      await expectAccount(person, theirs);
      expect((await person.goto(invitation.linkTo("/invite")))?.status()).toBe(410);
      await expectPage(person, "This invitation has already been used");
      await checkPage(person, "invite-used");

      await open(page, theirs);
      await change(page, "Make administrator", "takes over");
      await open(page, address);
      await change(page, "Remove administrator", "had enough");
      await expectAccount(page, address);
      expect((await page.goto("/admin/users"))?.status()).toBe(404);
      await mailbox.next(address, "You're no longer an administrator");
    });
  });
});

test("an operator looks after accounts at the shell, beside the running server", async ({ page, server, mailbox, address, anotherAddress, otherBrowser, expectEvents }) => {
  expectEvents(
    times(2, signedUpByCode),
    [signedInByCode, "mail.sent new_sign_in"],
    ["user.sessions_ended", times(2, "session.revoked ended_by_admin"), "mail.sent sessions_ended"],
    ["user.disabled", "session.revoked account_off", "mail.sent account_disabled"],
    ["user.enabled", "mail.sent account_enabled"],
  );
  const theirs = anotherAddress();
  await signIn(page, mailbox, address);
  const [other, neighbour] = [await otherBrowser(), await otherBrowser()];
  await signIn(other, mailbox, address);
  await signIn(neighbour, mailbox, theirs);

  const listed = JSON.parse(await latchkey(server, "user", "list", "--search", address, "--json"));
  expect(listed).toMatchObject({ matching: 1, users: [{ email: address, status: "active", admin: false, two_factor: false, sessions: 2 }] });
  expect(await latchkey(server, "user", "list", "--search", listed.users[0].id)).toContain(address);
  const { sessions } = JSON.parse(await latchkey(server, "session", "list", address, "--json"));
  expect(sessions).toHaveLength(2);
  expect(sessions[0]).toMatchObject({ ip: "127.0.0.1", method: "code", second_method: null });

  const ended = JSON.parse(await latchkey(server, "session", "revoke", "--user", address, "--reason", "lost laptop", "--json"));
  expect(ended).toEqual({ ended: 2 });
  await expectSignedOut(page);
  await expectSignedOut(other);
  await mailbox.next(address, "You were signed out everywhere");
  expect(await latchkey(server, "session", "list", address)).toBe("No sessions.");

  await neighbour.reload();
  await expectAccount(neighbour, theirs);
  await latchkey(server, "user", "disable", theirs, "--reason", "sends spam");
  await expectSignedOut(neighbour);
  await mailbox.next(theirs, "Your account was turned off");
  await expect(latchkey(server, "user", "disable", theirs)).rejects.toThrow("This account is off already.");
  await latchkey(server, "user", "enable", theirs);
  await mailbox.next(theirs, "Your account is on again");
});
