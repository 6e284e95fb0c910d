//! The mails, as HTML and as plain text.
//!
//! To add one: its two templates in `templates/mails/`, a function here, and a snapshot of both parts. The HTML part shows
//! nothing remote: the logo travels with it ([`IMAGES`]). What others have a say in (devices, addresses, names) goes through
//! `one_line`, so that it can't pass for lines of ours.
//!
//! The pictures are `public/logo.svg` and `public/logo-dark.svg` at twice their size. The light one has a white edge, unseen on
//! white, that keeps it readable where a mail program darkens the page but not the pictures.

use std::time::Duration;

use askama::Template;
use auth::policy::checks::Check;
use data_encoding::BASE64;
use time::OffsetDateTime;

use crate::{
    assets::{Asset, MAIL_LOGO_DARK_PNG, MAIL_LOGO_PNG},
    checks, words,
};

/// A mail without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// A picture that HTML parts show as `cid:{content_id}`.
#[derive(Debug)]
pub struct InlineImage {
    pub content_id: &'static str,
    pub asset: Asset,
}

/// Every HTML part shows these two, one in light and one in dark.
pub static IMAGES: [InlineImage; 2] = [
    InlineImage { content_id: "logo@latchkey", asset: MAIL_LOGO_PNG },
    InlineImage { content_id: "logo-dark@latchkey", asset: MAIL_LOGO_DARK_PNG },
];

/// An HTML part with its pictures inside it, for where nothing is attached.
pub fn with_pictures(html: &str) -> String {
    IMAGES.iter().fold(html.to_owned(), |html, image| {
        let data = format!("data:{};base64,{}", image.asset.mime, BASE64.encode(image.asset.raw));
        html.replace(&format!("cid:{}", image.content_id), &data)
    })
}

/// The same for known and unknown addresses.
const SIGN_IN: &str = "Sign in to Latchkey";

#[derive(Clone, Debug)]
pub struct SignIn<'a> {
    pub url: &'a str,
    /// As it is read: "482 931".
    pub code: &'a str,
    /// How long link and code work.
    pub lifetime: Duration,
    pub device: &'a str,
    pub ip: &'a str,
    pub asked_at: OffsetDateTime,
    pub help_url: &'a str,
}

impl SignIn<'_> {
    fn lasting(&self) -> String {
        words::lasting(self.lifetime)
    }

    fn device(&self) -> String {
        one_line(self.device)
    }

    fn ip(&self) -> String {
        one_line(self.ip)
    }

    fn at(&self) -> String {
        words::time_on_date(self.asked_at)
    }
}

/// The link and the code.
pub fn sign_in(mail: &SignIn<'_>) -> askama::Result<Mail> {
    let (subject, help_url) = (SIGN_IN, mail.help_url);
    compose(subject, &SignInHtml { subject, help_url, mail }, &SignInText { subject, mail })
}

#[derive(Template)]
#[template(path = "mails/sign_in.html")]
struct SignInHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    mail: &'a SignIn<'a>,
}

#[derive(Template)]
#[template(path = "mails/sign_in.txt")]
struct SignInText<'a> {
    subject: &'a str,
    mail: &'a SignIn<'a>,
}

/// A sign-in that another application offers as its own.
#[derive(Clone, Debug)]
pub struct SignInElsewhere<'a> {
    /// Operators' words.
    pub application: &'a str,
    /// On the application's site; without one the mail has the code only.
    pub url: Option<&'a str>,
    pub code: &'a str,
    pub lifetime: Duration,
    /// Device and address, where the application said who asks.
    pub client: Option<(&'a str, &'a str)>,
    pub asked_at: OffsetDateTime,
    pub help_url: &'a str,
}

impl SignInElsewhere<'_> {
    fn application(&self) -> String {
        one_line(self.application)
    }

    fn lasting(&self) -> String {
        words::lasting(self.lifetime)
    }

    fn client(&self) -> Option<String> {
        self.client.map(|(device, ip)| format!("{}, {}", one_line(device), one_line(ip)))
    }

    fn at(&self) -> String {
        words::time_on_date(self.asked_at)
    }
}

/// The code, and the link where the application has a page for it.
pub fn sign_in_elsewhere(mail: &SignInElsewhere<'_>) -> askama::Result<Mail> {
    let (subject, help_url) = (SIGN_IN, mail.help_url);
    compose(subject, &SignInElsewhereHtml { subject, help_url, mail }, &SignInElsewhereText { subject, mail })
}

