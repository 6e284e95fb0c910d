//! What strangers type, to the byte: it is refused with a page, or the mail goes to one address, with our headers, and holds no more
//! of it than it should.

use std::collections::BTreeMap;

use http::Method;
use sqlx::PgPool;
use testkit::{Browser, Database, Received, Reply, SmtpSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    account::latchkey,
    two_factor::{SIGN_IN, between},
};
use crate::processes::{ORIGIN, Server};

/// Each looks for a place where it is more than text: a line of a header, a command, the end of a mail, another recipient, markup.
const HOSTILE: [&str; 22] = [
    "\r",
    "\n",
    "\r\n",
    "\0",
    "\n.\n",
    "\r\n.\r\n",
    "\r\n.\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<evil@example.org>\r\nDATA\r\nevil\r\n.\r\n",
    "\n.\nRCPT TO:<evil@example.org>\n",
    "\r\nBcc: evil@example.org",
    "\nBcc: evil@example.org\n\nevil",
    "%0d%0aBcc: evil@example.org",
    ",evil@example.org",
    ";evil@example.org",
    " evil@example.org",
    "> <evil@example.org",
    "\"",
    "\\\"evil\\\"",
    "<a href=\"//evil.example\">evil</a>",
    "=?utf-8?q?=0D=0ABcc:_evil@example.org?=",
    "\u{2028}Bcc: evil@example.org",
    "\u{202e}live",
    "{{ 7*7 }} ${evil}",
];

/// The headers of every mail, in their order.
const HEADERS: [&str; 16] = [
    "From",
    "To",
    "Subject",
    "Message-ID",
    "Date",
    "Auto-Submitted",
    "X-Mailgun-Track-Clicks",
    "X-Mailgun-Track-Opens",
    "X-Mailjet-TrackClick",
    "X-Mailjet-TrackOpen",
    "X-PM-TrackLinks",
    "X-PM-TrackOpens",
    "X-SMTPAPI",
    "X-MSYS-API",
    "MIME-Version",
    "Content-Type",
];

struct Site {
    pool: PgPool,
    sink: SmtpSink,
    server: Server,
    database: Database,
}

impl Site {
    async fn new() -> Self {
        let (database, sink) = (Database::new().await, SmtpSink::start().await);
        sink.tap();
        let variables = [("EMAIL_SMTP", sink.url()), ("LIMITS", "off".to_owned()), ("REQUIRE_2FA", "none".to_owned())];
        let server = Server::start_with(&database, &variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
        Self { pool: database.pool_of(1).await, sink, server, database }
    }

    fn browser(&self) -> Browser {
        Browser::new(self.server.address, ORIGIN)
    }

    async fn sign_in(&self, email: &str) -> Browser {
        let mut browser = self.browser();
        browser.post("/login", &[("email", email)]).await;
        let code = self.sink.nth_about(email, SIGN_IN, 1).await.code();
        assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
        browser
    }

    /// Every mail of the outbox has gone out, once each and as it should; by recipient.
    async fn mails(&self) -> BTreeMap<String, Vec<Received>> {
        let queued = async {
            let left = "select count(*) from mail_outbox where state = 'queued'";
            while sqlx::query_scalar::<_, i64>(left).fetch_one(&self.pool).await.expect("counted") > 0 {}
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), queued).await.expect("all go out");
        let stored: Vec<String> = sqlx::query_scalar(
            "select coalesce(l.email, i.email, c.email, m.details ->> 'to', u.email) from mail_outbox m \
             left join magic_links l on l.id = m.magic_link_id left join invites i on i.id = m.invite_id \
             left join email_changes c on c.id = m.email_change_id left join users u on u.id = m.user_id \
             where m.state = 'sent' order by 1",
        )
        .fetch_all(&self.pool)
        .await
        .expect("addresses");
        let mut mails = BTreeMap::<String, Vec<Received>>::new();
        for said in self.sink.tapped() {
            for mail in mails_in(&said) {
                let [to] = mail.to.as_slice() else { panic!("one recipient: {:?}", mail.to) };
                assert_headers(&mail.data, to);
                mails.entry(to.clone()).or_default().push(mail);
            }
        }
        let mut sent: Vec<&str> = mails.iter().flat_map(|(to, mails)| mails.iter().map(|_| to.as_str())).collect();
        let mut stored: Vec<&str> = stored.iter().map(String::as_str).collect();
        sent.sort_unstable();
        stored.sort_unstable();
        assert_eq!(sent, stored, "who is written to is who is stored");
        mails
    }
}

