import type { Locator, Page } from "@playwright/test";

import { signedInByCode, signedUpByCode, times, twoFactorTurnedOn } from "../support/events.ts";
import { button, expectAccount, expectPage, expectSignedOut, link, openLink, press, signIn } from "../support/journey.ts";
import type { Mail, Mailbox } from "../support/mail_server.ts";
import { letFactorsAge, letUndoLinksAge, sql } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";
import { enrol } from "../support/two_factor.ts";

/** Somebody's second browser: its owner is told. */
const signedInElsewhere = [signedInByCode, "mail.sent new_sign_in"];

async function signInElsewhere(other: Page, mailbox: Mailbox, address: string): Promise<Mail> {
  await signIn(other, mailbox, address);
  return mailbox.next(address, "New sign-in to your Latchkey account");
}

function panel(page: Page, heading: string): Locator {
  return page.getByRole("main").locator(".panel", { has: page.getByRole("heading", { name: heading, exact: true }) });
}

function row(within: Locator, heading: string | RegExp): Locator {
  return within.locator(".row").filter({ has: within.page().getByRole("heading", { name: heading }) });
}

test("the account's page tells where one is signed in, what happened lately, and what to see to", { tag: "@phone" }, async ({ page, server, mailbox, address, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, signedInElsewhere, twoFactorTurnedOn, "session.revoked two_factor_changed");
  await signIn(page, mailbox, address);
  await signInElsewhere(await otherBrowser(), mailbox, address);
  await page.reload();
  const sessions = panel(page, "Where you're signed in").locator(".row");
  await expect(sessions).toHaveCount(2);
  await expect(sessions.first()).toContainText("This device");
  await expect(sessions.last()).toContainText("New device");
  await expect(sessions.last()).toContainText("127.0.0.1");
  const recent = panel(page, "Recent activity");
  await expect(recent.getByRole("heading", { level: 3 })).toHaveText([
    /^Signed in from a new device/,
    "Sign-in email sent",
    /^Signed in/,
    "Account created",
    "Sign-in email sent",
  ]);
  await expect(row(recent, "Account created")).toContainText(/Today, \d\d:\d\d UTC/);
  await checkPage(page, "account-sessions");

  await enrol(page);
  await sql(
    server,
    `update totp_credentials set failures = 100, disabled_at = now() from users u where user_id = u.id and email_key = :'address';
     update backup_codes set used_at = now() where id in (
       select c.id from backup_codes c join users u on u.id = user_id where email_key = :'address' limit 8
     );`,
    { address },
  );
  await page.goto("/account");
  await expect(page.getByText("We've stopped accepting codes from Authenticator app.")).toBeVisible();
  await expect(page.getByText("2 backup codes left.")).toBeVisible();
  await checkPage(page, "account-warnings");
  await press(link(page, "Get new codes").first());
  await expectPage(page, "Get new backup codes?");
});

test("a name is set, refused where it is none, and taken away", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, times(2, "name.changed"));
  await signIn(page, mailbox, address);
  const name = page.getByLabel("Your name");
  const save = async (typed: string) => {
    await name.fill(typed);
    return (await press(button(page, "Save your name"))).status();
  };
  expect(await save("  Mara Lindqvist ")).toBe(200);
  await expectAccount(page, address);
  await expect(name).toHaveValue("Mara Lindqvist");

  // Pasted from where text runs the other way: it would turn around whatever stands beside it.
  const turned = "Mara \u202eLindqvist";
  expect(await save(turned)).toBe(422);
  await expect(page.getByText("Enter your name in one line, in plain letters")).toBeVisible();
  await expect(name).toHaveValue(turned);
  await expect(name).toBeFocused();
  await expect(page).toHaveTitle("Error: Security – Latchkey");
  await checkPage(page, "account-name-refused");
  await page.goto("/account");
  await expect(name).toHaveValue("Mara Lindqvist");

  expect(await save("")).toBe(200);
  await expect(name).toHaveValue("");
  // What is so already is no news.
  expect(await save(" ")).toBe(200);
});

