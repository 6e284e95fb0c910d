//! `/admin/users/{id}/{change}`: asks first, and why.

use auth::{
    administration::Status,
    identity::{ActionError, Actor},
    policy::ResetTwoFactor,
    primitives::{
        reason::{Reason, ReasonError},
        requester::Requester,
    },
};
use axum::{Extension, extract::Path};
use uuid::Uuid;

use crate::pages::{
    admin::{
        line, not_done,
        person::{self, Reset, User},
    },
    prelude::*,
};

/// What an administrator can do to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Disable,
    Enable,
    EndSessions,
    ResetTwoFactor,
    StopReset,
    MakeAdmin,
    RemoveAdmin,
}

impl Change {
    pub(crate) const ALL: [Self; 7] =
        [Self::EndSessions, Self::ResetTwoFactor, Self::StopReset, Self::MakeAdmin, Self::RemoveAdmin, Self::Disable, Self::Enable];

    pub(crate) const fn words(self) -> Words {
        match self {
            Self::Disable => Words::new("disable", "Disable account", "Disable this account?")
                .means("They'll be signed out everywhere, and can't sign in until you enable the account again.")
                .done("Account disabled", "They're signed out everywhere, and can't sign in."),
            Self::Enable => Words::new("enable", "Enable account", "Enable this account?")
                .means("They can sign in again.")
                .done("Account enabled", "They can sign in again."),
            Self::EndSessions => Words::new("end-sessions", "End all sessions", "End all sessions?")
                // With their number before it.
                .means("at once. They can sign in again.")
                .done("All sessions ended", "They can sign in again."),
            Self::ResetTwoFactor => Words::new("reset-two-factor", "Reset two-factor", "Reset two-factor?")
                .means("Their authenticator apps, backup codes and trusted browsers stop working, and they're signed out everywhere. Then anyone who can read their email can sign in as them, so make sure first that it's really them who asks.")
                .done("Two-factor reset", "They can sign in with their email alone, and set it up anew."),
            Self::StopReset => Words::new("stop-reset", "Stop the reset", "Stop the reset of two-factor?")
                .means("Two-factor stays on, and their codes work as before.")
                .done("The reset is stopped", "Two-factor stays on."),
            Self::MakeAdmin => Words::new("make-admin", "Make administrator", "Make this person an administrator?")
                .means("They can open and change every account, and make others administrators.")
                .done("They're an administrator now", "They can open and change every account."),
            Self::RemoveAdmin => Words::new("remove-admin", "Remove administrator", "Remove this administrator?")
                .means("They keep their account, and lose these pages.")
                .done("They're no administrator any more", "They keep their account."),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|change| change.words().name == text)
    }

    /// The page that asks.
    pub(crate) fn path(self, id: &str) -> String {
        format!("{}/{}", person::path(id), self.words().name)
    }

    /// There is something to change. Once it is done there is not.
    pub(crate) fn applies_to(self, user: &User) -> bool {
        match self {
            Self::Disable => user.status != Status::Disabled,
            Self::Enable => user.status == Status::Disabled,
            Self::EndSessions => !user.sessions.is_empty(),
            // Whoever asked for it can't agree with themselves.
            Self::ResetTwoFactor => {
                user.two_factor.is_on() && user.reset.as_ref().is_none_or(|reset| reset.due.is_none() && !reset.own)
            }
            Self::StopReset => user.reset.is_some(),
            Self::MakeAdmin => !user.admin,
            Self::RemoveAdmin => user.admin,
        }
    }

    /// What to say once it is done. `waits`: a reset that does.
    pub(crate) fn done(self, waits: Option<&Reset>) -> (&'static str, &'static str) {
        match waits {
            Some(Reset { due: Some(_), .. }) if self == Self::ResetTwoFactor => {
                ("Reset asked for", "They've been told by email, and can stop it until then. You can, too.")
            }
            Some(Reset { due: None, .. }) if self == Self::ResetTwoFactor => {
                ("Reset asked for", "Ask another administrator to open this page and agree, within 24 hours.")
            }
            _ => self.words().done,
        }
    }

    fn consequence(self, user: &User, resets: ResetTwoFactor) -> String {
        let words = self.words().consequence;
        let sessions = user.sessions.len() as u64;
        match (self, resets, &user.reset) {
            (Self::EndSessions, ..) if sessions == 1 => format!("Their one session ends {words}"),
            (Self::EndSessions, ..) => format!("Their {} end {words}", format::count(sessions, "session")),
            (Self::ResetTwoFactor, ResetTwoFactor::Wait(wait), _) => {
                let within = format::within(wait);
                format!("This happens {within}, unless they stop it from the email they get now. {words}")
            }
            (Self::ResetTwoFactor, ResetTwoFactor::Two, Some(reset)) => {
                let by = reset.by.as_deref().unwrap_or("Another administrator");
                format!("{by} asked for this: “{}”. If you agree, it happens now. {words}", reset.reason)
            }
            (Self::ResetTwoFactor, ResetTwoFactor::Two, None) => {
                format!("This happens when another administrator agrees, within 24 hours. {words}")
            }
            _ => words.to_owned(),
        }
    }
}

