//! What happened, in the words of the one it happened to: from an audit row to a line of the account's activity.

use auth::identity::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ui::format;

/// One thing that happened: "Signed in from a new device", and what more there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub what: &'static str,
    pub more: Option<String>,
    pub new_device: bool,
}

/// An event in words, by its name and details (`docs/events.md`). One without words of its own is still told of: whatever it is,
/// its owner should know that it was. `None` for what is nobody's news but the audit log's.
pub fn told(happened: &str, details: &Value) -> Option<Told> {
    let word = |key| details.get(key).and_then(Value::as_str).unwrap_or_default();
    let (what, more) = match happened {
        // An administrator looked. What they did then is told.
        "user.viewed" => return None,
        "session.created" => return Some(signed_in(details)),
        "backup_code.used" => {
            let left = details.get("left").and_then(Value::as_u64);
            let more = left.map(|left| format!("{} left", format::count(left, "code")));
            return Some(Told { what: "Backup code used", more, new_device: false });
        }

        "link.requested" => ("Sign-in email sent", ""),
        "link.redeemed" if word("method") == Method::Code.as_str() => ("Sign-in code used", ""),
        "link.redeemed" => ("Sign-in link used", ""),
        "session.revoked" => ended(word("reason")),
        "user.sessions_ended" => ("Signed out everywhere", ""),

        "limit.released" => ("Let go by an administrator", "Too many tries or emails"),

        "user.created" => ("Account created", ""),
        "invite.used" => ("Invitation used", ""),
        "user.deleted" => ("Account deleted", ""),
        "user.disabled" => ("Account turned off", ""),
        "user.enabled" => ("Account turned on again", ""),
        "admin.granted" => ("Made an administrator", ""),
        "admin.revoked" => ("No longer an administrator", ""),
        "name.changed" => ("Name changed", ""),
        "email.change_requested" => ("Another email address asked for", ""),
        "email.change_refused" => ("Wrong code for another email address", ""),
        "email.changed" => ("Email address changed", ""),
        "email.change_undone" => ("Change of email address undone", ""),
        "account.exported" => ("Data downloaded", ""),
        "account.deletion_requested" => ("Account deletion asked for", ""),
        "account.deletion_cancelled" => ("Account kept", "It won't be deleted"),
        "api_key.created" => ("API key made", word("name")),
        "api_key.revoked" => ("API key revoked", word("prefix")),

        "totp.setup_started" => ("Authenticator app setup started", ""),
        "totp.enrolled" => ("Authenticator app added", ""),
        "totp.removed" => ("Authenticator app removed", ""),
        "totp.accepted" => ("Authenticator code accepted", purpose(word("for"))),
        "totp.refused" => match word("reason") {
            "used" => ("Authenticator code used a second time", purpose(word("for"))),
            "clock" => ("Wrong authenticator code", "The app's clock is off"),
            "off" => ("Authenticator code not accepted", "There were too many wrong ones before"),
            _ => ("Wrong authenticator code", purpose(word("for"))),
        },
        "totp.locked" => ("Authenticator app stopped", "There were too many wrong codes"),
        "totp.unreadable" => ("Authenticator app couldn't be checked", "Something is wrong on our side"),

        "backup_codes.created" => ("New backup codes shown", ""),
        "backup_codes.saved" => ("Backup codes saved", "Only these work now"),
        "backup_code.refused" if word("reason") == "used" => ("Backup code used a second time", purpose(word("for"))),
        "backup_code.refused" => ("Wrong backup code", purpose(word("for"))),

        "two_factor.turned_off" => ("Two-factor turned off", ""),
        "two_factor.reset" => ("Two-factor reset", ""),
        "two_factor.reset_requested" => ("Reset of two-factor asked for", ""),
        "two_factor.reset_stopped" => ("Reset of two-factor stopped", "Two-factor stays on"),
        "device.trusted" => ("Browser trusted", "It doesn't ask for a code"),
        "device.revoked" => ("Browser no longer trusted", "It asks for a code again"),

        "browser.forgotten" => ("Browser forgotten", "Signing in there again will be news"),

        "step_up.mailed" => ("Code sent to confirm it's you", ""),
        "step_up.refused" => ("Wrong email code", "Before a change"),
        "step_up.passed" => ("Confirmed it's you", "Before a change"),

        unknown => return Some(Told { what: "Something else", more: Some(unknown.to_owned()), new_device: false }),
    };
    Some(Told { what, more: (!more.is_empty()).then(|| more.to_owned()), new_device: false })
}

