//! What is unusual in the audit log, in words.

use auth::audit::Kind;

/// What it is, and what to do about it.
pub fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Tampered => (
            "The audit log was tampered with",
            "Run latchkey audit verify, which names what was changed, and compare with a backup. Somebody can write to the database.",
        ),
        Kind::Unreadable => (
            "A two-factor secret couldn't be read",
            "Run latchkey key status. A key is missing, or the row was changed in the database.",
        ),
        Kind::ManyFailures => (
            "Many wrong codes on one account",
            "Wrong authenticator codes come after the email, so somebody may read this person's mail. Ask them, and end the account's sessions if it wasn't them.",
        ),
        Kind::ManyAccounts => (
            "One network failed at many accounts",
            "Look at what else came from there. If it isn't an office of yours, block it at the proxy.",
        ),
        Kind::ManyLinks => (
            "One network had many links or codes refused",
            "Somebody may be guessing codes. Limits slow them down; block the network at the proxy if it goes on.",
        ),
        Kind::Replays => (
            "Used links or codes were tried again",
            "Often a second click, or a mail scanner. If the network isn't the person's own, somebody else has their mail.",
        ),
        Kind::TwoFactorReset => (
            "Two-factor was taken off an account",
            "Check that whoever did it had a reason you know of, and that the person set two-factor up again.",
        ),
        Kind::MadeAdmin => ("Somebody was made an administrator", "Check that you know why."),
        Kind::Exported => ("The audit log was downloaded", "Check that you know who has the file and why."),
        Kind::AtTheShell => (
            "Something was done from the server's shell",
            "Nobody signs in there, so the log doesn't say who. Ask whoever has access to the server.",
        ),
        Kind::ManyRequests => (
            "One network asked for many sign-in emails",
            "Limits refused most of them. If it goes on, block the network at the proxy.",
        ),
    }
}