/// A change, in the words of its pages.
pub(crate) struct Words {
    /// In the URL, and in its form's: `/admin/users/{name}`, as no server function has an id in its path.
    name: &'static str,
    pub(crate) verb: &'static str,
    question: &'static str,
    consequence: &'static str,
    /// What to say once it is done.
    pub(crate) done: (&'static str, &'static str),
}

impl Words {
    const fn new(name: &'static str, verb: &'static str, question: &'static str) -> Self {
        Self { name, verb, question, consequence: "", done: ("", "") }
    }

    const fn means(self, consequence: &'static str) -> Self {
        Self { consequence, ..self }
    }

    const fn done(self, title: &'static str, text: &'static str) -> Self {
        Self { done: (title, text), ..self }
    }
}

/// What to say of a reason that is none. What would break its line was taken out before.
pub(crate) fn reason_error(error: ReasonError) -> String {
    match error {
        ReasonError::Missing => "Say why you're changing this".to_owned(),
        ReasonError::TooLong | ReasonError::NotOneLine => format!("Say it in {} characters or fewer", Reason::MOST),
    }
}

/// `who`: the administrator's own address. `resets`: when a reset of two-factor happens. `reason` is what was typed before.
#[component]
pub fn ChangePage(
    who: String,
    change: Change,
    user: User,
    resets: ResetTwoFactor,
    reason: String,
    error: Option<ReasonError>,
) -> impl IntoView {
    let above = vec![("Users", routes::ADMIN_USERS.to_owned()), ("Account", person::path(&user.id))];
    let consequence = change.consequence(&user, resets);
    let User { id, email, own, .. } = user;
    let (back, words) = (person::path(&id), change.words());
    let class = if matches!(change, Change::Enable | Change::StopReset) { "button primary" } else { "button danger" };
    let wrong = error.is_some();
    let help = match change {
        Change::ResetTwoFactor if resets == ResetTwoFactor::Now => help::ADMIN_RESET_TWO_FACTOR,
        Change::ResetTwoFactor | Change::StopReset => help::ADMIN_RESET_TWO_FACTOR_LATER,
        _ => help::ADMIN_ACCOUNTS,
    };
    view! {
        <Admin title=words.question email=who above crumb=words.verb error=wrong help=Some(help)>
            <Ask action=person::path(words.name) button=words.verb class=class narrow=true novalidate=true back=("Cancel", back)>
                <input type="hidden" name="id" value=id/>
                <p><strong class="whole">{email}</strong></p>
                {own.then(|| view! { <p><strong>"This is your own account."</strong></p> })}
                <p>{consequence}" We'll tell them by email."</p>
                <ReasonField value=reason maxlength=Reason::MOST error=error.map(reason_error)/>
            </Ask>
        </Admin>
    }
}

/// Nothing was changed: nobody would be left to change anything.
#[component]
pub fn LastAdminPage(who: String, id: String) -> impl IntoView {
    let above = vec![("Users", routes::ADMIN_USERS.to_owned()), ("Account", person::path(&id))];
    view! {
        <Admin title="Nothing was changed" email=who above crumb="Nothing was changed" help=Some(help::ADMIN_ACCOUNTS_LAST)>
            <div class="panel narrow">
                <div class="body">
                    <p>"This is the last administrator. Make somebody else one first."</p>
                    <div class="row-actions">
                        <a class="button primary" href=routes::ADMIN_USERS>"Find somebody else"</a>
                        <a class="button" href=person::path(&id)>"Back to the account"</a>
                    </div>
                </div>
            </div>
        </Admin>
    }
}

/// Nothing was changed: a second administrator has to be one for a while.
#[component]
pub fn NewAdminPage(who: String, id: String) -> impl IntoView {
    let above = vec![("Users", routes::ADMIN_USERS.to_owned()), ("Account", person::path(&id))];
    view! {
        <Admin title="Nothing was changed" email=who above crumb="Nothing was changed" help=Some(help::ADMIN_RESET_TWO_FACTOR_LATER)>
            <div class="panel narrow">
                <div class="body">
                    <p>
                        "Two administrators have to agree on this, and you became one less than a day ago. Ask another administrator, or come back tomorrow."
                    </p>
                    <div class="row-actions">
                        <a class="button primary" href=person::path(&id)>"Back to the account"</a>
                    </div>
                </div>
            </div>
        </Admin>
    }
}

/// Asks first, and for the administrator's strongest factor before that: a reason that was typed would not survive it.
pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Extension(from): Extension<Requester>,
    Path((id, change)): Path<(String, String)>,
) -> Answer {
    let (Ok(id), Some(change)) = (id.parse::<Uuid>(), Change::parse(&change)) else {
        return Err(AccessDenied::NoSuchPage.into());
    };
    require_fresh(&state, &authority, &change.path(&id.to_string()))?;
    let user = person::find(&state, &authority, &from, id).await?.ok_or(AccessDenied::NoSuchPage)?;
    if !change.applies_to(&user) {
        return see_other(&person::path(&user.id));
    }
    Ok(page(StatusCode::OK, || {
        let resets = state.auth.policy().reset_two_factor;
        view! { <ChangePage who=authority.email change user resets reason=String::new() error=None/> }
    }))
}