/// The same for administrators, whose news is also what happens to no account. Words only: who, whom and why stand in columns of
/// their own.
pub fn told_to_admin(happened: &str, details: &Value) -> Told {
    let word = |key| details.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key| details.get(key).and_then(Value::as_u64);
    let (what, more) = match happened {
        "user.viewed" => ("Account opened", "Address shown".to_owned()),
        "link.refused" if word("method") == Method::Code.as_str() => ("Sign-in code refused", refused(word("reason")).to_owned()),
        "link.refused" => ("Sign-in link refused", refused(word("reason")).to_owned()),
        "link.cancelled" => ("Sign-in cancelled", "By whoever opened the email".to_owned()),
        "invite.created" => ("Invitation sent", String::new()),
        "sessions.ended" => ("Everyone signed out", number("sessions").map(|n| format::count(n, "session")).unwrap_or_default()),
        "keys.rotated" => ("Encryption key changed", number("secrets").map(|n| format::count(n, "secret")).unwrap_or_default()),
        "mail.sent" => ("Email sent", word("kind").replace('_', " ")),
        "mail.failed" if word("state") == "expired" => ("Email given up", "It was too late to send".to_owned()),
        "mail.failed" => ("Email given up", "The mail server refused it".to_owned()),
        "mail.retried" => ("Email sent again", String::new()),
        "network.too_many_requests" => ("Too many sign-in emails asked for", word("network").to_owned()),
        "flag.changed" => ("Flag changed", flag(details)),
        "rollout.started" => ("Rollout started", String::new()),
        "rollout.moved" => ("Rollout moved on", step(details)),
        "rollout.held" => ("Rollout held", step(details)),
        "rollout.released" => ("Rollout released", step(details)),
        "rollout.paused" => ("Rollout paused", step(details)),
        "rollout.resumed" => ("Rollout resumed", step(details)),
        "rollout.aborted" => ("Rollout aborted", step(details)),
        "rollout.rolled_back" => ("Rollout rolled back", step(details)),
        "rollout.finished" => ("Rollout finished", String::new()),
        "audit.exported" => ("Audit log downloaded", word("format").to_uppercase()),
        "audit.accepted" => {
            ("Late seals of the audit log accepted", number("rows").map(|n| format::count(n, "event")).unwrap_or_default())
        }
        "audit.tampered" => ("Audit log tampered with", String::new()),
        "reconcile.finished" => ("Contradictions found", String::new()),
        _ => {
            let unknown = Told { what: "Something else", more: Some(happened.to_owned()), new_device: false };
            return told(happened, details).unwrap_or(unknown);
        }
    };
    Told { what, more: (!more.is_empty()).then_some(more), new_device: false }
}

/// Why a link or code did not sign anybody in.
fn refused(reason: &str) -> &'static str {
    match reason {
        "expired" => "It had expired",
        "used" => "It had been used before",
        "replaced" => "A newer one took its place",
        "cancelled" => "It had been cancelled",
        "other_browser" => "Opened in another browser",
        "wrong_code" => "Wrong code",
        "not_admitted" => "There's no account, and none may be made",
        "account_off" => "The account is turned off",
        "enrolment_required" => "Two-factor has to be set up first",
        _ => "",
    }
}

