// After everything else: a wrong declaration of events fails a test, and every event of the whole run was some test's.

import { checkEvents, compare, nobodysEvents } from "../support/audit.ts";
import { type Events, declaration, signedUpByCode, times } from "../support/events.ts";
import { signIn } from "../support/journey.ts";
import { noted } from "../support/seen.ts";
import { SERVERS, type ServerName, fleet } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

// One after the other: the last of these look at what the first have done.
test.describe.configure({ mode: "default" });

const addresses = () => noted().flatMap(({ kind, value }) => (kind === "address" ? [value] : []));

test("what is missing and what is extra is told, in groups or not, in whatever order", () => {
  const same = { missing: [], extra: [] };
  expect(compare([], [])).toEqual(same);
  expect(compare(["a", ["b", [times(2, ["c", "d"])]]], ["d", "c", "a", "c", "b", "d"])).toEqual(same);
  expect(compare(["a", "b"], ["a"])).toEqual({ missing: ['"b"'], extra: [] });
  expect(compare(["a"], ["b", "a"])).toEqual({ missing: [], extra: ['"b"'] });
  expect(compare(["a"], ["a", "a", "a"])).toEqual({ missing: [], extra: ['times(2, "a")'] });
  expect(compare(times(2, "a"), ["a", "b"])).toEqual({ missing: ['"a"'], extra: ['"b"'] });
  expect(compare([], ["a"])).toEqual({ missing: [], extra: ['"a"'] });
});

test("an event is declared by its name and the word that tells it from others", () => {
  expect(declaration("mail.sent", { mail: "0193", kind: "invite" })).toBe("mail.sent invite");
  expect(declaration("link.refused", { link: "0193", method: "code", reason: "used" })).toBe("link.refused used");
  expect(declaration("two_factor.reset", { by: "operator", reason: "lost phone" })).toBe("two_factor.reset");
});

test("one event more or less than declared is refused", async ({ page, server, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode);
  const others = addresses().filter((other) => other !== address);
  await signIn(page, mailbox, address);
  const check = (...declared: Events[]) => checkEvents(server, [address], declared, 0);
  await checkEvents(server, [address], signedUpByCode);
  await expect(check(signedUpByCode, "mail.sent new_sign_in")).rejects.toThrow('Declared, and did not happen: "mail.sent new_sign_in"');
  await expect(check("link.requested", "mail.sent sign_in", "link.redeemed code", "session.created email")).rejects.toThrow(
    'Happened, and is not declared: "user.created"',
  );
  await expect(check()).rejects.toThrow(/expectEvents\(\n {2}"link\.requested",\n/);
  expect(compare(signedUpByCode, await nobodysEvents(server, others))).toEqual({ missing: [], extra: [] });
});

test("a test that causes events and declares none fails", async ({ page, mailbox, address }) => {
  test.fail();
  await signIn(page, mailbox, address);
});

for (const name of Object.keys(SERVERS) as ServerName[]) {
  test(`every event on the server "${name}" was some test's`, async () => {
    expect(await nobodysEvents(fleet()[name], addresses())).toEqual([]);
  });
}