test("another session is seen, ended, and told of", { tag: "@phone" }, async ({ page, mailbox, address, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, times(3, signedInElsewhere), times(3, "session.revoked signed_out_elsewhere"));
  await signIn(page, mailbox, address);
  await press(link(page, "All sessions"));
  await expectPage(page, "Sessions", "/account/sessions");
  const main = page.getByRole("main");
  await expect(main).toContainText("Active now");
  await expect(main).toContainText("with an email code");
  await expect(main).toContainText("No other sessions");
  await checkPage(page, "sessions-none");

  const open = async () => {
    const other = await otherBrowser();
    await signInElsewhere(other, mailbox, address);
    return other;
  };
  const endOne = main.getByRole("button", { name: /^Sign out Chrome on / });
  const first = await open();
  await page.reload();
  await expect(main.locator(".row")).toHaveCount(2);
  await expect(main.locator(".row").last()).toContainText("New device");
  await expect(main).toContainText("Ends the other session. You stay signed in here.");
  await checkPage(page, "sessions");
  await press(endOne);
  await expectPage(page, "Sessions", "/account/sessions");
  await expect(endOne).toHaveCount(0);
  await expectSignedOut(first);

  const others = [await open(), await open()];
  await page.reload();
  await expect(main).toContainText("Ends the 2 other sessions.");
  await press(button(page, "Sign out other sessions"));
  await expectPage(page, "Sessions", "/account/sessions");
  await expect(main).toContainText("No other sessions");
  for (const other of others) await expectSignedOut(other);

  await page.getByRole("navigation", { name: "Account" }).getByRole("link", { name: "Activity" }).click();
  await expectPage(page, "Activity", "/account/activity");
  await expect(main.getByRole("heading", { name: "Another session signed out" })).toHaveCount(3);
  await expect(main.getByRole("heading", { name: /^Signed in/ })).toHaveCount(4);
  await expect(main.getByRole("heading", { name: /^Today, / })).toBeVisible();
  await checkPage(page, "activity");
  await press(link(page, "Sign out your other sessions"));
  await expectPage(page, "Sessions", "/account/sessions");
});

test("nobody ends what is not theirs", async ({ page, mailbox, address, anotherAddress, otherBrowser, baseURL, expectEvents }) => {
  expectEvents(times(2, signedUpByCode), signedInElsewhere);
  const neighbours = anotherAddress();
  await signIn(page, mailbox, address);
  const neighbour = await otherBrowser();
  await signIn(neighbour, mailbox, neighbours);
  const third = await otherBrowser();
  await signInElsewhere(third, mailbox, neighbours);
  await neighbour.goto("/account/sessions");
  const id = await neighbour.locator("form[action='/account/sessions/end'] input[name=id]").getAttribute("value");
  expect(id).toMatch(/^[0-9a-f-]{36}$/);

  const post = async (typed: string) => {
    const form = { id: typed };
    const answer = await page.request.post("/account/sessions/end", { form, maxRedirects: 0, headers: { Origin: baseURL ?? "" } });
    return [answer.status(), answer.headers()["location"]];
  };
  for (const typed of [id ?? "", "00000000-0000-4000-8000-000000000000", "", "1 or 1=1"]) {
    expect(await post(typed)).toEqual([303, "/account/sessions"]);
  }
  await third.goto("/account");
  await expectPage(third, "Security", "/account");
});

