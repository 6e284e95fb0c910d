// A real SMTP server that keeps what it is sent, and hands it to whichever worker waits for it.

import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { simpleParser } from "mailparser";
import { SMTPServer } from "smtp-server";

import { note } from "./seen.ts";

/** As it came over the wire. */
export interface Message {
  to: string;
  from: string;
  subject: string;
  text: string;
  html: string;
}

const MAIL_SERVER = "END2END_MAIL_SERVER";

/** The subject of every mail that someone asked for to sign in. */
const SIGN_IN = "Sign in to Latchkey";

const TOKEN = /(\/[\w/-]+)\?token=([\w-]+)/g;
const CODE = /^\d{6}$/m;

/** A mail, taken apart as its reader would. */
export class Mail {
  constructor(private readonly message: Message) {}

  get text(): string {
    return this.message.text;
  }

  get html(): string {
    return this.message.html;
  }

  /** The link that brings a token to this page of ours. */
  linkTo(path: string): string {
    const link = this.text.split(/\s/).find((word) => word.startsWith("http") && word.includes(`${path}?token=`));
    if (!link) throw new Error(`no link to ${path} in the mail: ${this.text}`);
    return link;
  }

  /** The link that signs in. */
  get link(): string {
    return this.linkTo("/login/verify");
  }

  /** As it is printed: "482931". */
  get code(): string {
    const code = CODE.exec(this.text)?.[0];
    if (!code) throw new Error(`no code in the mail: ${this.text}`);
    return code;
  }

  /** Another code than this mail's. */
  wrongCode(): string {
    const digits = Number(this.code.replace(" ", ""));
    return String((digits + 1) % 1_000_000).padStart(6, "0");
  }
}

/** Writes down the secrets of a mail's text. */
export function noteSecrets(text: string): void {
  for (const [, path, token] of text.matchAll(TOKEN)) if (path && token) note({ kind: "token", what: path, value: token });
  const code = CODE.exec(text);
  if (code) note({ kind: "code", what: "mailed code", value: `${code[1]}${code[2]}` });
}

const boxOf = (address: string) => address.replace(/@.*$/, (domain) => domain.toLowerCase());

export interface MailServer {
  smtpPort: number;
  close(): Promise<void>;
}

export async function startMailServer(): Promise<MailServer> {
  const boxes = new Map<string, Message[]>();
  let waiting: (() => void)[] = [];

  const smtp = new SMTPServer({
    authOptional: true,
    // The servers come with a password. This end of the wire is the loopback, where there need be no TLS.
    allowInsecureAuth: true,
    disabledCommands: ["STARTTLS"],
    onAuth: (auth, _session, done) => done(null, { user: auth.username }),
    disableReverseLookup: true,
    onData(stream, session, done) {
      simpleParser(stream).then((mail) => {
        const text = mail.text ?? "";
        noteSecrets(text);
        for (const { address: written } of session.envelope.rcptTo) {
          // The domain may come in other letters than it was typed in.
          const address = boxOf(written);
          const box = boxes.get(address) ?? [];
          box.push({
            to: address,
            from: mail.from?.text ?? "",
            subject: mail.subject ?? "",
            text,
            html: mail.html || "",
          });
          boxes.set(address, box);
        }
        done();
        const woken = waiting;
        waiting = [];
        for (const wake of woken) wake();
      }, done);
    },
  });
  smtp.listen(0, "127.0.0.1");
  await once(smtp.server, "listening");

  // `?to=…&subject=…&n=…` is answered with that box's nth mail of this subject once it is there.
  const counter = createServer((request, response) => {
    const query = new URL(request.url ?? "/", "http://localhost").searchParams;
    const answer = () => {
      const box = boxes.get(boxOf(query.get("to") ?? "")) ?? [];
      const message = box.filter(({ subject }) => subject === query.get("subject"))[Number(query.get("n"))];
      if (message) response.end(JSON.stringify(message));
      else if (!response.destroyed) waiting.push(answer);
    };
    answer();
  });
  counter.listen(0, "127.0.0.1");
  await once(counter, "listening");
  process.env[MAIL_SERVER] = String((counter.address() as AddressInfo).port);

  return {
    smtpPort: (smtp.server.address() as AddressInfo).port,
    async close() {
      counter.closeAllConnections();
      counter.close();
      await new Promise<void>((closed) => {
        smtp.close(closed);
      });
    },
  };
}

/** One test's view of its mailboxes. */
export class Mailbox {
  private readonly taken = new Map<string, number>();

  /** The next mail to this address with this subject, as soon as it is there. Mails of other subjects wait for whoever reads them. */
  async next(address: string, subject = SIGN_IN): Promise<Mail> {
    const kind = `${address} ${subject}`;
    const n = this.taken.get(kind) ?? 0;
    this.taken.set(kind, n + 1);
    const query = new URLSearchParams({ to: boxOf(address), subject, n: String(n) });
    const url = `http://127.0.0.1:${process.env[MAIL_SERVER]}/?${query}`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(15_000) }).catch((cause: unknown) => {
      throw new Error(`no mail "${subject}" has come to ${address}`, { cause });
    });
    return new Mail((await answer.json()) as Message);
  }
}
