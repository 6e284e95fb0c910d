// An administrator, as an operator makes one.

import type { Page } from "@playwright/test";

import type { Authenticator } from "./authenticator.ts";
import { signedInByCode, twoFactorTurnedOn } from "./events.ts";
import { askForMail, expectPage, submitCode } from "./journey.ts";
import type { Mailbox } from "./mail_server.ts";
import { type Server, latchkey } from "./servers.ts";
import { enrol } from "./two_factor.ts";

export const administratorSignedIn = ["user.created", signedInByCode, twoFactorTurnedOn];

/** An operator makes the account; its owner sets two-factor up before anything else. */
export async function signInAsAdministrator(
  page: Page,
  server: Server,
  mailbox: Mailbox,
  address: string,
): Promise<{ app: Authenticator; codes: string[] }> {
  await latchkey(server, "user", "create", address, "--admin");
  await submitCode(page, (await askForMail(page, mailbox, address)).code);
  await expectPage(page, "Set up two-factor", "/account/two-factor/setup");
  return enrol(page);
}
