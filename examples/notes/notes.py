#!/usr/bin/env python3
"""Notes: a small application whose people sign in with Latchkey, through its API alone. Standard library only.

Everything of the API is in `Latchkey`; the rest is pages. What an application has to do itself stands in the comments."""

import html
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ORIGIN = os.environ.get("NOTES_URL", "http://localhost:8000")
LINK_PAGE = f"{ORIGIN}/link"  # stands in Latchkey's REDIRECT_URLS, letter by letter
COOKIE = "__Host-notes"  # the prefix makes browsers insist on Secure, this host alone, and no other path
HOUR = 3600


class Latchkey:
    """The API. The key and all that comes back stay on this server."""

    def __init__(self, url, key):
        self.url, self.key = url, key

    def call(self, method, path, body=None, headers=()):
        request = urllib.request.Request(f"{self.url}/api/v1{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        for name, value in headers:
            request.add_header(name, value)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as refusal:
            problem = json.loads(refusal.read() or b"{}")
            return refusal.code, problem | {"retry_after": refusal.headers.get("Retry-After")}

    def request(self, email, ip, user_agent):
        body = {"email": email, "redirect_url": LINK_PAGE, "client": {"ip": ip, "user_agent": user_agent}}
        # Under one key the request can be sent again: whichever try arrives, one mail goes out.
        key = ("Idempotency-Key", secrets.token_urlsafe(16))
        try:
            return self.call("POST", "/magic-links", body, [key])
        except OSError:
            return self.call("POST", "/magic-links", body, [key])

    def verify(self, request_secret, **proof):
        return self.call("POST", "/magic-links/verify", {"request_secret": request_secret, **proof})

    def second_factor(self, challenge, code):
        return self.call("POST", "/two-factor/verify", {"challenge": challenge, "code": code})

    def session(self, token):
        return self.call("GET", "/session", headers=[("Latchkey-Session", token)])

    def sign_out(self, token):
        return self.call("DELETE", "/session", headers=[("Latchkey-Session", token)])


# In memory, as befits a demonstration. A visit is what a browser's cookie stands for: `secret` and `email` of a request, `link` of an
# opened mail, `challenge` of a first factor, `token` of a session. None of these ever reaches the browser.
VISITS, NOTES = {}, {}


def page(title, *parts):
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{html.escape(title)} – Notes</title><link rel="stylesheet" href="/style.css">'
        f'<main><h1>{html.escape(title)}</h1>{"".join(parts)}</main>'
    )


def form(action, button, *fields):
    return f'<form method="post" action="{action}">{"".join(fields)}<button>{html.escape(button)}</button></form>'


def field(name, label, kind="text", complete="off"):
    return f'<label>{label} <input name="{name}" type="{kind}" autocomplete="{complete}" required autofocus></label>'


def words(text):
    return f"<p>{html.escape(text)}</p>"


EMAIL = form("/sign-in", "Email me a code", field("email", "Email", "email", "email"))
CODE = form("/code", "Sign in", field("code", "Code", complete="one-time-code"))
SECOND = form("/second-factor", "Go on", field("code", "Code of your authenticator app, or a backup code", complete="one-time-code"))
PRESS = form("/link", "Sign in")
AGAIN = '<p><a href="/">Ask for another email</a></p>'
STYLE = "main{max-width:34rem;margin:4rem auto;font:1.1rem/1.5 system-ui}input,button{font:inherit;padding:.4rem}label{display:block}"