async fn act(change: Change, id: &str, reason: &str) -> Answer {
    let id = id.parse::<Uuid>().ok();
    let here = id.map_or_else(|| routes::ADMIN_USERS.to_owned(), |id| change.path(&id.to_string()));
    let (form, Administrator(_, authority)) = Form::authorize(&here).await?;
    let id = id.ok_or(AccessDenied::NoSuchPage)?;
    let (auth, who, typed) = (&form.state.auth, authority.email.clone(), line(reason));
    let reason: Reason = match typed.parse() {
        Ok(reason) => reason,
        Err(error) => {
            let user = person::find(&form.state, &authority, &form.from, id).await?.ok_or(AccessDenied::NoSuchPage)?;
            let resets = auth.policy().reset_two_factor;
            let ask = || view! { <ChangePage who change user resets reason=typed error=Some(error)/> };
            return Err(page(StatusCode::UNPROCESSABLE_ENTITY, ask).into());
        }
    };
    let by = Actor::Admin { authority: &authority, from: &form.from };
    let done = match change {
        Change::Disable => auth.administration().disable_user(by, id, &reason).await,
        Change::Enable => auth.administration().enable_user(by, id, &reason).await,
        Change::EndSessions => auth.administration().end_user_sessions(by, id, &reason).await.map(|_| ()),
        Change::ResetTwoFactor => auth.administration().reset_user_two_factor(by, id, &reason).await.map(|_| ()),
        Change::StopReset => auth.administration().stop_two_factor_reset(by, id, &reason).await,
        Change::MakeAdmin => auth.administration().set_admin(by, id, true, &reason).await,
        Change::RemoveAdmin => auth.administration().set_admin(by, id, false, &reason).await,
    };
    match done {
        // These pages may be theirs no more.
        Ok(()) if id == authority.user => see_other(routes::ACCOUNT),
        Ok(()) => see_other(&format!("{}?done={}", person::path(&id.to_string()), change.words().name)),
        // Somebody was faster. The page shows how things are now.
        Err(ActionError::Nothing) => see_other(&person::path(&id.to_string())),
        Err(ActionError::LastAdmin) => Err(page(StatusCode::CONFLICT, || view! { <LastAdminPage who id=id.to_string()/> }).into()),
        Err(ActionError::NewAdmin) => Err(page(StatusCode::CONFLICT, || view! { <NewAdminPage who id=id.to_string()/> }).into()),
        Err(error) => not_done(error, &here),
    }
}

/// Turns an account off.
#[server(prefix = "", endpoint = "admin/users/disable", protocol = FormPost)]
pub async fn disable_user(#[server(default)] id: String, #[server(default)] reason: String) -> Answer {
    act(Change::Disable, &id, &reason).await
}

/// Turns an account on again.
#[server(prefix = "", endpoint = "admin/users/enable", protocol = FormPost)]
pub async fn enable_user(#[server(default)] id: String, #[server(default)] reason: String) -> Answer {
    act(Change::Enable, &id, &reason).await
}

/// Ends every session of an account.
#[server(prefix = "", endpoint = "admin/users/end-sessions", protocol = FormPost)]
pub async fn end_user_sessions(#[server(default)] id: String, #[server(default)] reason: String) -> Answer {
    act(Change::EndSessions, &id, &reason).await
}

/// Takes two-factor off an account whose owner has lost every factor.
#[server(prefix = "", endpoint = "admin/users/reset-two-factor", protocol = FormPost)]
pub async fn reset_user_two_factor(#[server(default)] id: String, #[server(default)] reason: String) -> Answer {
    act(Change::ResetTwoFactor, &id, &reason).await
}

/// Keeps two-factor on an account where a reset of it waits.
#[server(prefix = "", endpoint = "admin/users/stop-reset", protocol = FormPost)]
pub async fn stop_two_factor_reset(#[server(default)] id: String, #[server(default)] reason: String) -> Answer {
    act(Change::StopReset, &id, &reason).await
}

/// Makes an account an administrator's.
#[server(prefix = "", endpoint = "admin/users/make-admin", protocol = FormPost)]
pub async fn make_admin(#[server(default)] id: String, #[server(default)] reason: String) -> Answer {
    act(Change::MakeAdmin, &id, &reason).await
}

/// Makes an administrator's account an ordinary one again.
#[server(prefix = "", endpoint = "admin/users/remove-admin", protocol = FormPost)]
pub async fn remove_admin(#[server(default)] id: String, #[server(default)] reason: String) -> Answer {
    act(Change::RemoveAdmin, &id, &reason).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::render::render, pages::admin::person::tests::user};

    #[test]
    fn ones_own_account_is_named_as_such() {
        let own = User { own: true, ..user("priya@example.org", Status::Active) };
        let page = render(move || {
            view! { <ChangePage
                who="priya@example.org".to_owned()
                change=Change::Disable
                user=own
                resets=ResetTwoFactor::Now
                reason=String::new()
                error=None
            /> }
        });
        assert!(page.contains("This is your own account."));
    }
}
