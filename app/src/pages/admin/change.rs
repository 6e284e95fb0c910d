//! `/admin/users/{id}/{change}`: asks first, and why.

use auth::{
    administration::Status,
    identity::{ActionError, Actor},
    primitives::requester::Requester,
};
use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use leptos::prelude::*;
use uuid::Uuid;

use crate::{
    components::{Admin, ReasonField},
    fault::Fault,
    form::{Form, FormError},
    gate::{Administrator, Barred},
    help, next,
    page::page,
    pages::admin::{
        line,
        user::{self, User},
    },
    routes,
    state::AppState,
    words,
};

/// As long as a reason may be.
pub(crate) const MAX_REASON: usize = 500;

/// What an administrator can do to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Disable,
    Enable,
    EndSessions,
    ResetTwoFactor,
    MakeAdmin,
    RemoveAdmin,
}

impl Change {
    pub(crate) const ALL: [Self; 6] =
        [Self::EndSessions, Self::ResetTwoFactor, Self::MakeAdmin, Self::RemoveAdmin, Self::Disable, Self::Enable];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::EndSessions => "end-sessions",
            Self::ResetTwoFactor => "reset-two-factor",
            Self::MakeAdmin => "make-admin",
            Self::RemoveAdmin => "remove-admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|change| change.as_str() == text)
    }

    /// The page that asks.
    pub(crate) fn path(self, id: &str) -> String {
        format!("{}/{}", user::path(id), self.as_str())
    }

    /// Where its form goes: no server function has an id in its path.
    const fn form(self) -> &'static str {
        match self {
            Self::Disable => routes::ADMIN_USERS_DISABLE,
            Self::Enable => routes::ADMIN_USERS_ENABLE,
            Self::EndSessions => routes::ADMIN_USERS_END_SESSIONS,
            Self::ResetTwoFactor => routes::ADMIN_USERS_RESET_TWO_FACTOR,
            Self::MakeAdmin => routes::ADMIN_USERS_MAKE_ADMIN,
            Self::RemoveAdmin => routes::ADMIN_USERS_REMOVE_ADMIN,
        }
    }

    /// There is something to change. Once it is done there is not.
    pub(crate) fn applies_to(self, user: &User) -> bool {
        match self {
            Self::Disable => user.status != Status::Disabled,
            Self::Enable => user.status == Status::Disabled,
            Self::EndSessions => !user.sessions.is_empty(),
            Self::ResetTwoFactor => user.two_factor.is_on(),
            Self::MakeAdmin => !user.admin,
            Self::RemoveAdmin => user.admin,
        }
    }

    pub(crate) const fn verb(self) -> &'static str {
        match self {
            Self::Disable => "Disable account",
            Self::Enable => "Enable account",
            Self::EndSessions => "End all sessions",
            Self::ResetTwoFactor => "Reset two-factor",
            Self::MakeAdmin => "Make administrator",
            Self::RemoveAdmin => "Remove administrator",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::ResetTwoFactor => help::ADMIN_RESET_TWO_FACTOR,
            Self::Disable | Self::Enable | Self::EndSessions | Self::MakeAdmin | Self::RemoveAdmin => help::ADMIN_ACCOUNTS,
        }
    }

    const fn question(self) -> &'static str {
        match self {
            Self::Disable => "Disable this account?",
            Self::Enable => "Enable this account?",
            Self::EndSessions => "End all sessions?",
            Self::ResetTwoFactor => "Reset two-factor?",
            Self::MakeAdmin => "Make this person an administrator?",
            Self::RemoveAdmin => "Remove this administrator?",
        }
    }

    fn consequence(self, user: &User) -> String {
        match self {
            Self::Disable => "They'll be signed out everywhere, and can't sign in until you enable the account again.".to_owned(),
            Self::Enable => "They can sign in again.".to_owned(),
            Self::EndSessions => match user.sessions.len() {
                1 => "Their one session ends at once. They can sign in again.".to_owned(),
                n => format!("Their {} end at once. They can sign in again.", words::count(n as u64, "session")),
            },
            Self::ResetTwoFactor => {
                "Their authenticator apps, backup codes and trusted browsers stop working, and they're signed out everywhere. Then anyone who can read their email can sign in as them, so make sure first that it's really them who asks.".to_owned()
            }
            Self::MakeAdmin => "They can open and change every account, and make others administrators.".to_owned(),
            Self::RemoveAdmin => "They keep their account, and lose these pages.".to_owned(),
        }
    }

    /// What to say once it is done.
    pub(crate) const fn done(self) -> (&'static str, &'static str) {
        match self {
            Self::Disable => ("Account disabled", "They're signed out everywhere, and can't sign in."),
            Self::Enable => ("Account enabled", "They can sign in again."),
            Self::EndSessions => ("All sessions ended", "They can sign in again."),
            Self::ResetTwoFactor => ("Two-factor reset", "They can sign in with their email alone, and set it up anew."),
            Self::MakeAdmin => ("They're an administrator now", "They can open and change every account."),
            Self::RemoveAdmin => ("They're no administrator any more", "They keep their account."),
        }
    }
}