#[derive(Template)]
#[template(path = "mails/sign_in_elsewhere.html")]
struct SignInElsewhereHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    mail: &'a SignInElsewhere<'a>,
}

#[derive(Template)]
#[template(path = "mails/sign_in_elsewhere.txt")]
struct SignInElsewhereText<'a> {
    subject: &'a str,
    mail: &'a SignInElsewhere<'a>,
}

/// For an address nobody has an account with: the page said that a mail was sent, so one is.
pub fn no_account(help_url: &str) -> askama::Result<Mail> {
    notice(
        SIGN_IN,
        "sign in with",
        "Someone asked to sign in with this address, but there's no account for it.",
        "If it was you, try the address you signed up with. If not, ignore this email.",
        help_url,
    )
}

/// For an account that is turned off.
pub fn account_off(help_url: &str) -> askama::Result<Mail> {
    notice(
        SIGN_IN,
        "sign in with",
        "Someone asked to sign in with this address, but its account is turned off.",
        "If it was you, ask whoever runs this service to turn it back on. If not, ignore this email.",
        help_url,
    )
}

/// For an address that signing in by mail is not for yet. `usual_url`: where its owner signs in meanwhile.
pub fn not_yet(usual_url: Option<&str>, help_url: &str) -> askama::Result<Mail> {
    let usual_way =
        usual_url.map_or_else(|| "your usual way to sign in".to_owned(), |url| format!("your usual way to sign in ({url})"));
    notice(
        SIGN_IN,
        "sign in with",
        "Someone asked to sign in with this address, but signing in by email isn't turned on for it yet.",
        &format!(
            "We're turning it on for a few people at a time. If it was you, use {usual_way} until then. If not, ignore this email."
        ),
        help_url,
    )
}

/// `asked`: what somebody asked to do with the address.
fn notice(subject: &str, asked: &str, what: &str, advice: &str, help_url: &str) -> askama::Result<Mail> {
    compose(subject, &NoticeHtml { subject, help_url, asked, what, advice }, &NoticeText { subject, what, advice })
}

#[derive(Template)]
#[template(path = "mails/notice.html")]
struct NoticeHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    asked: &'a str,
    what: &'a str,
    advice: &'a str,
}

#[derive(Template)]
#[template(path = "mails/notice.txt")]
struct NoticeText<'a> {
    subject: &'a str,
    what: &'a str,
    advice: &'a str,
}

#[derive(Clone, Debug)]
pub struct Invite<'a> {
    pub url: &'a str,
    pub inviter: Option<&'a str>,
    /// What one is invited to.
    pub host: &'a str,
    pub days: u64,
    pub help_url: &'a str,
}

impl Invite<'_> {
    fn who(&self) -> String {
        self.inviter.map_or_else(|| "You've been invited.".to_owned(), |inviter| format!("{} invited you.", one_line(inviter)))
    }

    fn lasting(&self) -> String {
        words::count(self.days, "day")
    }
}

pub fn invite(mail: &Invite<'_>) -> askama::Result<Mail> {
    let (subject, help_url) = (&format!("You're invited to {}", mail.host), mail.help_url);
    compose(subject, &InviteHtml { subject, help_url, mail }, &InviteText { subject, mail })
}

#[derive(Template)]
#[template(path = "mails/invite.html")]
struct InviteHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    mail: &'a Invite<'a>,
}

#[derive(Template)]
#[template(path = "mails/invite.txt")]
struct InviteText<'a> {
    subject: &'a str,
    mail: &'a Invite<'a>,
}

/// Where mails about an account lead.
#[derive(Clone, Copy, Debug)]
pub struct Links<'a> {
    /// `{base}/account`. It signs nobody in.
    pub account_url: &'a str,
    pub help_url: &'a str,
}

/// Who did something, as far as a request tells, and when.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    pub device: &'a str,
    pub ip: &'a str,
    pub at: OffsetDateTime,
}

impl By<'_> {
    fn device(&self) -> String {
        one_line(self.device)
    }

    fn ip(&self) -> String {
        one_line(self.ip)
    }

    fn at(&self) -> String {
        words::time_on_date(self.at)
    }
}

/// What happened to an account, and the button for whoever it surprises.
struct Security<'a> {
    subject: &'a str,
    what: &'a str,
    /// In bold before `advice`; neither where there is nothing to warn of.
    lead: &'a str,
    advice: &'a str,
    label: &'a str,
}

