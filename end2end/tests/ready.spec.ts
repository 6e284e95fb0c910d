import { signedUpByCode } from "../support/events.ts";
import { signIn } from "../support/journey.ts";
import { SERVERS, type ServerName, fleet } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

for (const name of Object.keys(SERVERS) as ServerName[]) {
  test(`the server "${name}" is alive and ready`, async () => {
    const { url } = fleet()[name];
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
  });
}

test("someone can sign in at all", async ({ page, mailbox, address, expectEvents }) => {
  expectEvents(signedUpByCode);
  await signIn(page, mailbox, address);
});
