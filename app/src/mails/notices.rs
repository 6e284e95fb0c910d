//! What an account's owner or an administrator is told: one row a notice.

use askama::Template;
use auth::{factors::backup_code, one_time::revert_link::EMAIL_CHANGE_UNDO, outbox::Notice};

use super::{By, Links, Mail};
use crate::ui::{check_text, format};

const OWNER: &str = "it's about the security of your account";
const ADMINISTRATOR: &str = "you're an administrator";

const REVIEW: &str = "Review your account";
const OPEN_ROLLOUT: &str = "Open the rollout";
const NOT_YOU: &str = "If it wasn't you,";
const UNCLEAR: (&str, &str) = ("If you don't know why,", "ask whoever runs this service.");

/// What happened, and the button for people whom it surprises.
struct Security {
    what: String,
    /// In bold before `advice`; neither where there is nothing to warn of.
    lead: &'static str,
    advice: String,
    label: &'static str,
    url: String,
    /// Why the mail was sent.
    why: &'static str,
}

/// From a browser that the account did not know, with a button that ends that very session and signs nobody in.
struct NewSignIn {
    rows: [(&'static str, String); 4],
    undo_url: String,
    account_url: String,
}

templates!(Security, "mails/security.html", "mails/security.txt");
templates!(NewSignIn, "mails/new_sign_in.html", "mails/new_sign_in.txt");

struct Row {
    subject: String,
    mail: Security,
}

impl Row {
    fn warning(mut self, lead: &'static str, advice: impl Into<String>) -> Self {
        (self.mail.lead, self.mail.advice) = (lead, advice.into());
        self
    }

    fn button(mut self, label: &'static str, url: &str) -> Self {
        (self.mail.label, self.mail.url) = (label, url.to_owned());
        self
    }

    fn because(mut self, why: &'static str) -> Self {
        self.mail.why = why;
        self
    }
}

/// A notice in words. Sent to the account's address; [`Notice::EmailChanged`] to the one it was, those of the rollout to administrators.
pub fn notice(notice: Notice, by: &By, links: &Links) -> askama::Result<Mail> {
    let (when, By { device, ip, .. }) = (by.when(), by);
    let row = |subject: &str, what: String| Row {
        subject: subject.to_owned(),
        mail: Security { what, lead: "", advice: String::new(), label: REVIEW, url: links.account.clone(), why: OWNER },
    };
    let Row { subject, mail } = match notice {
        Notice::NewSignIn { method, second } => {
            let how = format::sign_in_method(method, second);
            let (device, from) = (device.to_string(), ip.to_string());
            let rows = [("Device", device), ("When", format::date_time(by.at)), ("From", from), ("How", how)];
            let mail = NewSignIn { rows, undo_url: links.undo.clone(), account_url: links.account.clone() };
            return mail.compose("New sign-in to your Latchkey account", &links.help);
        }
        Notice::TwoFactorOn => row("Two-factor is on", "From now on we'll ask for a code from your authenticator app when you sign in. Keep your backup codes somewhere you can reach without your phone.".to_owned())
            .warning("Not you?", ""),
        Notice::TwoFactorOff => row("Two-factor is off", format!("We'll no longer ask for a code when you sign in. Turned off at {when}, from {device}, {ip}."))
            .warning(NOT_YOU, "someone can read your email. Secure your inbox, then turn two-factor back on.")
            .button("Turn two-factor back on", &links.account),
        // The administrator's reason stays in the audit log.
        Notice::TwoFactorReset => row("Two-factor was reset", format!("An administrator turned it off for your account at {when}. We'll no longer ask for a code when you sign in. Your authenticator app and your backup codes have stopped working."))
            .warning("If you didn't ask for this,", "tell whoever runs this service. Either way, set it up again.")
            .button("Set up two-factor", &links.account),
        Notice::TwoFactorResetRequested { due_at } => {
            let when = due_at.map_or_else(|| "as soon as a second administrator agrees".to_owned(), |at| format!("at {}", format::time_on_date(at)));
            row("Your two-factor will be reset", format!("Someone told an administrator that you lost your authenticator app and your backup codes. Two-factor will be turned off for your account {when}. Until then everything works as before."))
                .warning("If you didn't ask for this,", "stop it, and tell whoever runs this service: someone may be after your account.")
                .button("Stop the reset", &links.undo)
        }
        Notice::TwoFactorResetStopped => row("Your two-factor stays on", format!("A reset of your two-factor had been asked for. It was stopped at {when}, and your codes work as before."))
            .warning(UNCLEAR.0, UNCLEAR.1),
        Notice::AuthenticatorAdded => row("You added an authenticator app", format!("From now on codes from it sign you in too. Added at {when}, from {device}, {ip}. Browsers you trusted will ask for a code again."))
            .warning(NOT_YOU, "someone is signed in as you. Remove that app, then check that nobody else can read your email."),
        Notice::AuthenticatorRemoved => row("You removed an authenticator app", format!("Its codes don't sign you in any more. Removed at {when}, from {device}, {ip}. Two-factor is still on, with your other app."))
            .warning("Not you?", ""),
        Notice::BackupCodesNew => row("You have new backup codes", format!("Your old codes stopped working at {when}. The new ones were shown once and aren't in this email."))
            .warning("Not you?", ""),
        Notice::BackupCodesLow { left } => {
            let (left, total) = (left.unsigned_abs(), backup_code::SET as u64);
            let (subject, before) = match left {
                0 => ("No backup codes left".to_owned(), "Get a new set: without one, losing your phone locks you out."),
                n => (format!("{} left", format::count(n, "backup code")), "Get a new set before you run out."),
            };
            row(&subject, format!("You've used {} of your {total} backup codes. {before}", total.saturating_sub(left)))
                .button("Get new codes", &links.account)
        }
        Notice::BackupCodeUsed { left } => row("A backup code was used", format!("Someone used one of your backup codes at {when}, on {device}, from {ip}. You have {} left. If this was you, there's nothing to do.", left.unsigned_abs()))
            .warning(NOT_YOU, "someone can read your email and has your codes. Secure your inbox, then get new codes."),
        Notice::SecondStepFailed => row("A sign-in was stopped at the second step", format!("Someone signed in with an email link or code at {when}, on {device}, from {ip}, and then gave a wrong authenticator or backup code. If this was you, there's nothing to do."))
            .warning(NOT_YOU, "someone can read your email. Two-factor kept them out. Secure your inbox."),
        Notice::EmailChanged => {
            let hours = format::count(EMAIL_CHANGE_UNDO.as_secs() / 3_600, "hour");
            row("Your email address was changed", format!("Your account now signs in with another address, and no longer with this one. Changed at {when}, from {device}, {ip}."))
                .warning(NOT_YOU, format!("take it back within {hours}. It ends every session of the account."))
                .button("Take it back", &links.undo)
        }
        Notice::EmailChangeUndone => row("Your email address is back", format!("The change of your email address was taken back at {when}. You sign in with this address again. Every session has ended."))
            .warning("Someone else changed it?", "Check that nobody else can read your email, then set up two-factor."),
        Notice::DeletionRequested { deletes_at } => row("Your account will be deleted", format!("Your account will be deleted at {}. Asked for at {when}, from {device}, {ip}. Until then you can sign in, and keep it.", format::time_on_date(deletes_at)))
            .warning("Changed your mind, or wasn't it you?", "")
            .button("Keep my account", &links.undo),
        Notice::DeletionCancelled => row("Your account stays", format!("It was to be deleted. That was called off at {when}.")).warning("Not you?", ""),
        Notice::AccountDisabled => row("Your account was turned off", format!("An administrator turned your account off at {when}. Nobody can sign in to it."))
            .warning(UNCLEAR.0, UNCLEAR.1)
            .button("Read more in help", &links.help),
        Notice::AccountEnabled => row("Your account is on again", format!("An administrator turned your account on again at {when}. You can sign in.")),
        Notice::SessionsEnded => row("You were signed out everywhere", format!("An administrator ended all your sessions at {when}. Sign in again to go on."))
            .warning(UNCLEAR.0, UNCLEAR.1),
        Notice::AdminGranted => row("You're an administrator now", format!("An administrator made you one too, at {when}. You can look after other people's accounts. We may ask you to set up two-factor first."))
            .warning("Not expected?", ""),
        Notice::AdminRevoked => row("You're no longer an administrator", format!("You can't look after other people's accounts any more, since {when}."))
            .warning(UNCLEAR.0, UNCLEAR.1),
        Notice::ApiKeyCreated { prefix } => row("You made an API key", format!("It begins with {prefix}, and programs can now use it here. Made at {when}, from {device}, {ip}. The key itself isn't in this email."))
            .warning(NOT_YOU, "someone is signed in as you. Revoke the key, then check that nobody else can read your email."),
        Notice::ApiKeyRevoked { prefix } => row("An API key was revoked", format!("The key you made that begins with {prefix} stopped working at {when}. Programs that use it can't any more."))
            .warning(UNCLEAR.0, UNCLEAR.1),
        Notice::ApiKeyEnding { prefix, expires_at } => row("An API key stops working soon", format!("The key that begins with {prefix} stops working at {}. Make another one, and give it to the programs that use this one.", format::time_on_date(expires_at)))
            .button("Open API keys", &links.api_keys)
            .because(ADMINISTRATOR),
        Notice::Test => row("Test email", format!("You asked for this at {when}, to see whether emails from here arrive. This one did.")).because("you asked for it"),
        Notice::RolloutHeld { check } => row("The rollout is held", format!("A check is over its limit: {}. Nobody new gets in until every check has been under its limit for 30 minutes; who is in stays in.", check_text::over(check)))
            .warning("Look at it soon.", "It goes on by itself when things are well again. You can also pause it or turn it off.")
            .button(OPEN_ROLLOUT, &links.rollout)
            .because(ADMINISTRATOR),
        // By a check that only we can bring about, which was over its limit for too long, or far over it.
        Notice::RolloutRolledBack { check } => row("Signing in by email was turned off", format!("A check was over its limit for too long, or far over it: {}. Nobody can sign in this way now; who is signed in stays signed in.", check_text::over(check)))
            .warning("Look at it now.", "The rollout is over. Start a new one once the cause is mended.")
            .button(OPEN_ROLLOUT, &links.rollout)
            .because(ADMINISTRATOR),
        Notice::RolloutFinished => row("The rollout is finished", "Everyone can sign in by email, and the last step went well.".to_owned())
            .button(OPEN_ROLLOUT, &links.rollout)
            .because(ADMINISTRATOR),
    };
    mail.compose(&subject, &links.help)
}