/// What is wrong with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonError {
    Missing,
    TooLong,
}

impl ReasonError {
    pub(crate) fn of(reason: &str) -> Option<Self> {
        match reason.chars().count() {
            0 => Some(Self::Missing),
            1..=MAX_REASON => None,
            _ => Some(Self::TooLong),
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Missing => "Say why you're changing this".to_owned(),
            Self::TooLong => format!("Say it in {MAX_REASON} characters or fewer"),
        }
    }
}

/// `who`: the administrator's own address. `reason` is what was typed before.
#[component]
pub fn ChangePage(who: String, change: Change, user: User, reason: String, error: Option<ReasonError>) -> impl IntoView {
    let above = vec![("Users", routes::ADMIN_USERS.to_owned()), ("Account", user::path(&user.id))];
    let consequence = change.consequence(&user);
    let User { id, email, own, .. } = user;
    let back = user::path(&id);
    let class = if change == Change::Enable { "button primary" } else { "button danger" };
    let wrong = error.is_some();
    view! {
        <Admin title=change.question() email=who above crumb=change.verb() error=wrong help=Some(change.help())>
            <div class="panel narrow">
                <form class="body" method="post" action=change.form() novalidate>
                    <input type="hidden" name="id" value=id/>
                    <p><strong class="whole">{email}</strong></p>
                    {own.then(|| view! { <p><strong>"This is your own account."</strong></p> })}
                    <p>{consequence}" We'll tell them by email."</p>
                    <ReasonField value=reason maxlength=MAX_REASON error=error.map(ReasonError::text)/>
                    <div class="row-actions">
                        <button class=class>{change.verb()}</button>
                        <a class="button" href=back>"Cancel"</a>
                    </div>
                </form>
            </div>
        </Admin>
    }
}

