// What the audit holds of one test: the rows of its addresses, compared with what the test declares.

import { setTimeout as pause } from "node:timers/promises";

import { type Events, declaration } from "./events.ts";
import { type Server, sql } from "./servers.ts";

/**
 * An event is a test's through its accounts, and where there is no account, through its mails. The address that an account has now
 * need not be the one it signed in with.
 */
const AUDIT = `
  with own as (select jsonb_array_elements_text(:'addresses') as email_key),
  links as (select id from magic_links join own using (email_key)),
  invitations as (select id from invites join own using (email_key)),
  accounts as (
    select id from users join own using (email_key)
    union
    select user_id from auth_audit where user_id is not null and details->>'link' in (select id::text from links)
  ),
  mails as (
    select id, state from mail_outbox
    where magic_link_id in (table links) or invite_id in (table invitations) or user_id in (table accounts)
      or step_up_code_id in (select id from step_up_codes where user_id in (table accounts))
      or email_change_id in (select id from email_changes where user_id in (table accounts))
  ),
  -- Housekeeping deletes codes that have expired, each hour, and their mails days later: whose such a mail was can't be told any more.
  told as (
    select id::text from mail_outbox
    where (step_up_code_id is null or step_up_code_id in (select id from step_up_codes))
      and (email_change_id is null or email_change_id in (select id from email_changes))
  ),
  audit as (
    select event_type, details, created_at, id,
      case when details->>'mail' is not null and details->>'mail' not in (table told) then null
        else coalesce(
          user_id in (table accounts) or actor_id in (table accounts)
            or details->>'link' in (select id::text from links)
            or details->>'invite' in (select id::text from invitations)
            or details->>'mail' in (select id::text from mails), false)
      end as is_own
    from auth_audit
  )
  select json_build_object(
    'queued', (select count(*) from mails where state = 'queued'),
    'rows', coalesce(json_agg(json_build_object('name', event_type, 'details', details) order by created_at, id), '[]')
  ) from audit where is_own `;

interface Seen {
  /** Mails that will be events yet. */
  queued: number;
  events: string[];
}

async function look(server: Server, addresses: Iterable<string>, whose: "is true" | "is false"): Promise<Seen> {
  const answer = JSON.parse(await sql(server, AUDIT + whose, { addresses: JSON.stringify([...addresses]) })) as {
    queued: number;
    rows: { name: string; details: Record<string, unknown> }[];
  };
  return { queued: answer.queued, events: answer.rows.map(({ name, details }) => declaration(name, details)) };
}

/** That the run asks for many mails from one network is true; and its last tests take copies, to look for secrets in them. */
const OF_THE_RUN = ["network.too_many_requests", "audit.exported"];

/** What happened, and to none of these addresses. */
export async function nobodysEvents(server: Server, addresses: Iterable<string>): Promise<string[]> {
  return (await look(server, addresses, "is false")).events.filter((event) => !OF_THE_RUN.includes(event));
}

function flat(events: Events): string[] {
  return typeof events === "string" ? [events] : events.flatMap(flat);
}

function count(events: Events): Map<string, number> {
  const counts = new Map<string, number>();
  for (const event of flat(events)) counts.set(event, (counts.get(event) ?? 0) + 1);
  return counts;
}

/** What there is more of in `some` than in `others`, as one would write it. */
function surplus(some: Events, others: Events): string[] {
  const counts = count(others);
  return [...count(some)].flatMap(([event, n]) => {
    const more = n - (counts.get(event) ?? 0);
    return more > 0 ? [more > 1 ? `times(${more}, "${event}")` : `"${event}"`] : [];
  });
}

export function compare(declared: Events, happened: Events): { missing: string[]; extra: string[] } {
  return { missing: surplus(declared, happened), extra: surplus(happened, declared) };
}

/** Waits for what was declared. Fails where it doesn't come, and where anything else has happened. */
export async function checkEvents(server: Server, addresses: Iterable<string>, declared: Events, patience = 15_000): Promise<void> {
  const deadline = Date.now() + patience;
  for (;;) {
    const { queued, events } = await look(server, addresses, "is true");
    const { missing, extra } = compare(declared, events);
    if ((queued > 0 || missing.length > 0) && Date.now() < deadline) {
      await pause(50);
      continue;
    }
    if (queued + missing.length + extra.length === 0) return;
    throw new Error(
      [
        "The events of this test are not those it declares.",
        ...missing.map((event) => `Declared, and did not happen: ${event}`),
        ...extra.map((event) => `Happened, and is not declared: ${event}`),
        ...(queued > 0 ? [`Mails that were not sent in time: ${queued}`] : []),
        `This happened:\nexpectEvents(\n${surplus(events, []).map((event) => `  ${event},\n`).join("")});`,
      ].join("\n"),
    );
  }
}
