import { button, expectPage, link, press, signIn } from "../support/journey.ts";
import { expect, test } from "../support/test.ts";

test("another session is seen, ended, and told of", async ({ page, mailbox, address, otherBrowser, checkPage }) => {
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
    await signIn(other, mailbox, address);
    expect((await mailbox.next(address)).letter.subject).toBe("New sign-in to your Latchkey account");
    return other;
  };
  const endOne = main.getByRole("button", { name: /^Sign out Chrome on / });
  const first = await open();
  await page.reload();
  await expect(main).toContainText("Ends the other session. You stay signed in here.");
  await checkPage(page, "sessions");
  await press(endOne);
  await expectPage(page, "Sessions", "/account/sessions");
  await expect(endOne).toHaveCount(0);
  await first.goto("/account");
  await expectPage(first, "Sign in", "/login?next=/account");

  const others = [await open(), await open()];
  await page.reload();
  await expect(main).toContainText("Ends the 2 other sessions.");
  await press(button(page, "Sign out other sessions"));
  await expectPage(page, "Sessions", "/account/sessions");
  await expect(main).toContainText("No other sessions");
  for (const other of others) {
    await other.goto("/account");
    await expectPage(other, "Sign in", "/login?next=/account");
  }

  await page.getByRole("navigation", { name: "Account" }).getByRole("link", { name: "Activity" }).click();
  await expectPage(page, "Activity", "/account/activity");
  await expect(main.getByRole("heading", { name: "Another session signed out" })).toHaveCount(3);
  await expect(main.getByRole("heading", { name: /^Signed in/ })).toHaveCount(4);
  await expect(main.getByRole("heading", { name: /^Today, / })).toBeVisible();
  await checkPage(page, "activity");
  await press(link(page, "Changes"));
  await expectPage(page, "Activity", "/account/activity?show=changes");
  await expect(main.getByRole("heading", { name: "Account created" })).toBeVisible();
  await expect(main).not.toContainText("Signed in");
  await press(link(page, "Problems"));
  await expect(main).toContainText("Nothing here yet");
  await checkPage(page, "activity-none");
});

test("nobody ends what is not theirs", async ({ page, mailbox, address, otherBrowser, baseURL }) => {
  await signIn(page, mailbox, address);
  const neighbour = await otherBrowser();
  await signIn(neighbour, mailbox, `neighbour.${address}`);
  const third = await otherBrowser();
  await signIn(third, mailbox, `neighbour.${address}`);
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