/// The mails of one conversation, which holds nothing else than what one of ours does.
fn mails_in(said: &[u8]) -> Vec<Received> {
    let said = std::str::from_utf8(said).expect("UTF-8");
    assert!(said.is_ascii() && !said.contains('\0'));
    assert!(!said.replace("\r\n", "").contains(['\r', '\n']), "lines end with both, and nothing else holds either");
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("EHLO localhost"));
    let mut mails = Vec::new();
    while let Some(line) = lines.next() {
        match line {
            "NOOP" | "QUIT" => continue,
            _ => assert_eq!(line, "MAIL FROM:<sign-in@localhost>"),
        }
        let to = lines.next().and_then(|line| line.strip_prefix("RCPT TO:<")).and_then(|line| line.strip_suffix('>'));
        let to = to.expect("a recipient").to_owned();
        assert_eq!(lines.next(), Some("DATA"), "and no other recipient");
        let data: Vec<&str> = lines.by_ref().take_while(|line| *line != ".").collect();
        assert!(data.iter().all(|line| line.len() <= 998), "RFC 5321 §4.5.3.1.6");
        mails.push(Received { from: String::new(), to: vec![to], data: data.join("\r\n") });
    }
    mails
}

fn assert_headers(mail: &str, to: &str) {
    let (headers, _) = mail.split_once("\r\n\r\n").expect("headers");
    let unfolded = headers.replace("\r\n ", " ").replace("\r\n\t", " ");
    let headers: Vec<(&str, &str)> = unfolded.lines().map(|line| line.split_once(": ").expect("a header")).collect();
    assert_eq!(headers.iter().map(|(name, _)| *name).collect::<Vec<_>>(), HEADERS);
    assert_eq!(headers[1].1, to);
    // The recipient's own address may be called so.
    assert!(!unfolded.replace(to, "").contains("evil"), "{unfolded}");
}

