//! The rollout's checks, in words.

use auth::rollout::Check;

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

/// What was measured.
pub fn value(check: Check, value: f64) -> String {
    match check {
        Check::FailedVerifications => format!("{value:.1}% in the last hour."),
        Check::Burst => format!("{value:.0} in the last hour."),
        Check::SecondFactorFailures => format!("{value:.0} in the last hour."),
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
