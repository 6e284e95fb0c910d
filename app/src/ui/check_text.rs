//! The rollout's checks, in words.

use auth::policy::checks::Check;

use crate::ui::format;

/// What has to hold.
pub fn title(check: Check) -> &'static str {
    match check {
        Check::FailedVerifications => "Failed sign-ins at most 5%",
        Check::Burst => "At most 100 emails for one network",
        Check::SecondFactorFailures => "At most 10 wrong second codes for one account",
        Check::MailDelay => "Email delay at most 60 s",
        Check::ServerErrors => "Server errors at most 1%",
        Check::Audit => "Audit log can be written",
        Check::MailStuck => "Emails going out",
        Check::Keys => "Encryption keys all there",
    }
}

/// What is checked.
pub fn name(check: Check) -> &'static str {
    match check {
        Check::FailedVerifications => "Failed links and codes",
        Check::Burst => "Emails for one network",
        Check::SecondFactorFailures => "Wrong second codes for one account",
        Check::MailDelay => "Email delay",
        Check::ServerErrors => "Server errors",
        Check::Audit => "Audit log",
        Check::MailStuck => "Emails going out",
        Check::Keys => "Encryption keys",
    }
}

/// What was measured, beside its limit.
pub fn beside_limit(check: Check, value: f64) -> String {
    let limit = check.limit();
    match check {
        Check::FailedVerifications | Check::ServerErrors => format!("{value:.1}%, limit {limit}%"),
        Check::Burst | Check::SecondFactorFailures => format!("{value:.0} in the last hour, limit {limit}"),
        Check::MailDelay => format!("{value:.0} s, limit {limit} s"),
        Check::MailStuck => format!("{value:.0} stuck, limit {limit}"),
        Check::Audit if value > 0.0 => "It can't be written".to_owned(),
        Check::Audit => "It can be written".to_owned(),
        Check::Keys if value > 0.0 => format!("{value:.0} secrets lie under a missing key"),
        Check::Keys => "None missing".to_owned(),
    }
}

/// What is the matter once it is over its limit, as a heading, and how much so.
pub fn alert(check: Check, value: f64) -> (&'static str, String) {
    let limit = check.limit();
    match check {
        Check::FailedVerifications => (
            "Too many links and codes fail",
            format!("In the last hour {value:.1}% of them signed nobody in. The limit is {limit}%."),
        ),
        Check::Burst => (
            "One network asks for too many sign-in emails",
            format!("It asked for {value:.0} in the last hour. The limit is {limit}."),
        ),
        Check::SecondFactorFailures => {
            ("One account gets too many wrong second codes", format!("It got {value:.0} in the last hour. The limit is {limit}."))
        }
        Check::MailDelay => {
            ("Sign-in emails are arriving late", format!("The slowest 5% take {value:.0} seconds or more. The limit is {limit}."))
        }
        Check::ServerErrors => (
            "Too many answers are errors of ours",
            format!("In the last 15 minutes {value:.1}% of them were. The limit is {limit}%."),
        ),
        Check::Audit => ("The audit log can't be written", "What has to be recorded can't be done meanwhile.".to_owned()),
        Check::MailStuck => ("Emails wait, and none goes out", format!("{value:.0} are stuck. The limit is {limit}.")),
        Check::Keys => {
            ("Secrets lie under a key that is missing", format!("{value:.0} authenticator apps can't be checked until it is back."))
        }
    }
}

/// What doesn't hold, in the middle of a sentence.
pub fn over(check: Check) -> &'static str {
    match check {
        Check::FailedVerifications => "more than 5% of links and codes signed nobody in, in the last hour",
        Check::Burst => "one network asked for more than 100 sign-in emails in an hour",
        Check::SecondFactorFailures => "one account got more than 10 wrong second codes in an hour",
        Check::MailDelay => "the slowest emails took more than 60 seconds",
        Check::ServerErrors => "more than 1% of all answers were errors of ours",
        Check::Audit => "the audit log can't be written",
        Check::MailStuck => "emails wait, and none goes out",
        Check::Keys => "secrets lie under a key that is missing",
    }
}

/// A reason of the rollout's own: the check of this name doesn't hold. It begins a sentence.
pub fn reason(name: &str) -> Option<String> {
    Check::parse(name).map(|check| format::capitalised(over(check)))
}

/// What was measured.
pub fn value(check: Check, value: f64) -> String {
    match check {
        Check::FailedVerifications => format!("{value:.1}% in the last hour."),
        Check::Burst | Check::SecondFactorFailures => format!("{value:.0} in the last hour."),
        Check::MailDelay => format!("{value:.0} s."),
        Check::ServerErrors => format!("{value:.1}% in the last 15 minutes."),
        Check::Audit if value > 0.0 => "It can't.".to_owned(),
        Check::Audit => "It can.".to_owned(),
        Check::MailStuck if value > 0.0 => format!("{value:.0} stuck."),
        Check::MailStuck => "None stuck.".to_owned(),
        Check::Keys if value > 0.0 => format!("{value:.0} secrets lie under a missing key."),
        Check::Keys => "None missing.".to_owned(),
    }
}
