//! `/account`: how someone signs in, and where they are signed in.

use auth::{event, session::Level};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use leptos::prelude::*;
use time::OffsetDateTime;

use crate::{
    components::{Badge, Glyph, Row, Settings},
    page::page,
    routes,
    session::Visitor,
    words,
};

/// How a session was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    EmailLink,
    EmailCode,
}

impl Method {
    const fn words(self) -> &'static str {
        match self {
            Self::EmailLink => "an email link",
            Self::EmailCode => "an email code",
        }
    }
}

/// The session that asks.
#[derive(Clone, Debug)]
pub struct ThisSession {
    pub since: OffsetDateTime,
    pub method: Method,
    pub device: String,
    pub ip: String,
}

#[component]
pub fn AccountPage(email: String, admin: bool, session: ThisSession) -> impl IntoView {
    let ThisSession { since, method, device, ip } = session;
    let badge = admin.then(|| view! { <Badge text="Admin"/> }.into_any());
    view! {
        <Settings title="Security" email=email.clone() badge>
            <section class="panel">
                <h2>"How you sign in"</h2>
                <Row glyph=Glyph::Mail heading="Email">
                    <p class="whole">{email}</p>
                    <p class="hint">"A link and a code by email"</p>
                </Row>
            </section>
            <section class="panel">
                <h2>"Where you're signed in"</h2>
                <Row glyph=glyph_for(&device) heading=device badge="This device">
                    <p>{ip}" · Active now"</p>
                    <p class="hint">
                        "Signed in "<time datetime=words::machine_time(since)>{words::date_time(since)}</time>
                        " with "{method.words()}
                    </p>
                </Row>
            </section>
        </Settings>
    }
}

fn glyph_for(device: &str) -> Glyph {
    let in_a_pocket = ["iPhone", "Android", "iPad"].iter().any(|name| device.contains(name));
    if in_a_pocket { Glyph::Phone } else { Glyph::Computer }
}

/// For the signed in, all the way.
pub async fn get(visitor: Visitor) -> Response {
    let Some(authority) = visitor.authority else {
        return Redirect::to(routes::LOGIN_FOR_ACCOUNT).into_response();
    };
    if authority.level == Level::FirstFactor {
        return Redirect::to(routes::LOGIN_TWO_FACTOR).into_response();
    }
    let session = ThisSession {
        since: authority.authenticated_at,
        method: match authority.method {
            event::Method::Link => Method::EmailLink,
            event::Method::Code => Method::EmailCode,
        },
        device: authority.device,
        ip: authority.ip.to_string(),
    };
    let (email, admin) = (authority.email, authority.admin);
    page(StatusCode::OK, || view! { <AccountPage email admin session/> })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;
    use time::macros::datetime;

    fn html(email: &str, admin: bool, device: &str) -> String {
        let session = ThisSession {
            since: datetime!(2026-11-24 14:29 UTC),
            method: Method::EmailCode,
            device: device.to_owned(),
            ip: "203.0.113.24".to_owned(),
        };
        let email = email.to_owned();
        render(|| view! { <AccountPage email admin session/> })
    }

    #[test]
    fn it_shows_the_address_and_this_session() {
        let html = html("mara@example.org", false, "Firefox on Windows");
        assert!(html.contains("<title>Security – Latchkey</title>") && html.contains("<h1>Security</h1>"));
        assert!(html.contains("mara@example.org"));
        assert!(html.contains(r#"<span class="badge">This device</span>"#));
        assert!(
            html.contains(r#"Signed in <time datetime="2026-11-24T14:29Z">24 November 2026, 14:29 UTC</time> with an email code"#)
        );
        assert!(html.contains(r#"<form method="post" action="/logout">"#));
        assert!(html.contains(r#"<a href="/account" aria-current="page">Security</a>"#));
        assert!(!html.contains("Admin"));
    }

    #[test]
    fn an_admin_sees_that_they_are_one() {
        assert!(html("mara@example.org", true, "").contains(r#"<span class="badge">Admin</span>"#));
    }

    #[test]
    fn address_and_device_are_text() {
        let html = html("<b>@example.org", false, "<script>");
        assert!(!html.contains("<b>") && !html.contains("<script"));
    }
}