class Notes(BaseHTTPRequestHandler):
    timeout = 10  # for a client that sends nothing

    def do_GET(self):
        self.reaching(self.get)

    def do_POST(self):
        self.reaching(self.post)

    def reaching(self, work):
        try:
            work()
        except OSError as error:  # also what `urllib` raises
            self.log_message("Latchkey did not answer: %s", error)
            self.answer(503, page("Not now", words("Signing in doesn't work right now. Try again in a minute.")))

    def get(self):
        path, visit = urlsplit(self.path).path, self.visit()
        if path == "/style.css":
            return self.answer(200, STYLE, kind="text/css")
        if path == "/link":
            return self.link(visit)
        if path != "/":
            return self.answer(404, page("Not found"))
        user = self.user(visit)
        if user is None:
            return self.answer(200, page("Sign in", EMAIL))
        notes = "".join(f"<li>{html.escape(note)}" for note in NOTES.get(user["id"], []))
        greeting = words(f"Signed in as {user['email']} ({', '.join(user['groups'])}).")
        add = form("/notes", "Add", field("note", "New note"))
        self.answer(200, page("Your notes", greeting, f"<ul>{notes}</ul>", add, form("/sign-out", "Sign out")))

    def post(self):
        # A form of another site's would carry this browser's cookie to us. Browsers say where a form came from.
        if self.headers.get("Origin") != ORIGIN:
            return self.answer(403, page("Refused", words("This form was not ours.")))
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > 8192:
            return self.answer(413, page("Too long"))
        fields = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
        typed = lambda name: fields.get(name, [""])[0].strip()
        visit = self.visit()
        match urlsplit(self.path).path:
            case "/sign-in":
                return self.ask(typed("email"))
            case "/code" if "secret" in visit:
                return self.verified(visit, *LATCHKEY.verify(visit["secret"], code=typed("code")), CODE)
            case "/link" if "link" in visit:
                return self.verified(visit, *LATCHKEY.verify(visit["secret"], token=visit["link"]), AGAIN)
            case "/second-factor" if "challenge" in visit:
                return self.verified(visit, *LATCHKEY.second_factor(visit["challenge"], typed("code")), SECOND)
            case "/notes" if (user := self.user(visit)) is not None:
                NOTES.setdefault(user["id"], []).append(typed("note")[:500])
            case "/sign-out" if "token" in visit:
                LATCHKEY.sign_out(visit["token"])
                VISITS.pop(visit["id"], None)
        self.see_other("/")

    def ask(self, email):
        status, answer = LATCHKEY.request(email, self.client_address[0], self.headers.get("User-Agent", ""))
        if status >= 400:
            return self.refused(status, answer, EMAIL)
        # The same words whoever was asked for: whether there is an account is between Latchkey and the address.
        self.answer(200, page("Check your email", words(f"We sent a link and a code to {email}."), CODE),
                    self.begin(secret=answer["request_secret"], email=email))

    def link(self, visit):
        token = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        if token and "secret" in visit:
            # Out of the address bar, and nothing is used up: programs that look into mail open links too. A press of the button does it.
            visit["link"] = token
            return self.see_other("/link")
        if "link" in visit:
            return self.answer(200, page("Sign in", words(f"Press the button to sign in as {visit['email']}."), PRESS))
        # Signing this browser in would let whoever sent the link choose the account it is signed in to.
        told = "You asked for this email in another browser. Open the link there, or type its code."
        self.answer(403, page("Another browser", words(told), AGAIN))

    def verified(self, visit, status, answer, again):
        if status >= 400:
            return self.refused(status, answer, again)
        # A cookie that stood for a stranger never comes to stand for somebody: each step gets a new one.
        VISITS.pop(visit["id"], None)
        if answer["status"] == "second_factor_required":
            return self.answer(200, page("One more step", SECOND), self.begin(challenge=answer["challenge"]))
        self.see_other("/", self.begin(token=answer["session_token"]))

    def refused(self, status, problem, again):
        if url := problem.get("enrol_url"):
            way = f'<p><a href="{html.escape(url)}">Set it up</a>, then come back.</p>'
            return self.answer(403, page("Two-factor needed", words("Your account needs two-factor sign-in."), way))
        kind = problem.get("type", "").rpartition(":")[2]
        if kind in ("wrong_code", "code_used", "wrong_clock"):
            status = 422
        said = {
            404: "That is not the code or link of a sign-in that is under way.",
            410: "That doesn't work any more.",
            422: "That was not right.",
            429: f"Too many tries. Wait {problem['retry_after']} seconds.",
        }.get(status, "Signing in doesn't work right now.")
        self.answer(status if status < 500 else 503, page("Sign in", words(said), AGAIN if status in (404, 410) else again))

    def user(self, visit):
        """Whom the session speaks for, at this moment: asked at each page, so that who is signed out elsewhere is out here at once."""
        if "token" not in visit:
            return None
        status, answer = LATCHKEY.session(visit["token"])
        if status >= 500 or status == 429:
            raise OSError(f"status {status}")  # nobody is signed out because Latchkey is busy, nor let in
        return answer["user"] if status == 200 else None

    def visit(self):
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        return VISITS.get(cookie.value, {}) if cookie else {}

    def begin(self, **what):
        for old in [key for key, visit in list(VISITS.items()) if "token" not in visit and visit["since"] < time.time() - HOUR]:
            VISITS.pop(old, None)
        key = secrets.token_urlsafe(32)
        VISITS[key] = {"id": key, "since": time.time(), **what}
        return f"{COOKIE}={key}; Path=/; Secure; HttpOnly; SameSite=Lax"

    def see_other(self, path, cookie=None):
        self.answer(303, "", cookie, location=path)

    def answer(self, status, body, cookie=None, kind="text/html", location=None):
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body.encode())),
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'",
            "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers would hide the Origin of our own forms
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        headers |= ({"Set-Cookie": cookie} if cookie else {}) | ({"Location": location} if location else {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_request(self, code="-", size="-"):
        print(self.command, urlsplit(self.path).path, int(code), flush=True)  # without the query, where a link's token stands


if __name__ == "__main__":
    LATCHKEY = Latchkey(os.environ.get("LATCHKEY_URL", "http://localhost:3000"), os.environ.get("LATCHKEY_API_KEY") or sys.exit(
        "LATCHKEY_API_KEY is missing: latchkey apikey create Notes --scope signin --scope sessions"))
    print(f"Notes is at {ORIGIN}", flush=True)
    ThreadingHTTPServer(("127.0.0.1", urlsplit(ORIGIN).port or 80), Notes).serve_forever()