impl Security<'_> {
    fn compose(self, links: &Links<'_>) -> askama::Result<Mail> {
        self.leading_to(links.account_url, links.help_url)
    }

    fn leading_to(self, url: &str, help_url: &str) -> askama::Result<Mail> {
        self.because("it's about the security of your account", url, help_url)
    }

    /// What every administrator is told.
    fn for_administrators(self, url: &str, help_url: &str) -> askama::Result<Mail> {
        self.because("you're an administrator", url, help_url)
    }

    fn because(self, why: &str, url: &str, help_url: &str) -> askama::Result<Mail> {
        let Self { subject, what, lead, advice, label } = self;
        let html = SecurityHtml { subject, help_url, what, lead, advice, label, url, why };
        compose(subject, &html, &SecurityText { subject, what, lead, advice, label, url })
    }
}

#[derive(Template)]
#[template(path = "mails/security.html")]
struct SecurityHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    what: &'a str,
    lead: &'a str,
    advice: &'a str,
    label: &'a str,
    url: &'a str,
    why: &'a str,
}

#[derive(Template)]
#[template(path = "mails/security.txt")]
struct SecurityText<'a> {
    subject: &'a str,
    what: &'a str,
    lead: &'a str,
    advice: &'a str,
    label: &'a str,
    url: &'a str,
}

const REVIEW: &str = "Review your account";

/// To an administrator: a check is over its limit, and the rollout waits.
pub fn rollout_held(rollout_url: &str, help_url: &str, check: Check) -> askama::Result<Mail> {
    let mail = Security {
        subject: "The rollout is held",
        what: &format!(
            "A check is over its limit: {}. Nobody new gets in until every check has been under its limit for 30 minutes; who is in stays in.",
            checks::over(check)
        ),
        lead: "Look at it soon.",
        advice: "It goes on by itself when things are well again. You can also pause it or turn it off.",
        label: OPEN_ROLLOUT,
    };
    mail.for_administrators(rollout_url, help_url)
}

/// To an administrator: a check that only we can bring about was over its limit for too long, or far over it.
pub fn rollout_rolled_back(rollout_url: &str, help_url: &str, check: Check) -> askama::Result<Mail> {
    let mail = Security {
        subject: "Signing in by email was turned off",
        what: &format!(
            "A check was over its limit for too long, or far over it: {}. Nobody can sign in this way now; who is signed in stays signed in.",
            checks::over(check)
        ),
        lead: "Look at it now.",
        advice: "The rollout is over. Start a new one once the cause is mended.",
        label: OPEN_ROLLOUT,
    };
    mail.for_administrators(rollout_url, help_url)
}

/// To an administrator: the last step went well.
pub fn rollout_finished(rollout_url: &str, help_url: &str) -> askama::Result<Mail> {
    let mail = Security {
        subject: "The rollout is finished",
        what: "Everyone can sign in by email, and the last step went well.",
        lead: "",
        advice: "",
        label: OPEN_ROLLOUT,
    };
    mail.for_administrators(rollout_url, help_url)
}

const OPEN_ROLLOUT: &str = "Open the rollout";

pub fn two_factor_on(links: &Links<'_>) -> askama::Result<Mail> {
    let mail = Security {
        subject: "Two-factor is on",
        what: "From now on we'll ask for a code from your authenticator app when you sign in. Keep your backup codes somewhere you can reach without your phone.",
        lead: "Not you?",
        advice: "",
        label: REVIEW,
    };
    mail.compose(links)
}

pub fn two_factor_off(links: &Links<'_>, by: &By<'_>) -> askama::Result<Mail> {
    let what =
        format!("We'll no longer ask for a code when you sign in. Turned off at {}, from {}, {}.", by.at(), by.device(), by.ip());
    let mail = Security {
        subject: "Two-factor is off",
        what: &what,
        lead: "If it wasn't you,",
        advice: "someone can read your email. Secure your inbox, then turn two-factor back on.",
        label: "Turn two-factor back on",
    };
    mail.compose(links)
}

/// By an administrator, whose reason stays in the audit log.
pub fn two_factor_reset(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let at = words::time_on_date(at);
    let mail = Security {
        subject: "Two-factor was reset",
        what: &format!(
            "An administrator turned it off for your account at {at}. We'll no longer ask for a code when you sign in. Your authenticator app and your backup codes have stopped working."
        ),
        lead: "If you didn't ask for this,",
        advice: "tell whoever runs this service. Either way, set it up again.",
        label: "Set up two-factor",
    };
    mail.compose(links)
}

