import type { Locator } from "@playwright/test";

import { signInMailed } from "../support/events.ts";
import { askForMail, button, expectPage, press, submitAddress, submitCode } from "../support/journey.ts";
import { expect, test } from "../support/test.ts";

/** An error is read with its field, which has the focus: nobody has to look for it. */
async function expectFieldError(field: Locator, error: string): Promise<void> {
  await expect(field).toHaveAttribute("aria-invalid", "true");
  await expect(field).toHaveAccessibleDescription(new RegExp(`Error: ${error.replaceAll(".", "\\.")}$`));
  await expect(field).toBeFocused();
}

test("an address that is missing is asked for", async ({ page, checkPage }) => {
  await page.goto("/login");
  expect((await submitAddress(page, "")).status()).toBe(422);
  await expect(page).toHaveTitle("Error: Sign in – Latchkey");
  await expectFieldError(page.getByLabel("Email address"), "Enter your email address");
  await checkPage(page, "login-missing");
});

test("an address with a mistake stays, to be mended", { tag: ["@phone", "@js"] }, async ({ page, checkPage }) => {
  await page.goto("/login");
  expect((await submitAddress(page, "mara@")).status()).toBe(422);
  await expect(page).toHaveTitle("Error: Sign in – Latchkey");
  const field = page.getByLabel("Email address");
  await expectFieldError(field, "Enter an email address, like name@example.org");
  await expect(field).toHaveValue("mara@");
  await checkPage(page, "login-malformed");
});

test("a code that is missing or short costs no try", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, "link.refused wrong_code");
  const mail = await askForMail(page, mailbox, address);
  const field = page.getByLabel("6-digit code");
  expect((await submitCode(page, "")).status()).toBe(422);
  await expectFieldError(field, "Enter the 6-digit code");
  await checkPage(page, "code-missing");
  expect((await submitCode(page, "12345")).status()).toBe(422);
  await expectFieldError(field, "The code has 6 digits. You entered 5.");
  await expect(field).toHaveValue("");
  await submitCode(page, mail.wrongCode());
  await expect(page.getByText("You have 4 tries left.")).toBeVisible();
});

test("the address can be changed before the code is typed", async ({ page, mailbox, address, expectEvents }) => {
  expectEvents(signInMailed);
  await askForMail(page, mailbox, address);
  await press(page.getByRole("link", { name: "Change email" }));
  await expectPage(page, "Sign in", "/login");
});

test("the code page sends away someone who asked for nothing", async ({ page }) => {
  await page.goto("/login/sent");
  await expectPage(page, "Sign in", "/login");
  await page.goto("/login/confirm");
  await expectPage(page, "Sign in", "/login");
});

test("a form of another site is refused", async ({ page, server, address }) => {
  const answer = await fetch(`${server.url}/login`, {
    method: "POST",
    headers: { "sec-fetch-site": "cross-site", origin: "https://evil.example" },
    body: new URLSearchParams({ email: address }),
  });
  expect(answer.status).toBe(403);
  expect(await answer.text()).toContain("This page was open too long, so nothing was changed.");
  // And by a browser, from a page that is not ours.
  await page.setContent(`<form method="post" action="${server.url}/login"><button>Go</button></form>`);
  expect((await press(button(page, "Go"))).status()).toBe(403);
  await expectPage(page, "Page expired");
});

test("a page that isn't there says so, with the request's id", async ({ page, checkPage }) => {
  const response = await page.goto("/nowhere");
  expect(response?.status()).toBe(404);
  await expectPage(page, "We can't find that page");
  const id = await response?.headerValue("x-request-id");
  expect(id).toBeTruthy();
  await expect(page.getByText(`Request ${id}`)).toBeVisible();
  await checkPage(page, "not-found");
});

test("the icon and the style sheet are served and may be kept", async ({ page, server }) => {
  await page.goto("/login");
  for (const rel of ["icon", "stylesheet"]) {
    const href = await page.locator(`link[rel=${rel}]`).getAttribute("href");
    const answer = await fetch(new URL(href ?? "", server.url));
    expect(answer.status).toBe(200);
    expect(answer.headers.get("cache-control")).toContain("max-age");
  }
});

test("robots are told where they may read, in lines that they understand", async ({ request }) => {
  const answer = await request.get("/robots.txt");
  expect(answer.status()).toBe(200);
  const lines = (await answer.text()).trimEnd().split("\n");
  expect(lines[0]).toBe("User-agent: *");
  for (const line of lines.slice(1)) expect(line).toMatch(/^(Allow|Disallow): \/\S*$/);
  expect(lines).toContain("Disallow: /");
});