/// "`passwordless_auth`, nobody to 25% of everyone"
fn flag(details: &Value) -> String {
    let who = |at: &str| {
        let of = |key| details.get(at).and_then(|flag| flag.get(key)).and_then(Value::as_u64).unwrap_or(0);
        match (of("percent_everyone"), of("percent_admins"), of("addresses")) {
            (100, ..) => "everyone".to_owned(),
            (0, 0, 0) => "nobody".to_owned(),
            (0, 0, addresses) => format!("{addresses} by name"),
            (0, admins, _) => format!("{admins}% of admins"),
            (everyone, ..) => format!("{everyone}% of everyone"),
        }
    };
    let name = details.get("flag").and_then(Value::as_str).unwrap_or_default();
    format!("{name}, {} to {}", who("before"), who("after"))
}

fn step(details: &Value) -> String {
    details.get("step").and_then(Value::as_u64).map(|step| format!("At step {}", step + 1)).unwrap_or_default()
}

/// What a second factor was given for. Signing in goes without saying.
fn purpose(of: &str) -> &'static str {
    match of {
        "step_up" => "Before a change",
        "turn_off" => "To turn off two-factor",
        "undo" => "To undo a change",
        _ => "",
    }
}

/// A session's end. Where it is another than the one that asked, the line's device is the one that ended it.
fn ended(reason: &str) -> (&'static str, &'static str) {
    match reason {
        "signed_out" => ("Signed out", ""),
        "signed_out_elsewhere" => ("Another session signed out", ""),
        "replaced" => ("Session renewed", ""),
        "two_factor_changed" => ("Session signed out", "Two-factor was changed"),
        "email_changed" => ("Session signed out", "The email address was changed"),
        "undone" => ("Session signed out", "A change was undone"),
        "account_off" => ("Session signed out", "The account was turned off"),
        "leaving" => ("Session signed out", "Account deletion was asked for"),
        _ => ("Session signed out", ""),
    }
}

/// "Email code, authenticator app". With one factor of two nobody is in yet, but whoever gave it can read the mail.
fn signed_in(details: &Value) -> Told {
    let more = read(details, "method").map(|method| format::sign_in_method(method, read(details, "second_method")));
    let half = details.get("level").is_some_and(|level| level == "first_factor");
    let new_device = !half && details.get("new_device").is_some_and(|new| new == true);
    let what = match (half, new_device) {
        (true, _) => "First step of signing in",
        (false, true) => "Signed in from a new device",
        (false, false) => "Signed in",
    };
    Told { what, more, new_device }
}