pub fn authenticator_added(links: &Links<'_>, by: &By<'_>) -> askama::Result<Mail> {
    let what = format!(
        "From now on codes from it sign you in too. Added at {}, from {}, {}. Browsers you trusted will ask for a code again.",
        by.at(),
        by.device(),
        by.ip()
    );
    let mail = Security {
        subject: "You added an authenticator app",
        what: &what,
        lead: "If it wasn't you,",
        advice: "someone is signed in as you. Remove that app, then check that nobody else can read your email.",
        label: REVIEW,
    };
    mail.compose(links)
}

pub fn authenticator_removed(links: &Links<'_>, by: &By<'_>) -> askama::Result<Mail> {
    let what = format!(
        "Its codes don't sign you in any more. Removed at {}, from {}, {}. Two-factor is still on, with your other app.",
        by.at(),
        by.device(),
        by.ip()
    );
    let mail = Security { subject: "You removed an authenticator app", what: &what, lead: "Not you?", advice: "", label: REVIEW };
    mail.compose(links)
}

pub fn backup_codes_new(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let at = words::time_on_date(at);
    let mail = Security {
        subject: "You have new backup codes",
        what: &format!("Your old codes stopped working at {at}. The new ones were shown once and aren't in this email."),
        lead: "Not you?",
        advice: "",
        label: REVIEW,
    };
    mail.compose(links)
}

/// `left` of `total`, few enough to say so.
pub fn backup_codes_left(links: &Links<'_>, left: u64, total: u64) -> askama::Result<Mail> {
    let (subject, before) = match left {
        0 => ("No backup codes left".to_owned(), "Get a new set: without one, losing your phone locks you out."),
        n => (format!("{} left", words::count(n, "backup code")), "Get a new set before you run out."),
    };
    let what = format!("You've used {} of your {total} backup codes. {before}", total.saturating_sub(left));
    Security { subject: &subject, what: &what, lead: "", advice: "", label: "Get new codes" }.compose(links)
}

/// `left`: after this one.
pub fn backup_code_used(links: &Links<'_>, left: u64, by: &By<'_>) -> askama::Result<Mail> {
    let what = format!(
        "Someone used one of your backup codes at {}, on {}, from {}. You have {left} left. If this was you, there's nothing to do.",
        by.at(),
        by.device(),
        by.ip()
    );
    let mail = Security {
        subject: "A backup code was used",
        what: &what,
        lead: "If it wasn't you,",
        advice: "someone can read your email and has your codes. Secure your inbox, then get new codes.",
        label: REVIEW,
    };
    mail.compose(links)
}

/// `how`: "Email link". `undo_url` ends that very session and signs nobody in.
pub fn new_sign_in(links: &Links<'_>, undo_url: &str, how: &str, by: &By<'_>) -> askama::Result<Mail> {
    let (subject, help_url) = ("New sign-in to your Latchkey account", links.help_url);
    let rows = [("Device", by.device()), ("When", words::date_time(by.at)), ("From", by.ip()), ("How", how.to_owned())];
    let html = NewSignInHtml { subject, help_url, links, undo_url, rows: &rows };
    compose(subject, &html, &NewSignInText { subject, links, undo_url, rows: &rows })
}

#[derive(Template)]
#[template(path = "mails/new_sign_in.html")]
struct NewSignInHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    links: &'a Links<'a>,
    undo_url: &'a str,
    rows: &'a [(&'static str, String)],
}

#[derive(Template)]
#[template(path = "mails/new_sign_in.txt")]
struct NewSignInText<'a> {
    subject: &'a str,
    links: &'a Links<'a>,
    undo_url: &'a str,
    rows: &'a [(&'static str, String)],
}

/// The code from the mail was right, and what came after it wasn't.
pub fn second_step_failed(links: &Links<'_>, by: &By<'_>) -> askama::Result<Mail> {
    let what = format!(
        "Someone signed in with an email link or code at {}, on {}, from {}, and then gave a wrong authenticator or backup code. If this was you, there's nothing to do.",
        by.at(),
        by.device(),
        by.ip()
    );
    let mail = Security {
        subject: "A sign-in was stopped at the second step",
        what: &what,
        lead: "If it wasn't you,",
        advice: "someone can read your email. Two-factor kept them out. Secure your inbox.",
        label: REVIEW,
    };
    mail.compose(links)
}