test("activity is told in words, by kind, and page by page", { tag: "@phone" }, async ({ page, server, mailbox, address, baseURL, checkPage, expectEvents }) => {
  const changes = 25;
  expectEvents(signedUpByCode, times(changes, "name.changed"), ["step_up.mailed", "mail.sent step_up", "step_up.refused"]);
  await signIn(page, mailbox, address);
  await page.goto("/account/activity?show=problems");
  const main = page.getByRole("main");
  await expect(main).toContainText("Nothing here yet");
  await expect(main).toContainText("Wrong codes, and whatever else goes wrong, will show up in this list.");
  await checkPage(page, "activity-none");

  await letFactorsAge(server, address);
  await page.goto("/account/export");
  await press(button(page, "Send the code"));
  await page.getByLabel("6-digit code").fill((await mailbox.next(address, "Your code for Latchkey")).wrongCode());
  await press(button(page, "Continue"));
  await page.goto("/account/activity?show=problems");
  await expect(main.locator(".row h3")).toHaveText(["Wrong email code"]);
  await expect(row(main, "Wrong email code")).toContainText("Before a change");

  for (let n = 0; n < changes; n++) {
    const form = { name: `Mara ${n}` };
    await page.request.post("/account/name", { form, maxRedirects: 0, headers: { Origin: baseURL ?? "" } });
  }
  const rows = main.locator(".row h3");
  await press(link(page, "All"));
  await expectPage(page, "Activity", "/account/activity");
  await expect(rows).toHaveText(Array.from({ length: 20 }, () => "Name changed"));
  await expect(main.getByText("Newer", { exact: true })).toHaveAttribute("aria-disabled", "true");
  await checkPage(page, "activity-pages");
  await press(link(page, "Older"));
  await expect(rows).toHaveText([
    ...Array.from({ length: changes - 20 }, () => "Name changed"),
    "Wrong email code",
    "Signed in",
    "Account created",
    "Sign-in email sent",
  ]);
  await expect(main.getByText("Older", { exact: true })).toHaveAttribute("aria-disabled", "true");
  await press(link(page, "Newer"));
  await expect(rows).toHaveCount(20);

  await press(link(page, "Changes"));
  await expectPage(page, "Activity", "/account/activity?show=changes");
  await press(link(page, "Older"));
  await expect(page).toHaveURL(/show=changes&at=/);
  await expect(rows).toHaveText([...Array.from({ length: changes - 20 }, () => "Name changed"), "Account created"]);
  await press(link(page, "Sign-ins"));
  await expect(rows).toHaveText(["Signed in", "Sign-in email sent"]);
});

test("the mail about a new sign-in ends it, by a button and not by its link", async ({ page, mailbox, address, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, signedInElsewhere, "session.revoked undone");
  await signIn(page, mailbox, address);
  const stranger = await otherBrowser();
  const mail = await signInElsewhere(stranger, mailbox, address);
  // Wherever the mail is read: nobody has to be signed in there.
  const reader = await otherBrowser();
  for (let look = 0; look < 2; look++) expect((await openLink(reader, mail, "Sign that device out?", "/undo"))?.status()).toBe(200);
  await expect(reader.getByRole("main")).toContainText("m•••••@example.org");
  await expect(reader.getByRole("main")).not.toContainText(address);
  await expect(reader.getByRole("definition").filter({ hasText: "127.0.0.1" })).toBeVisible();
  await checkPage(reader, "undo-sign-in");
  await stranger.goto("/account");
  await expectAccount(stranger, address);

  await press(button(reader, "Sign that device out"));
  await expectPage(reader, "That device is signed out");
  await expect(reader.getByRole("main")).toContainText("It can't use your account any more");
  await checkPage(reader, "undo-sign-in-done");
  await expectSignedOut(stranger);
  await page.goto("/account");
  await expectAccount(page, address);

  expect((await openLink(reader, mail, "This link has already been used", "/undo"))?.status()).toBe(410);
  await expect(reader.getByRole("main")).toContainText("That device is signed out.");
  await checkPage(reader, "undo-sign-in-used");
  await press(link(reader, "Sign in"));
  await expectPage(reader, "Sign in", "/login?next=/account");
});

test("the mail about a new sign-in comes too late, or its link is cut short", async ({ page, server, mailbox, address, otherBrowser, checkPage, expectEvents }) => {
  expectEvents(signedUpByCode, times(2, signedInElsewhere), "session.revoked signed_out_elsewhere");
  await signIn(page, mailbox, address);
  const early = await signInElsewhere(await otherBrowser(), mailbox, address);
  await page.goto("/account/sessions");
  await press(button(page, "Sign out other sessions"));
  await openLink(page, early, "Sign that device out?", "/undo");
  await press(button(page, "Sign that device out"));
  await expectPage(page, "That device is signed out");
  await expect(page.getByRole("main")).toContainText("It was signed out before.");

  const stranger = await otherBrowser();
  const late = await signInElsewhere(stranger, mailbox, address);
  expect((await page.goto(late.linkTo("/undo").slice(0, -7)))?.status()).toBe(404);
  await expectPage(page, "This link doesn't work");
  await checkPage(page, "undo-broken");
  await openLink(page, late, "Sign that device out?", "/undo");
  await letUndoLinksAge(server, address, "7 days");
  expect((await press(button(page, "Sign that device out"))).status()).toBe(410);
  await expectPage(page, "This link has expired");
  await checkPage(page, "undo-sign-in-expired");
  await stranger.goto("/account");
  await expectAccount(stranger, address);
});
