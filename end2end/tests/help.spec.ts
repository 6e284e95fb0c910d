// The help center: found from the index, by a search and from the page that went wrong; read on a small screen and on paper.

import { signInMailed } from "../support/events.ts";
import { askForMail, button, expectPage, link, press } from "../support/journey.ts";
import { expect, test } from "../support/test.ts";

test("the index leads to every article, and every article to others and back", async ({ page, server, checkPage }) => {
  await page.goto("/help");
  await expectPage(page, "How can we help?");
  await checkPage(page, "help");
  const main = page.getByRole("main");
  for (const group of ["Signing in", "Two-factor", "Your account", "About Latchkey", "For administrators"]) {
    await expect(main.getByRole("heading", { level: 2, name: group, exact: true })).toBeVisible();
  }
  const hrefs = (page: typeof main) => page.getByRole("link").evaluateAll((links) => links.map((link) => link.getAttribute("href") ?? ""));
  const articles = await hrefs(main);
  expect(articles.length).toBeGreaterThan(27);
  const elsewhere = new Set<string>();
  for (const article of articles) {
    const answer = await fetch(new URL(article, server.url));
    expect(answer.status, article).toBe(200);
    for (const [, href] of (await answer.text()).matchAll(/(?:href|src|srcset)="(\/[^"#]*)/g)) elsewhere.add(href ?? "");
  }
  for (const href of elsewhere) expect((await fetch(new URL(href, server.url))).status, href).toBe(200);

  await press(link(page, "I've lost my phone"));
  await expectPage(page, "I've lost my phone", "/help/lost-phone");
  await checkPage(page, "help-article");
  const crumbs = page.getByRole("navigation", { name: "Breadcrumb" });
  await expect(crumbs.getByText("I've lost my phone")).toHaveAttribute("aria-current", "page");
  await press(page.getByRole("navigation", { name: "Related" }).getByRole("link", { name: "Use a backup code" }));
  await expectPage(page, "Use a backup code", "/help/backup-codes");
  await press(page.getByRole("navigation", { name: "Breadcrumb" }).getByRole("link", { name: "Two-factor" }));
  await expectPage(page, "How can we help?", "/help#two-factor");
});

test("a long article says first what is in it", { tag: "@phone" }, async ({ page, checkPage }) => {
  await page.goto("/help/what-we-store");
  await checkPage(page, "help-article-long");
  await page.getByRole("navigation", { name: "On this page" }).getByRole("link", { name: "The log of what happened" }).click();
  await expect(page).toHaveURL("/help/what-we-store#log");
  await expect(page.getByRole("heading", { name: "The log of what happened" })).toBeInViewport();
});

test("an article shows the screen it is about, in light and in dark", { tag: "@phone" }, async ({ page, checkPage }) => {
  await page.goto("/help/turn-on-two-factor");
  const picture = page.getByRole("img", { name: /^The page “Set up two-factor”/ });
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await picture.scrollIntoViewIfNeeded();
    await expect.poll(() => picture.evaluate((img: HTMLImageElement) => img.complete && img.naturalWidth > 0)).toBe(true);
    expect(await picture.evaluate((img: HTMLImageElement) => img.currentSrc)).toContain(`/assets/set-up-two-factor-${colorScheme}.`);
  }
  await page.emulateMedia({ colorScheme: "dark", media: "print" });
  await expect(picture).toBeVisible();
  await expect.poll(() => picture.evaluate((img: HTMLImageElement) => img.currentSrc)).toContain("-light.");
  await page.emulateMedia({ colorScheme: null, media: null });
  await checkPage(page, "help-article-pictured");
});

test("a search finds articles, says how many, and what to do where there are none", async ({ page, checkPage }) => {
  await page.goto("/help");
  await page.getByLabel("Search help").fill("lost phone");
  await press(button(page, "Search"));
  await expect(page).toHaveURL("/help?q=lost+phone");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(/^\d articles for “lost phone”$/);
  await expect(page.getByLabel("Search help")).toHaveValue("lost phone");
  await checkPage(page, "help-found");
  await press(page.getByRole("main").getByRole("listitem").getByRole("link", { name: "I've lost my phone" }));
  await expectPage(page, "I've lost my phone", "/help/lost-phone");

  const strange = "<b>giraffe";
  await page.goto(`/help?q=${encodeURIComponent(strange)}`);
  await expectPage(page, `Nothing found for “${strange}”`);
  await expect(page.getByRole("main")).toContainText("Check the spelling, or use one word");
  await expect(link(page, "I didn't get the email")).toBeVisible();
  await checkPage(page, "help-none");
});

test("an article that isn't there is not found, and can be searched for", async ({ page, checkPage }) => {
  const response = await page.goto("/help/no-such-article");
  expect(response?.status()).toBe(404);
  await expectPage(page, "We can't find that article");
  await checkPage(page, "help-unknown");
  await page.getByLabel("Search help").fill("backup");
  await press(button(page, "Search"));
  await expect(link(page, "Use a backup code")).toBeVisible();
});

test("a wrong code leads to the article about it", async ({ page, mailbox, address, checkPage, expectEvents }) => {
  expectEvents(signInMailed, "link.refused wrong_code");
  const mail = await askForMail(page, mailbox, address);
  await expect(link(page, "I didn't get the email")).toHaveAttribute("href", "/help/no-email");
  await page.getByLabel("6-digit code").fill(mail.wrongCode());
  await press(button(page, "Sign in"));
  await press(link(page, "My code isn't accepted"));
  await expectPage(page, "My code isn't accepted", "/help/code-not-accepted");
  await checkPage(page, "help-code");
});

test("on paper an article is its words, and nothing that leads elsewhere", async ({ page }) => {
  await page.goto("/help/what-we-store");
  await page.emulateMedia({ media: "print" });
  await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
  await expect(page.getByText("It's kept in whole months for 400 days")).toBeVisible();
  for (const name of ["Breadcrumb", "On this page", "Related"]) await expect(page.getByRole("navigation", { name })).toBeHidden();
  await expect(page.getByRole("banner")).toBeHidden();
  await expect(page.getByRole("contentinfo")).toBeHidden();

  // What a notice says is part of the article.
  await page.emulateMedia({ media: "screen" });
  await page.goto("/help/no-email");
  await page.emulateMedia({ media: "print" });
  await expect(page.getByText("We never ask for your code")).toBeVisible();
});