/// To the old address. `hours`: how long the change can be taken back.
pub fn email_changed(links: &Links<'_>, undo_url: &str, hours: u64, by: &By<'_>) -> askama::Result<Mail> {
    let what = format!(
        "Your account now signs in with another address, and no longer with this one. Changed at {}, from {}, {}.",
        by.at(),
        by.device(),
        by.ip()
    );
    let advice = format!("take it back within {}. It ends every session of the account.", words::count(hours, "hour"));
    let mail = Security {
        subject: "Your email address was changed",
        what: &what,
        lead: "If it wasn't you,",
        advice: &advice,
        label: "Take it back",
    };
    mail.leading_to(undo_url, links.help_url)
}

pub fn email_change_undone(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!(
        "The change of your email address was taken back at {}. You sign in with this address again. Every session has ended.",
        words::time_on_date(at)
    );
    let mail = Security {
        subject: "Your email address is back",
        what: &what,
        lead: "Someone else changed it?",
        advice: "Check that nobody else can read your email, then set up two-factor.",
        label: REVIEW,
    };
    mail.compose(links)
}

pub fn deletion_requested(links: &Links<'_>, undo_url: &str, deletes_at: OffsetDateTime, by: &By<'_>) -> askama::Result<Mail> {
    let what = format!(
        "Your account will be deleted at {}. Asked for at {}, from {}, {}. Until then you can sign in, and keep it.",
        words::time_on_date(deletes_at),
        by.at(),
        by.device(),
        by.ip()
    );
    let mail = Security {
        subject: "Your account will be deleted",
        what: &what,
        lead: "Changed your mind, or wasn't it you?",
        advice: "",
        label: "Keep my account",
    };
    mail.leading_to(undo_url, links.help_url)
}

pub fn deletion_cancelled(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!("It was to be deleted. That was called off at {}.", words::time_on_date(at));
    let mail = Security { subject: "Your account stays", what: &what, lead: "Not you?", advice: "", label: REVIEW };
    mail.compose(links)
}

const ASK: &str = "ask whoever runs this service.";

pub fn account_disabled(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!("An administrator turned your account off at {}. Nobody can sign in to it.", words::time_on_date(at));
    let mail = Security {
        subject: "Your account was turned off",
        what: &what,
        lead: "If you don't know why,",
        advice: ASK,
        label: "Read more in help",
    };
    mail.leading_to(links.help_url, links.help_url)
}

pub fn account_enabled(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!("An administrator turned your account on again at {}. You can sign in.", words::time_on_date(at));
    let mail = Security { subject: "Your account is on again", what: &what, lead: "", advice: "", label: REVIEW };
    mail.compose(links)
}

pub fn sessions_ended(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!("An administrator ended all your sessions at {}. Sign in again to go on.", words::time_on_date(at));
    let mail = Security {
        subject: "You were signed out everywhere",
        what: &what,
        lead: "If you don't know why,",
        advice: ASK,
        label: REVIEW,
    };
    mail.compose(links)
}

pub fn test(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!("You asked for this at {}, to see whether emails from here arrive. This one did.", words::time_on_date(at));
    let mail = Security { subject: "Test email", what: &what, lead: "", advice: "", label: REVIEW };
    mail.because("you asked for it", links.account_url, links.help_url)
}

/// `prefix` as the key begins: `lk_k7qdm2xw`.
pub fn api_key_created(links: &Links<'_>, prefix: &str, by: &By<'_>) -> askama::Result<Mail> {
    let what = format!(
        "It begins with {prefix}, and programs can now use it here. Made at {}, from {}, {}. The key itself isn't in this email.",
        by.at(),
        by.device(),
        by.ip()
    );
    let mail = Security {
        subject: "You made an API key",
        what: &what,
        lead: "If it wasn't you,",
        advice: "someone is signed in as you. Revoke the key, then check that nobody else can read your email.",
        label: REVIEW,
    };
    mail.compose(links)
}

pub fn api_key_revoked(links: &Links<'_>, prefix: &str, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!(
        "The key you made that begins with {prefix} stopped working at {}. Programs that use it can't any more.",
        words::time_on_date(at)
    );
    let mail =
        Security { subject: "An API key was revoked", what: &what, lead: "If you don't know why,", advice: ASK, label: REVIEW };
    mail.compose(links)
}

/// `keys_url`: where another is made.
pub fn api_key_ending(keys_url: &str, help_url: &str, prefix: &str, expires_at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!(
        "The key that begins with {prefix} stops working at {}. Make another one, and give it to the programs that use this one.",
        words::time_on_date(expires_at)
    );
    Security { subject: "An API key stops working soon", what: &what, lead: "", advice: "", label: "Open API keys" }
        .for_administrators(keys_url, help_url)
}

