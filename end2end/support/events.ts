// The events of docs/events.md as tests declare them: the name, and the word that tells it from others of its name. Groups are for
// what always happens together; each test puts together its own.

/** An event, or several. */
export type Events = string | readonly Events[];

/** Which of an event's details is that word. Ids are none, and neither are people's own words. */
const WORDS: Record<string, string> = {
  "link.redeemed": "method",
  "link.refused": "reason",
  "session.created": "level",
  "session.revoked": "reason",
  "totp.accepted": "for",
  "totp.refused": "reason",
  "backup_code.used": "for",
  "backup_code.refused": "reason",
  "step_up.passed": "factor",
  "mail.sent": "kind",
  "mail.failed": "state",
};

/** A row of the audit, as a test declares it. */
export function declaration(name: string, details: Record<string, unknown>): string {
  const word = details[WORDS[name] ?? ""];
  return word === undefined ? name : `${name} ${String(word)}`;
}

export function times(n: number, events: Events): Events {
  return Array.from({ length: n }, () => events);
}

/** Somebody asks for a mail to sign in with, and gets it. */
export const signInMailed = ["link.requested", "mail.sent sign_in"];

/** That mail is used, and nothing more is needed. */
export const signedInByLink = [signInMailed, "link.redeemed link", "session.created email"];
export const signedInByCode = [signInMailed, "link.redeemed code", "session.created email"];

/** The same, and an account is made of it. */
export const signedUpByLink = [signedInByLink, "user.created"];
export const signedUpByCode = [signedInByCode, "user.created"];

export const signedOut = "session.revoked signed_out";

/** A mail's code where the account has two-factor. */
export const firstFactorGiven = [signInMailed, "link.redeemed code", "session.created first_factor"];

/** What follows it. */
export const signedInByApp = ["totp.accepted sign_in", "session.revoked replaced", "session.created two_factor"];
export const signedInByBackupCode = [
  "backup_code.used sign_in",
  "session.revoked replaced",
  "session.created two_factor",
  "mail.sent backup_code_used",
];

/** An app is set up as the account's second factor, and the first backup codes are saved. */
export const twoFactorTurnedOn = [
  "totp.setup_started",
  "totp.enrolled",
  "step_up.passed totp",
  "backup_codes.created",
  "backup_codes.saved",
  "mail.sent two_factor_on",
];

/** Its owner turns two-factor off; what allowed it comes before. */
export const twoFactorTurnedOff = ["two_factor.turned_off", "mail.sent two_factor_off"];

/** A code goes to another address, and with the right one the account moves there. */
export const changeCodeMailed = ["email.change_requested", "mail.sent email_change"];
export const addressChanged = ["email.changed", "mail.sent email_changed"];

/** It goes back. Each session that ends comes besides. */
export const changeUndone = ["email.change_undone", "mail.sent email_change_undone"];
