// Mail scanners and prefetchers open links before people do. Nothing may come of it.

import { signedUpByLink } from "../support/events.ts";
import { askForMail, button, expectAccount, expectPage, openLink, press } from "../support/journey.ts";
import { type Server, sql } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

/** All that stands about the mails of one address. */
function state(server: Server, address: string): Promise<string> {
  return sql(server, "select to_jsonb(l) from magic_links l where email_key = :'address' order by created_at", { address });
}

/** Follows a link as far as it goes, with the cookies it gives. */
async function follow(link: string, init: RequestInit): Promise<void> {
  const first = await fetch(link, { ...init, redirect: "manual" });
  expect(first.status).toBe(303);
  const cookie = first.headers.getSetCookie().map((line) => line.split(";")[0]).join("; ");
  const headers = new Headers(init.headers);
  headers.set("cookie", [headers.get("cookie"), cookie].filter(Boolean).join("; "));
  await fetch(new URL(first.headers.get("location") ?? "", link), { ...init, headers });
}

test("HEAD, twenty GETs and a prefetch change nothing, and then the person signs in", async ({ page, context, server, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByLink);
  const mail = await askForMail(page, mailbox, address);
  const before = await state(server, address);
  expect(before).toContain(address);

  // Also with the cookies of the very browser that may redeem it.
  const own = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  await follow(mail.link, { method: "HEAD" });
  await follow(mail.link, { method: "HEAD", headers: { cookie: own } });
  for (let n = 0; n < 20; n++) await follow(mail.link, n % 2 ? {} : { headers: { cookie: own } });
  await follow(mail.link, { headers: { cookie: own, "sec-purpose": "prefetch;prerender", purpose: "prefetch" } });
  expect(await state(server, address)).toBe(before);

  await openLink(page, mail, "Sign in to Latchkey?");
  expect(await state(server, address)).toBe(before);
  await press(button(page, "Sign in"));
  await expectAccount(page, address);
});

test("a scanner that is a whole browser doesn't use the link up", async ({ page, server, mailbox, address, otherBrowser, expectEvents }) => {
  expectEvents(signedUpByLink);
  const mail = await askForMail(page, mailbox, address);
  const before = await state(server, address);
  const scanner = await otherBrowser({ javaScriptEnabled: true });
  await scanner.goto(mail.link);
  await scanner.waitForLoadState("networkidle");
  await expectPage(scanner, "Open this on the device you started on");
  expect(await state(server, address)).toBe(before);

  await openLink(page, mail, "Sign in to Latchkey?");
  await press(button(page, "Sign in"));
  await expectAccount(page, address);
});