pub fn admin_granted(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!(
        "An administrator made you one too, at {}. You can look after other people's accounts. We may ask you to set up two-factor first.",
        words::time_on_date(at)
    );
    let mail = Security { subject: "You're an administrator now", what: &what, lead: "Not expected?", advice: "", label: REVIEW };
    mail.compose(links)
}

pub fn admin_revoked(links: &Links<'_>, at: OffsetDateTime) -> askama::Result<Mail> {
    let what = format!("You can't look after other people's accounts any more, since {}.", words::time_on_date(at));
    let mail = Security {
        subject: "You're no longer an administrator",
        what: &what,
        lead: "If you don't know why,",
        advice: ASK,
        label: REVIEW,
    };
    mail.compose(links)
}

/// Confirms a change by someone who is signed in.
#[derive(Clone, Debug)]
pub struct StepUpCode<'a> {
    /// As it is read: "482 931".
    pub code: &'a str,
    pub lifetime: Duration,
    pub by: By<'a>,
}

impl StepUpCode<'_> {
    fn lasting(&self) -> String {
        words::lasting(self.lifetime)
    }
}

/// A code and no link: nothing in it signs anybody in.
pub fn step_up_code(links: &Links<'_>, mail: &StepUpCode<'_>) -> askama::Result<Mail> {
    let (subject, help_url) = ("Your code for Latchkey", links.help_url);
    compose(subject, &StepUpHtml { subject, help_url, links, mail }, &StepUpText { subject, links, mail })
}

#[derive(Template)]
#[template(path = "mails/step_up.html")]
struct StepUpHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    links: &'a Links<'a>,
    mail: &'a StepUpCode<'a>,
}

#[derive(Template)]
#[template(path = "mails/step_up.txt")]
struct StepUpText<'a> {
    subject: &'a str,
    links: &'a Links<'a>,
    mail: &'a StepUpCode<'a>,
}

/// The same to a new address: it proves that whoever is signed in reads mail there.
pub fn email_change_code(help_url: &str, mail: &StepUpCode<'_>) -> askama::Result<Mail> {
    let subject = "Confirm your new email address";
    compose(subject, &EmailChangeHtml { subject, help_url, mail }, &EmailChangeText { subject, mail })
}

#[derive(Template)]
#[template(path = "mails/email_change.html")]
struct EmailChangeHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    mail: &'a StepUpCode<'a>,
}

#[derive(Template)]
#[template(path = "mails/email_change.txt")]
struct EmailChangeText<'a> {
    subject: &'a str,
    mail: &'a StepUpCode<'a>,
}

/// In place of that code, where the address has an account: the page said that a mail was sent, so one is.
pub fn email_taken(help_url: &str) -> askama::Result<Mail> {
    notice(
        "This address already has an account",
        "use",
        "Someone asked to use this address for their Latchkey account, but it already has one. Nothing was changed.",
        "If it was you, sign in with this address instead. If not, ignore this email.",
        help_url,
    )
}

fn compose(subject: &str, html: &impl Template, text: &impl Template) -> askama::Result<Mail> {
    Ok(Mail { subject: subject.to_owned(), text: text.render()? + "\n", html: html.render()? + "\n" })
}