/// Nothing was changed: nobody would be left to change anything.
#[component]
pub fn LastAdminPage(who: String, id: String) -> impl IntoView {
    let above = vec![("Users", routes::ADMIN_USERS.to_owned()), ("Account", user::path(&id))];
    view! {
        <Admin title="Nothing was changed" email=who above crumb="Nothing was changed" help=Some(help::ADMIN_ACCOUNTS_LAST)>
            <div class="panel narrow">
                <div class="body">
                    <p>"This is the last administrator. Make somebody else one first."</p>
                    <div class="row-actions">
                        <a class="button primary" href=routes::ADMIN_USERS>"Find somebody else"</a>
                        <a class="button" href=user::path(&id)>"Back to the account"</a>
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
) -> Result<Response, Fault> {
    let (Ok(id), Some(change)) = (id.parse::<Uuid>(), Change::parse(&change)) else {
        return Ok(Barred::NoSuchPage.into_response());
    };
    if !state.auth.sign_in().is_fresh(&authority) {
        return Ok(Redirect::to(&next::carried(routes::REAUTH, &change.path(&id.to_string()))).into_response());
    }
    let Some(user) = user::find(&state, &authority, &from, id).await? else { return Ok(Barred::NoSuchPage.into_response()) };
    if !change.applies_to(&user) {
        return Ok(Redirect::to(&user::path(&user.id)).into_response());
    }
    Ok(page(StatusCode::OK, || {
        view! { <ChangePage who=authority.email change user reason=String::new() error=None/> }
    }))
}

async fn act(change: Change, id: &str, reason: &str) -> Result<(), FormError> {
    let form = Form::current()?;
    let id = id.parse::<Uuid>().ok();
    let here = id.map_or_else(|| routes::ADMIN_USERS.to_owned(), |id| change.path(&id.to_string()));
    let Administrator(_, authority) = form.admit(&here).await?;
    let no_such_page = || form.refuse(Barred::NoSuchPage.into_response());
    let Some(id) = id else { return no_such_page() };
    let (auth, who, reason) = (&form.state.auth, authority.email.clone(), line(reason));
    if let Some(error) = ReasonError::of(&reason) {
        let found = user::find(&form.state, &authority, &form.from, id).await.map_err(|error| form.fail(error.into()))?;
        let Some(user) = found else { return no_such_page() };
        return form.refuse(page(StatusCode::UNPROCESSABLE_ENTITY, || {
            view! { <ChangePage who change user reason error=Some(error)/> }
        }));
    }
    let by = Actor::Admin { authority: &authority, from: &form.from };
    let done = match change {
        Change::Disable => auth.administration().disable_user(by, id, &reason).await,
        Change::Enable => auth.administration().enable_user(by, id, &reason).await,
        Change::EndSessions => auth.administration().end_user_sessions(by, id, &reason).await.map(|_| ()),
        Change::ResetTwoFactor => auth.administration().reset_user_two_factor(by, id, &reason).await,
        Change::MakeAdmin => auth.administration().set_admin(by, id, true, &reason).await,
        Change::RemoveAdmin => auth.administration().set_admin(by, id, false, &reason).await,
    };
    match done {
        // These pages may be theirs no more.
        Ok(()) if id == authority.user => form.see_other(routes::ACCOUNT),
        Ok(()) => form.see_other(&user::path_after(change, &id.to_string())),
        // Somebody was faster. The page shows how things are now.
        Err(ActionError::Nothing) => form.see_other(&user::path(&id.to_string())),
        Err(ActionError::NotFresh) => form.see_other(&next::carried(routes::REAUTH, &here)),
        Err(ActionError::NotAdmin | ActionError::NoSuchUser) => no_such_page(),
        Err(ActionError::LastAdmin) => form.refuse(page(StatusCode::CONFLICT, || view! { <LastAdminPage who id=id.to_string()/> })),
        Err(ActionError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

/// Turns an account off.
#[server(prefix = "", endpoint = "admin/users/disable")]
pub async fn disable_user(#[server(default)] id: String, #[server(default)] reason: String) -> Result<(), FormError> {
    act(Change::Disable, &id, &reason).await
}

/// Turns an account on again.
#[server(prefix = "", endpoint = "admin/users/enable")]
pub async fn enable_user(#[server(default)] id: String, #[server(default)] reason: String) -> Result<(), FormError> {
    act(Change::Enable, &id, &reason).await
}

/// Ends every session of an account.
#[server(prefix = "", endpoint = "admin/users/end-sessions")]
pub async fn end_user_sessions(#[server(default)] id: String, #[server(default)] reason: String) -> Result<(), FormError> {
    act(Change::EndSessions, &id, &reason).await
}

/// Takes two-factor off an account whose owner has lost every factor.
#[server(prefix = "", endpoint = "admin/users/reset-two-factor")]
pub async fn reset_user_two_factor(#[server(default)] id: String, #[server(default)] reason: String) -> Result<(), FormError> {
    act(Change::ResetTwoFactor, &id, &reason).await
}

/// Makes an account an administrator's.
#[server(prefix = "", endpoint = "admin/users/make-admin")]
pub async fn make_admin(#[server(default)] id: String, #[server(default)] reason: String) -> Result<(), FormError> {
    act(Change::MakeAdmin, &id, &reason).await
}

/// Makes an administrator's account an ordinary one again.
#[server(prefix = "", endpoint = "admin/users/remove-admin")]
pub async fn remove_admin(#[server(default)] id: String, #[server(default)] reason: String) -> Result<(), FormError> {
    act(Change::RemoveAdmin, &id, &reason).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{page::render, pages::admin::user::tests::user};

    fn html(change: Change, reason: &str, error: Option<ReasonError>) -> String {
        let (reason, user) = (reason.to_owned(), user("mara@example.org", Status::Active));
        render(move || view! { <ChangePage who="priya@example.org".to_owned() change user reason error/> })
    }

    #[test]
    fn every_change_asks_says_what_will_happen_and_repeats_its_verb() {
        for (change, question, verb, what) in [
            (Change::Disable, "Disable this account?", "Disable account", "They'll be signed out everywhere"),
            (Change::Enable, "Enable this account?", "Enable account", "They can sign in again."),
            (Change::EndSessions, "End all sessions?", "End all sessions", "Their 2 sessions end at once."),
            (
                Change::ResetTwoFactor,
                "Reset two-factor?",
                "Reset two-factor",
                "anyone who can read their email can sign in as them",
            ),
            (
                Change::MakeAdmin,
                "Make this person an administrator?",
                "Make administrator",
                "They can open and change every account",
            ),
            (Change::RemoveAdmin, "Remove this administrator?", "Remove administrator", "They keep their account"),
        ] {
            let html = html(change, "", None);
            assert!(html.contains(&format!("<title>{question} – Latchkey admin</title>")), "{question}");
            assert!(html.contains(&format!(">{verb}</button>")) && html.contains(what), "{question}");
            assert!(html.contains(r#"<strong class="whole">mara@example.org</strong>"#));
            assert!(html.contains(&format!(r#"action="/admin/users/{}""#, change.as_str())), "{question}");
            assert!(html.contains(r#"<input type="hidden" name="id" value="7">"#));
            assert!(html.contains(r#"<a href="/admin/users/7" class="button">Cancel</a>"#));
            assert!(html.contains("We'll tell them by email.") && !html.contains("your own account"));
            assert_eq!(Change::parse(change.as_str()), Some(change));
        }
        assert_eq!(Change::parse("Disable"), None);
    }

    #[test]
    fn a_reason_stays_with_what_is_wrong_with_it() {
        let missing = html(Change::Disable, "", Some(ReasonError::Missing));
        assert!(missing.contains("<title>Error: Disable this account? – Latchkey admin</title>"));
        assert!(missing.contains("Say why you're changing this") && missing.contains(" autofocus"));
        assert!(missing.contains(r#"aria-describedby="reason-hint reason-error""#) && missing.contains("Kept in the audit log."));
        let typed = html(Change::Disable, "\"><script>", Some(ReasonError::TooLong));
        assert!(typed.contains(r#"value="&quot;&gt;&lt;script&gt;""#) && !typed.contains("<script"));
        assert!(typed.contains("Say it in 500 characters or fewer"));
    }

    #[test]
    fn a_reason_is_one_to_five_hundred_characters() {
        assert_eq!(ReasonError::of(""), Some(ReasonError::Missing));
        assert_eq!(ReasonError::of(&"é".repeat(500)), None);
        assert_eq!(ReasonError::of(&"é".repeat(501)), Some(ReasonError::TooLong));
    }

    #[test]
    fn ones_own_account_is_named_as_such() {
        let own = User { own: true, ..user("priya@example.org", Status::Active) };
        let page = render(move || {
            view! { <ChangePage who="priya@example.org".to_owned() change=Change::Disable user=own reason=String::new() error=None/> }
        });
        assert!(page.contains("This is your own account."));
    }

    #[test]
    fn the_last_administrator_stays() {
        let html = render(|| view! { <LastAdminPage who="priya@example.org".to_owned() id="7".to_owned()/> });
        assert!(html.contains("This is the last administrator. Make somebody else one first."));
        assert!(html.contains(r#"href="/admin/users/7""#));
    }
}