fn read<T: DeserializeOwned>(details: &Value, key: &str) -> Option<T> {
    T::deserialize(details.get(key)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(happened: &str, details: &Value) -> (&'static str, String) {
        let told = told(happened, details).expect("is told of");
        (told.what, told.more.unwrap_or_default())
    }

    /// What happens to no account, so that no owner sees it.
    const NOBODYS: [&str; 23] = [
        "flag.changed",
        "rollout.started",
        "rollout.moved",
        "rollout.held",
        "rollout.released",
        "rollout.paused",
        "rollout.resumed",
        "rollout.aborted",
        "rollout.rolled_back",
        "rollout.finished",
        "link.refused",
        "link.cancelled",
        "invite.created",
        "sessions.ended",
        "keys.rotated",
        "mail.sent",
        "mail.failed",
        "mail.retried",
        "network.too_many_requests",
        "audit.exported",
        "audit.accepted",
        "audit.tampered",
        "reconcile.finished",
    ];

    #[test]
    fn every_event_of_an_account_has_words() {
        let documented =
            include_str!("../../../docs/events.md").lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let names: Vec<&str> = documented.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect();
        let events: Vec<&&str> = names.iter().filter(|name| name.contains('.') && !NOBODYS.contains(name)).collect();
        assert!(events.len() >= 23 && events.contains(&&"device.revoked"), "{events:?}");
        for name in events {
            assert_ne!(told(name, &json!({})).map(|told| told.what), Some("Something else"), "{name}");
        }
    }

    #[test]
    fn every_event_has_words_for_administrators() {
        for name in NOBODYS.into_iter().chain(["user.viewed", "session.created"]) {
            assert_ne!(told_to_admin(name, &json!({})).what, "Something else", "{name}");
        }
        let details = json!({
            "flag": "passwordless_auth", "before": { "addresses": 0, "percent_admins": 0, "percent_everyone": 0 },
            "after": { "addresses": 2, "percent_admins": 5, "percent_everyone": 25 },
        });
        assert_eq!(told_to_admin("flag.changed", &details).more.as_deref(), Some("passwordless_auth, nobody to 25% of everyone"));
        assert_eq!(told_to_admin("rollout.held", &json!({ "step": 1 })).more.as_deref(), Some("At step 2"));
        assert_eq!(told_to_admin("moon.risen", &json!(null)).more.as_deref(), Some("moon.risen"));
    }

    #[test]
    fn a_sign_in_says_how() {
        let created = |level: &str, method: &str, second: Option<&str>, new: bool| {
            let details = json!({ "session": "7", "level": level, "method": method, "second_method": second, "new_device": new });
            told("session.created", &details).expect("is told of")
        };
        let plain = created("email", "link", None, false);
        assert_eq!((plain.what, plain.more.as_deref(), plain.new_device), ("Signed in", Some("Email link"), false));
        let new = created("two_factor", "code", Some("backup_code"), true);
        assert_eq!(
            (new.what, new.more.as_deref(), new.new_device),
            ("Signed in from a new device", Some("Email code, backup code"), true)
        );
        let trusted = created("two_factor", "link", Some("trusted_device"), false);
        assert_eq!(trusted.more.as_deref(), Some("Email link, trusted browser"));
        let half = created("first_factor", "code", None, true);
        assert_eq!(
            (half.what, half.more.as_deref(), half.new_device),
            ("First step of signing in", Some("Email code"), false),
            "not in yet"
        );
    }

    #[test]
    fn details_are_put_into_words() {
        assert_eq!(words("link.redeemed", &json!({ "method": "code" })).0, "Sign-in code used");
        assert_eq!(words("link.redeemed", &json!({ "method": "link" })).0, "Sign-in link used");
        assert_eq!(words("backup_code.used", &json!({ "left": 2 })), ("Backup code used", "2 codes left".to_owned()));
        assert_eq!(words("backup_code.used", &json!({ "left": 1 })).1, "1 code left");
        assert_eq!(
            words("totp.refused", &json!({ "reason": "wrong", "for": "sign_in" })),
            ("Wrong authenticator code", String::new())
        );
        assert_eq!(words("totp.refused", &json!({ "reason": "used", "for": "turn_off" })).1, "To turn off two-factor");
        assert_eq!(words("totp.refused", &json!({ "reason": "clock" })).1, "The app's clock is off");
        assert_eq!(words("totp.refused", &json!({ "reason": "off" })).0, "Authenticator code not accepted");
        assert_eq!(words("backup_code.refused", &json!({ "reason": "used", "for": "step_up" })).1, "Before a change");
        let ended = |reason: &str| words("session.revoked", &json!({ "reason": reason }));
        assert_eq!(ended("signed_out").0, "Signed out");
        assert_eq!(ended("signed_out_elsewhere").0, "Another session signed out");
        assert_eq!(ended("email_changed").1, "The email address was changed");
        assert_eq!(ended("ended_by_admin"), ("Session signed out", String::new()));
    }

    #[test]
    fn what_nobody_foresaw_is_told_of_all_the_same() {
        assert_eq!(words("moon.risen", &json!(null)), ("Something else", "moon.risen".to_owned()));
        let odd = [json!(null), json!("x"), json!([1]), json!({ "method": 7, "left": "many", "new_device": "yes", "reason": "?" })];
        for details in odd {
            for happened in ["session.created", "session.revoked", "backup_code.used", "totp.refused", "link.redeemed"] {
                assert!(
                    told(happened, &details).is_some_and(|told| !told.what.is_empty() && !told.new_device),
                    "{happened}: {details}"
                );
            }
        }
    }

    #[test]
    fn that_an_administrator_looked_is_not_told() {
        assert_eq!(told("user.viewed", &json!({})), None);
    }
}