/// One line of plain characters: no line breaks that would begin a sentence of ours, and no marks that turn its direction.
fn one_line(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(|c: char| c.is_control() || turns(c), " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const HELP: &str = "https://latchkey.example/help";

    fn sign_in_from(device: &str, ip: &str) -> askama::Result<Mail> {
        sign_in(&SignIn {
            url: "https://latchkey.example/login/verify?token=t0k",
            code: "482 931",
            lifetime: Duration::from_mins(10),
            device,
            ip,
            asked_at: datetime!(2026-11-24 14:29 UTC),
            help_url: HELP,
        })
    }

    fn sign_in_to(application: &str, url: Option<&str>, client: Option<(&str, &str)>) -> askama::Result<Mail> {
        let (code, lifetime, asked_at) = ("482 931", Duration::from_mins(10), datetime!(2026-11-24 14:29 UTC));
        sign_in_elsewhere(&SignInElsewhere { application, url, code, lifetime, client, asked_at, help_url: HELP })
    }

    fn invite_by(inviter: Option<&str>) -> askama::Result<Mail> {
        let url = "https://latchkey.example/invite?token=t0k";
        invite(&Invite { url, inviter, host: "latchkey.example", days: 7, help_url: HELP })
    }

    const LINKS: Links<'_> = Links { account_url: "https://latchkey.example/account", help_url: HELP };
    const AT: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);
    const ROLLOUT: &str = "https://latchkey.example/admin/rollout";
    const DAYS_7: time::Duration = time::Duration::days(7);
    const NOTES: &str = "https://notes.example/sign-in?token=t0k";
    const UNDO: &str = "https://latchkey.example/undo?token=t0k";

    const fn by<'a>(device: &'a str, ip: &'a str) -> By<'a> {
        By { device, ip, at: AT }
    }

    fn step_up_from(device: &str, ip: &str) -> askama::Result<Mail> {
        step_up_code(&LINKS, &StepUpCode { code: "482 931", lifetime: Duration::from_mins(10), by: by(device, ip) })
    }

    fn email_change_from(device: &str, ip: &str) -> askama::Result<Mail> {
        email_change_code(HELP, &StepUpCode { code: "482 931", lifetime: Duration::from_mins(10), by: by(device, ip) })
    }

    #[test]
    fn the_mails_are_as_they_were_read_and_approved() -> askama::Result<()> {
        for (name, mail) in [
            ("sign_in", sign_in_from("Firefox on Windows", "203.0.113.24")?),
            ("sign_in_elsewhere", sign_in_to("Notes", Some(NOTES), Some(("Firefox on Windows", "203.0.113.24")))?),
            ("sign_in_elsewhere_code", sign_in_to("Notes", None, None)?),
            ("no_account", no_account(HELP)?),
            ("account_off", account_off(HELP)?),
            ("not_yet", not_yet(Some("https://old.example/sign-in"), HELP)?),
            ("not_yet_nowhere_else", not_yet(None, HELP)?),
            ("rollout_held", rollout_held(ROLLOUT, HELP, Check::MailDelay)?),
            ("rollout_rolled_back", rollout_rolled_back(ROLLOUT, HELP, Check::ServerErrors)?),
            ("rollout_finished", rollout_finished(ROLLOUT, HELP)?),
            ("invite", invite_by(Some("ada@example.org"))?),
            ("two_factor_on", two_factor_on(&LINKS)?),
            ("two_factor_off", two_factor_off(&LINKS, &by("Firefox on Windows", "203.0.113.24"))?),
            ("two_factor_reset", two_factor_reset(&LINKS, AT)?),
            ("authenticator_added", authenticator_added(&LINKS, &by("Firefox on Windows", "203.0.113.24"))?),
            ("authenticator_removed", authenticator_removed(&LINKS, &by("Firefox on Windows", "203.0.113.24"))?),
            ("backup_codes_new", backup_codes_new(&LINKS, AT)?),
            ("backup_codes_left", backup_codes_left(&LINKS, 2, 10)?),
            ("backup_code_used", backup_code_used(&LINKS, 7, &by("Firefox on Windows", "203.0.113.24"))?),
            ("step_up_code", step_up_from("Firefox on Windows", "203.0.113.24")?),
            ("email_change_code", email_change_from("Firefox on Windows", "203.0.113.24")?),
            ("email_taken", email_taken(HELP)?),
            ("new_sign_in", new_sign_in(&LINKS, UNDO, "Email link", &by("Chrome on Android", "192.0.2.188"))?),
            ("second_step_failed", second_step_failed(&LINKS, &by("Chrome on Android", "192.0.2.188"))?),
            ("email_changed", email_changed(&LINKS, UNDO, 72, &by("Firefox on Windows", "203.0.113.24"))?),
            ("email_change_undone", email_change_undone(&LINKS, AT)?),
            ("deletion_requested", deletion_requested(&LINKS, UNDO, AT + DAYS_7, &by("Firefox on Windows", "203.0.113.24"))?),
            ("deletion_cancelled", deletion_cancelled(&LINKS, AT)?),
            ("account_disabled", account_disabled(&LINKS, AT)?),
            ("account_enabled", account_enabled(&LINKS, AT)?),
            ("sessions_ended", sessions_ended(&LINKS, AT)?),
            ("test", test(&LINKS, AT)?),
            ("api_key_created", api_key_created(&LINKS, "lk_k7qdm2xw", &by("Firefox on Windows", "203.0.113.24"))?),
            ("api_key_revoked", api_key_revoked(&LINKS, "lk_k7qdm2xw", AT)?),
            ("api_key_ending", api_key_ending("https://latchkey.example/admin/api-keys", HELP, "lk_k7qdm2xw", AT + DAYS_7)?),
            ("admin_granted", admin_granted(&LINKS, AT)?),
            ("admin_revoked", admin_revoked(&LINKS, AT)?),
        ] {
            insta::assert_snapshot!(format!("{name}.txt"), format!("Subject: {}\n\n{}", mail.subject, mail.text));
            insta::assert_snapshot!(format!("{name}.html"), mail.html);
        }
        Ok(())
    }

    #[test]
    fn the_code_is_in_neither_subject_nor_preview() -> askama::Result<()> {
        let (device, ip) = ("Firefox on Windows", "203.0.113.24");
        for (mail, words) in [
            (sign_in_from(device, ip)?, "Use the button or the code within 10 minutes."),
            (sign_in_to("Notes", Some(NOTES), None)?, "Use the button or the code within 10 minutes."),
            (sign_in_to("Notes", None, None)?, "Use the code within 10 minutes."),
            (step_up_from(device, ip)?, "It confirms a change to your account, and works within 10 minutes."),
            (email_change_from(device, ip)?, "It moves an account to this address, and works within 10 minutes."),
        ] {
            assert!(!mail.subject.contains("482"));
            let (preview, _) = mail.html.split_once("</div>").unwrap_or_default();
            assert!(preview.contains(words) && !preview.contains("482"));
        }
        Ok(())
    }

    #[test]
    fn backup_codes_run_out_in_words() -> askama::Result<()> {
        assert_eq!(backup_codes_left(&LINKS, 1, 10)?.subject, "1 backup code left");
        let none = backup_codes_left(&LINKS, 0, 10)?;
        assert_eq!(none.subject, "No backup codes left");
        assert!(none.text.contains("You've used 10 of your 10 backup codes. Get a new set: without one"));
        Ok(())
    }

    #[test]
    fn nothing_is_fetched_and_no_link_leads_elsewhere() -> askama::Result<()> {
        let (device, ip) = ("Firefox on Windows", "203.0.113.24");
        for mail in [sign_in_from(device, ip)?, two_factor_on(&LINKS)?, step_up_from(device, ip)?, email_change_from(device, ip)?] {
            for image in &IMAGES {
                assert_eq!(mail.html.matches(&format!("src=\"cid:{}\"", image.content_id)).count(), 1);
            }
            assert_eq!(mail.html.matches("src=").count(), IMAGES.len());
            let mut links = mail.html.split("href=\"").skip(1);
            assert!(links.all(|link| link.starts_with("https://latchkey.example/")));
        }
        Ok(())
    }

    #[test]
    fn pictures_can_come_inside() -> askama::Result<()> {
        let html = with_pictures(&no_account(HELP)?.html);
        assert_eq!(html.matches("src=\"data:image/png;base64,iVBORw0KGgo").count(), IMAGES.len());
        assert!(!html.contains("cid:"));
        Ok(())
    }

    #[test]
    fn what_others_wrote_is_text_on_one_line() -> askama::Result<()> {
        let hostile = "<a href=x>\r\nOpen https://evil.example instead\u{202e}";
        for mail in [
            sign_in_from(hostile, hostile)?,
            sign_in_to(hostile, Some(NOTES), Some((hostile, hostile)))?,
            sign_in_to(hostile, None, None)?,
            invite_by(Some(hostile))?,
            two_factor_off(&LINKS, &by(hostile, hostile))?,
            backup_code_used(&LINKS, 7, &by(hostile, hostile))?,
            new_sign_in(&LINKS, UNDO, "Email link", &by(hostile, hostile))?,
            second_step_failed(&LINKS, &by(hostile, hostile))?,
            email_changed(&LINKS, UNDO, 72, &by(hostile, hostile))?,
            deletion_requested(&LINKS, UNDO, AT, &by(hostile, hostile))?,
            api_key_created(&LINKS, "lk_k7qdm2xw", &by(hostile, hostile))?,
            step_up_from(hostile, hostile)?,
            email_change_from(hostile, hostile)?,
        ] {
            assert!(!mail.html.contains("<a href=x>") && mail.html.contains("&#60;a href=x&#62;"));
            assert!(!mail.text.lines().any(|line| line.starts_with("Open https://evil.example")));
            assert!(!mail.text.contains(['\r', '\u{202e}']));
        }
        Ok(())
    }

    #[test]
    fn an_invitation_may_come_from_no_one() -> askama::Result<()> {
        let mail = invite_by(None)?;
        assert!(mail.text.starts_with("You're invited to latchkey.example\n\nYou've been invited. Open this link to accept."));
        Ok(())
    }
}
