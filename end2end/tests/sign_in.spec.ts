import { signedInByCode, signedOut, signedUpByCode, signedUpByLink } from "../support/events.ts";
import { askForMail, button, expectAccount, expectPage, openLink, press, signIn, submitAddress, submitCode } from "../support/journey.ts";
import { expect, test } from "../support/test.ts";

test("someone signs in by the link, signs out, and signs in again by the code", { tag: ["@phone", "@js"] }, async ({ page, mailbox, address, checkPage, isMobile, expectEvents }) => {
  expectEvents(signedUpByLink, signedOut, signedInByCode);
  await page.goto("/");
  await expectPage(page, "Sign in", "/login");
  await checkPage(page, "login");

  await submitAddress(page, address);
  await expectPage(page, "Check your email", "/login/sent");
  await expect(page.getByText(address)).toBeVisible();
  await checkPage(page, "sent");

  const first = await mailbox.next(address);
  // In two spans, for the eye; what is selected is one run of digits.
  expect(first.html.replaceAll(/<[^>]*>/g, "")).toContain(first.code);
  expect((await openLink(page, first, "Sign in to Latchkey?"))?.status()).toBe(200);
  await expect(page).toHaveURL("/login/confirm");
  const main = page.getByRole("main");
  await expect(main.getByText("m•••••@example.org")).toBeVisible();
  await expect(main).not.toContainText(address);
  await expect(main.getByRole("definition").filter({ hasText: isMobile ? "Chrome on Android" : "on Linux" })).toBeVisible();
  await expect(main.getByRole("definition").filter({ hasText: "127.0.0.1" })).toBeVisible();
  await checkPage(page, "confirm");

  await press(button(page, "Sign in"));
  await expectAccount(page, address);
  await expect(main).toContainText("Email link");
  await checkPage(page, "account");

  await press(button(page, "Sign out"));
  await expectPage(page, "You're signed out", "/logout");
  await checkPage(page, "signed-out");

  await page.goto("/account");
  await expectPage(page, "Sign in", "/login?next=/account");
  await submitAddress(page, address);
  const second = await mailbox.next(address);
  await submitCode(page, second.code);
  await expectAccount(page, address);
  await expect(main).toContainText("Email code");
});

test("a code may be typed with a hyphen, and works for someone new", async ({ page, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode);
  const mail = await askForMail(page, mailbox, address);
  await submitCode(page, `${mail.code.slice(0, 3)}-${mail.code.slice(3)}`);
  await expectAccount(page, address);
});

test("the same address in other letters is the same account", async ({ page, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode, signedOut, signedInByCode);
  await signIn(page, mailbox, address);
  await press(button(page, "Sign out"));
  await page.goto("/login");
  await submitAddress(page, address.toUpperCase());
  await expectPage(page, "Check your email");
  // As the account has it, however it was typed.
  const mail = await mailbox.next(address);
  await submitCode(page, mail.code);
  await expectAccount(page, address);
});

test("the owner is told of a sign-in in a browser that the account doesn't know, and of no other", async ({ page, mailbox, address, otherBrowser, expectEvents }) => {
  expectEvents(signedUpByCode, signedOut, signedInByCode, signedInByCode, "mail.sent new_sign_in");
  await signIn(page, mailbox, address);
  await press(button(page, "Sign out"));
  await signIn(page, mailbox, address);
  const other = await otherBrowser();
  await signIn(other, mailbox, address);
  const mail = await mailbox.next(address, "New sign-in to your Latchkey account");
  expect(mail.text).toContain("Someone signed in from a device we haven't seen before.");
  expect(mail.text).toContain("From: 127.0.0.1");
  expect(mail.text).toContain("How: Email code");
});

test("someone who is signed in has nothing to do on the sign-in page", async ({ page, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode);
  await signIn(page, mailbox, address);
  await page.goto("/login");
  await expectAccount(page, address);
});

for (const way of ["link", "code"] as const) {
  test(`where someone wanted to go is kept on the way through the ${way}`, async ({ page, mailbox, address, expectEvents }) => {
    expectEvents(way === "link" ? signedUpByLink : signedUpByCode);
    await page.goto("/login?next=/help%3Ffrom%3Dmail");
    // A mistake on the way loses nothing.
    await submitAddress(page, "nobody");
    await submitAddress(page, address);
    await expectPage(page, "Check your email");
    const mail = await mailbox.next(address);
    if (way === "link") {
      await openLink(page, mail, "Sign in to Latchkey?");
      await press(button(page, "Sign in"));
    } else {
      await submitCode(page, mail.code);
    }
    await expectPage(page, "How can we help?", "/help?from=mail");
  });
}

for (const next of ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]) {
  test(`"next" can't lead away: ${next}`, async ({ page, mailbox, address, expectEvents }) => {
    expectEvents(signedUpByCode);
    const mail = await askForMail(page, mailbox, address, `/login?next=${encodeURIComponent(next)}`);
    await submitCode(page, mail.code);
    await expectAccount(page, address);
  });
}

test("pressing Sign in twice leaves the person signed in", { tag: "@js" }, async ({ page, mailbox, address, expectEvents }) => {
  const mail = await askForMail(page, mailbox, address);
  await openLink(page, mail, "Sign in to Latchkey?");
  await button(page, "Sign in").dblclick();
  const heading = page.getByRole("heading", { level: 1 });
  await expect(heading).toHaveText(/^(Security|This link has already been used)$/);
  // The browser gives the first request up for the second. Only the second's page says whether the server had finished the first.
  expectEvents(signedUpByLink, (await heading.innerText()) === "Security" ? [] : "link.refused used");
  await page.goto("/account");
  await expectAccount(page, address);
});

test("the back button after signing out shows nothing private", { tag: "@js" }, async ({ page, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode, signedOut);
  await signIn(page, mailbox, address);
  await press(button(page, "Sign out"));
  await expectPage(page, "You're signed out");
  await page.goBack();
  await expectPage(page, "Sign in", "/login?next=/account");
  await expect(page.getByText(address)).toHaveCount(0);
});

test("signing in gives the browser a new session", async ({ page, context, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode);
  const session = async () => (await context.cookies()).find(({ name }) => name === "__Host-latchkey");
  const mail = await askForMail(page, mailbox, address);
  const before = await session();
  await submitCode(page, mail.code);
  await expectAccount(page, address);
  const after = await session();
  expect(after?.value).not.toBe(before?.value);
  expect(after).toMatchObject({ secure: true, httpOnly: true, sameSite: "Lax", path: "/" });
});