fn assert_refused(page: &Reply, what: &str) {
    assert!(page.status.is_client_error(), "{what}: {}", page.status);
    assert!(page.body.starts_with("<!DOCTYPE html>") && page.body.contains("<h1>"), "{what}: {}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_typed_as_an_address_one_is_written_to_or_none() {
    let site = Site::new().await;
    let mut taken = 0;
    for (n, hostile) in HOSTILE.into_iter().enumerate() {
        for typed in [
            format!("{hostile}a{n}@example.org"),
            format!("b{hostile}{n}@example.org"),
            format!("c{n}@{hostile}example.org"),
            format!("d{n}@example.org{hostile}"),
            format!("e{n}@example.org{hostile}f@example.org"),
        ] {
            let page = site.browser().post("/login", &[("email", &typed)]).await;
            if page.status == 303 {
                // Only space around it is taken off.
                assert!(!typed.trim().contains(|c: char| c.is_whitespace() || c.is_control()), "{typed:?}");
                taken += 1;
            } else {
                assert_refused(&page, &typed);
                assert!(page.body.contains("Enter an email address, like name@example.org"), "{typed:?}");
            }
        }
    }
    assert!((6..=20).contains(&taken), "{taken} had nothing but space around them, or characters that an address may have");

    // One field twice, lists, other types, other encodings: nobody is written to.
    for body in [
        "email=a%40example.org&email=evil%40example.org",
        "email[]=a%40example.org&email[]=evil%40example.org",
        "email[]=evil%40example.org",
        "email[0]=evil%40example.org",
        "email%5B%5D=evil%40example.org",
        "email.x=evil%40example.org",
        "{\"email\":[\"a@example.org\",\"evil@example.org\"]}",
        "email=a%40example.org%ff%fe",
        "email=a%40example.org%0aevil%40example.org",
    ] {
        assert_refused(&site.browser().send(Method::POST, "/login", body.to_owned()).await, body);
    }

    for (typed, stored) in
        [("idn@bücher.example", "idn@xn--bcher-kva.example"), ("punny@XN--BCHER-KVA.example", "punny@xn--bcher-kva.example")]
    {
        assert_eq!(site.browser().post("/login", &[("email", typed)]).await.status, 303, "{typed}");
        assert_eq!(site.sink.nth_to(stored, 1).await.to, [stored]);
    }
    for typed in ["mära@example.org", "a@例え。テスト/evil", "a@ex\u{ad}ample..org", "a@exa\u{200d}mple.org\u{0}"] {
        assert_refused(&site.browser().post("/login", &[("email", typed)]).await, typed);
    }
    let mails = site.mails().await;
    assert!(mails.keys().all(|to| !to.starts_with("evil")), "{:?}", mails.keys());
}

/// A request with these bytes in the head, and the status of its answer.
async fn asked_with(site: &Site, head: &[u8], email: &str, next: &str) -> String {
    let encode = |text: &str| text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let body = format!("email={}&next={}", encode(email), encode(next));
    let mut request =
        format!("POST /login HTTP/1.1\r\nHost: localhost:4000\r\nOrigin: {ORIGIN}\r\nConnection: close\r\n").into_bytes();
    request.extend_from_slice(head);
    request.extend_from_slice(
        format!("\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
    );
    let mut stream = TcpStream::connect(site.server.address).await.expect("connected");
    stream.write_all(&request).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer).split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_says_of_itself_reaches_no_mail() {
    let site = Site::new().await;
    let mut expected = 0;
    for (n, hostile) in HOSTILE.into_iter().enumerate() {
        for (header, name) in [("User-Agent", "agent"), ("X-Request-ID", "request"), ("X-Forwarded-For", "network")] {
            let head = format!("{header}: Firefox/evil {hostile} Windows");
            let status = asked_with(&site, head.as_bytes(), &format!("{name}{n}@example.org"), "/").await;
            // What ends a line here begins another header, or the form: then there is no request, or an empty form.
            assert!(["303", "400", "422"].contains(&status.as_str()), "{head:?}: {status}");
            expected += usize::from(status == "303");
        }
        let status = asked_with(&site, b"Accept: */*", &format!("next{n}@example.org"), &format!("/account{hostile}evil")).await;
        assert_eq!(status, "303", "{hostile:?}");
        expected += 1;
    }
    let mails = site.mails().await;
    assert_eq!(mails.len(), expected);
    assert!(expected > 2 * HOSTILE.len(), "{expected}");
    for mail in mails.values().flatten() {
        assert!(!mail.text().contains("evil"), "{}", mail.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrators_name_is_text_in_an_invitation() {
    const ROOT: &str = "root@example.org";
    let site = Site::new().await;
    latchkey(&site.database, &["user", "create", ROOT, "--admin"]);
    let mut root = site.sign_in(ROOT).await;
    let mut refused = 0;
    for (n, hostile) in HOSTILE.into_iter().enumerate() {
        let name = format!("Mara{hostile}Li");
        let page = root.post("/account/name", &[("name", &name)]).await;
        if page.status != 303 {
            assert_refused(&page, &name);
            refused += 1;
            continue;
        }
        let to = format!("guest{n}@example.org");
        assert!(root.post("/admin/users/invite", &[("email", &to)]).await.location().starts_with("/admin/users"), "{name:?}");
        let mail = site.sink.nth_to(&to, 1).await.text();
        assert_eq!(
            mail.matches(&format!("{name} invited you.")).count(),
            if name.contains(['<', '>', '"']) { 1 } else { 3 },
            "{mail}"
        );
        // Twice in the HTML part, as text: what is seen, and what a list of mails shows of it.
        assert!(!between(&mail, "<html", "</html>").contains("<a href=\"//evil"), "{mail}");
    }
    assert!((10..HOSTILE.len()).contains(&refused), "{refused} hold a line break or worse");

    for (n, hostile) in HOSTILE.into_iter().enumerate() {
        for typed in [format!("x{hostile}{n}@example.org"), format!("y{n}@example.org{hostile}z@example.org")] {
            let page = root.post("/admin/users/invite", &[("email", &typed)]).await;
            if page.status != 303 {
                assert_refused(&page, &typed);
            }
        }
    }
    site.mails().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_typed_as_a_new_address_one_is_written_to_or_none() {
    const MARA: &str = "mara@example.org";
    let site = Site::new().await;
    let mut mara = site.sign_in(MARA).await;
    let mut taken = 0;
    for (n, hostile) in HOSTILE.into_iter().enumerate() {
        for typed in [
            format!("a{hostile}{n}@example.org"),
            format!("b{n}@example.org{hostile}"),
            format!("c{n}@example.org{hostile}d@example.org"),
        ] {
            let page = mara.post("/account/email", &[("email", &typed)]).await;
            if page.status == 303 {
                taken += 1;
            } else {
                assert_refused(&page, &typed);
            }
        }
    }
    assert!(taken > 2, "those with nothing but space around them");
    let mails = site.mails().await;
    assert_eq!(mails.values().flatten().count(), taken + 1);
    assert!(mails.keys().all(|to| !to.starts_with("evil")), "{:?}", mails.keys());
}
