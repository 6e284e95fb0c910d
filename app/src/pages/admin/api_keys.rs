//! `/admin/api-keys`: which programs may use the API, and pages below it to make a key and to end one.

use std::{collections::BTreeMap, time::Duration};

use auth::{
    api_keys::{self, ApiKeyRow, CreateKeyError, KeyState, MAX_NAME, MOST_SHOWN},
    identity::{ActionError, Actor, Prefix, Scope},
    primitives::reason::{Reason, ReasonError},
};

use crate::pages::{
    admin::{change::reason_error, line, not_done},
    prelude::*,
};

/// Says in the list's URL that a key was ended a moment ago.
const REVOKED: &str = "revoked";

/// The name of a scope's box in the form, and what it opens.
const fn scope_words(scope: Scope) -> (&'static str, &'static str) {
    match scope {
        Scope::SignIn => ("signin", "Sign people in: ask for emails, check links and codes"),
        Scope::Sessions => ("sessions", "Look up and end sessions whose token it holds"),
        Scope::Users => ("users", "See every account, and sign people out"),
        Scope::AuditRead => ("audit_read", "Read the audit log"),
        Scope::Flags => ("flags", "Read and change the rollout"),
        Scope::MetricsRead => ("metrics_read", "Read the metrics"),
    }
}

/// How long a key works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    Month,
    #[default]
    Quarter,
    Year,
    Unlimited,
}

impl Lifetime {
    const ALL: [Self; 4] = [Self::Month, Self::Quarter, Self::Year, Self::Unlimited];

    /// What the form sends, its words, and so many days.
    const fn row(self) -> (&'static str, &'static str, Option<u64>) {
        match self {
            Self::Month => ("30d", "In 30 days", Some(30)),
            Self::Quarter => ("90d", "In 90 days", Some(90)),
            Self::Year => ("365d", "In a year", Some(365)),
            Self::Unlimited => ("never", "Never", None),
        }
    }

    /// What is none of these is the usual one.
    fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|lifetime| lifetime.row().0 == text).unwrap_or_default()
    }

    fn duration(self) -> Option<Duration> {
        self.row().2.map(|days| Duration::from_hours(24 * days))
    }
}

/// Who made a key, for people.
#[derive(Clone, Debug)]
pub enum Maker {
    Operator,
    Admin(MaskedAddress),
    Gone,
}

/// A key in the list.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub name: String,
    /// As the key begins.
    pub prefix: String,
    pub scopes: Vec<Scope>,
    pub maker: Maker,
    /// Its maker is no administrator any more.
    pub curbed: bool,
    pub state: KeyState,
    pub last_used: Option<OffsetDateTime>,
    pub expires: Option<OffsetDateTime>,
}

impl From<ApiKeyRow> for ApiKey {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            name: row.name,
            prefix: row.prefix.to_string(),
            scopes: row.scopes,
            maker: match row.maker {
                api_keys::Maker::Operator => Maker::Operator,
                api_keys::Maker::Admin { email, .. } => Maker::Admin(email.as_str().into()),
                api_keys::Maker::Gone => Maker::Gone,
            },
            curbed: row.curbed,
            state: row.state,
            last_used: row.last_used_at,
            expires: row.expires_at,
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::text("Key"),
    Column::text("What it may do"),
    Column::text("Made by"),
    Column::text("Last used (UTC)"),
    Column::text("Ends (UTC)"),
    Column::text("Action"),
];

/// `who`: the administrator's own address. `revoked`: one was, a moment ago.
#[component]
pub fn ApiKeysPage(who: String, keys: Vec<ApiKey>, revoked: bool, now: OffsetDateTime) -> impl IntoView {
    let action = view! { <a class="button sm" href=routes::ADMIN_API_KEYS_NEW>"Make an API key"</a> }.into_any();
    let is_whole = keys.len() < usize::from(MOST_SHOWN);
    let rows = keys.into_iter().map(|key| cells(key, now)).collect();
    view! {
        <Admin title="API keys" email=who action=Some(action) help=Some(help::ADMIN_API_KEYS) lede="Which programs may use this service, and for what.">
            {revoked.then(|| view! {
                <Notice tone=Tone::Ok title="Key revoked">"It stopped working at once. It's in the audit log."</Notice>
            })}
            <div class="panel">
                <Table label="API keys" columns=COLUMNS rows>
                    <Empty heading="No API keys" text="A key lets a program of yours use this service. Each one will show up in this list."/>
                </Table>
            </div>
            {(!is_whole).then(|| view! {
                <p class="hint">{format!("{MOST_SHOWN} are shown: those that work first, then the newest.")}</p>
            })}
        </Admin>
    }
}

fn cells(key: ApiKey, now: OffsetDateTime) -> Vec<AnyView> {
    let ApiKey { name, prefix, scopes, maker, curbed, state, last_used, expires } = key;
    let badge = match state {
        KeyState::Live if curbed => Some((BadgeKind::Warn, "Limited")),
        KeyState::Live => None,
        KeyState::Expired => Some((BadgeKind::Off, "Expired")),
        KeyState::Revoked => Some((BadgeKind::Danger, "Revoked")),
    };
    let scopes = scopes.into_iter().map(Scope::as_str).collect::<Vec<_>>().join(", ");
    let maker = match maker {
        Maker::Operator => view! { <p>"At the shell"</p> }.into_any(),
        Maker::Admin(address) => view! { <p><span class="whole"><Masked address/></span></p> }.into_any(),
        Maker::Gone => view! { <p>"A deleted account"</p> }.into_any(),
    };
    let time = |at: OffsetDateTime| view! { <p><Lately at now/></p> }.into_any();
    let revoke = (state == KeyState::Live).then(|| {
        view! { <a class="button sm" href=path_to_revoke(&prefix)>"Revoke"<span class="vh">" "{name.clone()}</span></a> }.into_any()
    });
    vec![
        view! {
            <p><span class="whole">{name}</span>" "{badge.map(|(kind, text)| view! { <Badge kind text/> })}</p>
            <p class="hint"><code>{prefix}"…"</code></p>
        }
        .into_any(),
        view! {
            <p><code>{scopes}</code></p>
            {(curbed && state == KeyState::Live).then(|| view! {
                <p class="hint">"Without what needs an administrator: its maker is none any more."</p>
            })}
        }
        .into_any(),
        maker,
        last_used.map_or_else(|| "Never".into_any(), time),
        expires.map_or_else(|| "Never".into_any(), time),
        revoke.unwrap_or_else(|| "–".into_any()),
    ]
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct ApiKeysQuery {
    done: String,
    key: String,
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Query(query): Query<ApiKeysQuery>,
) -> Answer {
    let keys = state.auth.api_keys().list().await?.into_iter().map(ApiKey::from).collect();
    let (revoked, now) = (query.done == REVOKED, state.auth.now());
    Ok(page(StatusCode::OK, || view! { <ApiKeysPage who=authority.email keys revoked now/> }))
}

/// Why no key was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKeyError {
    NameMissing,
    NameTooLong,
    NoScope,
}

impl NewKeyError {
    /// The field it is about, and its words.
    fn told(self) -> (&'static str, String) {
        match self {
            Self::NameMissing => ("name", "Enter a name".to_owned()),
            Self::NameTooLong => ("name", format!("Use {MAX_NAME} characters or fewer")),
            Self::NoScope => ("signin", "Choose what it may do".to_owned()),
        }
    }
}

/// What was typed and chosen so far.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub name: String,
    pub scopes: Vec<Scope>,
    pub lifetime: Lifetime,
}

#[component]
pub fn NewApiKeyPage(who: String, draft: Draft, error: Option<NewKeyError>) -> impl IntoView {
    let Draft { name, scopes, lifetime } = draft;
    let above = vec![("API keys", routes::ADMIN_API_KEYS.to_owned())];
    let boxes = Scope::ALL.iter().map(|scope| {
        let (box_name, hint) = scope_words(*scope);
        view! { <Checkbox name=box_name hint checked=scopes.contains(scope)><code>{scope.as_str()}</code></Checkbox> }
    });
    let boxes = boxes.collect_view();
    let lifetimes = Lifetime::ALL.map(|lifetime| (lifetime.row().0, lifetime.row().1)).into();
    let name_error = error.filter(|error| *error != NewKeyError::NoScope).map(|error| error.told().1);
    let no_scope = error == Some(NewKeyError::NoScope);
    view! {
        <Admin title="Make an API key" email=who above crumb="Make an API key" error=error.is_some() help=Some(help::ADMIN_API_KEYS)>
            {error.map(|error| view! { <ErrorSummary errors=vec![error.told()]/> })}
            <Ask action=routes::ADMIN_API_KEYS_NEW button="Make key" narrow=true novalidate=true back=("Cancel", routes::ADMIN_API_KEYS.to_owned())>
                <TextField
                    id="name" label="Name" hint="What the key is for, like Billing." value=name maxlength=MAX_NAME
                    error=name_error summarised=true
                />
                <fieldset class="choices" aria-describedby=no_scope.then_some("scopes-error")>
                    <legend>"What it may do"</legend>
                    {no_scope.then(|| view! { <ErrorText id="scopes" text=NewKeyError::NoScope.told().1/> })}
                    {boxes.collect_view()}
                </fieldset>
                <SelectField id="expires" label="Stops working" options=lifetimes chosen=lifetime.row().0/>
            </Ask>
        </Admin>
    }
}

/// The only time a key is shown.
#[component]
pub fn RevealedKeyPage(who: String, name: String, key: String, expires: Option<OffsetDateTime>) -> impl IntoView {
    let above = vec![("API keys", routes::ADMIN_API_KEYS.to_owned())];
    let used_by = name.clone();
    view! {
        <Admin title="Copy your API key" email=who above crumb="Copy your API key" help=Some(help::ADMIN_API_KEYS)>
            <Notice tone=Tone::Ok title="Key made">
                {used_by}" can use it now."
                {expires.map(|at| view! { " It stops working on "<DateTime at/>". We'll email you a week before." })}
            </Notice>
            <div class="panel narrow">
                <h2><span class="whole">{name}</span></h2>
                <section class="body">
                    <CopyBlock heading="API key" value=key hint="Whoever has it can do what it may do. Keep it secret."/>
                    <p><strong>"We won't show it again."</strong>" Put it where your program reads its secrets."</p>
                    <div class="row-actions"><a class="button primary" href=routes::ADMIN_API_KEYS>"I've copied it"</a></div>
                </section>
            </div>
        </Admin>
    }
}

/// Asks for the administrator's strongest factor first: what was typed would not survive it.
pub async fn get_new(State(state): State<AppState>, Administrator(_, authority): Administrator) -> Answer {
    require_fresh(&state, &authority, routes::ADMIN_API_KEYS_NEW)?;
    Ok(page(StatusCode::OK, || view! { <NewApiKeyPage who=authority.email draft=Draft::default() error=None/> }))
}

/// Makes a key. It is shown in this answer and nowhere else.
#[server(prefix = "", endpoint = "admin/api-keys/new", protocol = FormPost)]
pub async fn create_api_key(
    #[server(default)] name: String,
    #[server(flatten)] boxes: BTreeMap<String, String>,
    #[server(default)] expires: String,
) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_API_KEYS_NEW).await?;
    let draft = Draft {
        name: line(&name),
        scopes: Scope::ALL.iter().copied().filter(|scope| boxes.contains_key(scope_words(*scope).0)).collect(),
        lifetime: Lifetime::parse(&expires),
    };
    let (by, lifetime) = (Actor::Admin { authority: &authority, from: &form.from }, draft.lifetime.duration());
    let made = form.state.auth.api_keys().create(by, &draft.name, &draft.scopes, lifetime).await;
    let who = authority.email.clone();
    let refuse = |draft: Draft, error| {
        let who = who.clone();
        Err(page(StatusCode::UNPROCESSABLE_ENTITY, || view! { <NewApiKeyPage who draft error=Some(error)/> }).into())
    };
    match made {
        Ok(new) => Ok(page(StatusCode::OK, || view! { <RevealedKeyPage who name=draft.name key=new.key expires=new.expires_at/> })),
        Err(CreateKeyError::Name) if draft.name.is_empty() => refuse(draft, NewKeyError::NameMissing),
        Err(CreateKeyError::Name) => refuse(draft, NewKeyError::NameTooLong),
        Err(CreateKeyError::NoScope) => refuse(draft, NewKeyError::NoScope),
        Err(CreateKeyError::Act(error)) => not_done(error, routes::ADMIN_API_KEYS_NEW),
        Err(CreateKeyError::Unavailable(error)) => Err(error.into()),
    }
}

/// Asks first, and why.
#[component]
pub fn RevokeKeyPage(who: String, name: String, prefix: String, reason: String, error: Option<ReasonError>) -> impl IntoView {
    let above = vec![("API keys", routes::ADMIN_API_KEYS.to_owned())];
    view! {
        <Admin title="Revoke this key?" email=who above crumb="Revoke" error=error.is_some() help=Some(help::ADMIN_API_KEYS)>
            <Ask action=routes::ADMIN_API_KEYS_REVOKE button="Revoke key" class="button danger" narrow=true novalidate=true back=("Keep it", routes::ADMIN_API_KEYS.to_owned())>
                <input type="hidden" name="key" value=prefix.clone()/>
                <p><strong class="whole">{name}</strong>" "<code>{prefix}"…"</code></p>
                <p>"Programs that use it are refused from the next request on. A revoked key can't be brought back."</p>
                <ReasonField value=reason maxlength=Reason::MOST error=error.map(reason_error)/>
            </Ask>
        </Admin>
    }
}

/// A key that lives, by how it begins.
async fn live(state: &AppState, key: &str) -> Result<Option<ApiKeyRow>, auth::Error> {
    let Some(prefix) = Prefix::parse(key) else { return Ok(None) };
    Ok(state.auth.api_keys().list().await?.into_iter().find(|row| row.prefix == prefix && row.state == KeyState::Live))
}

fn path_to_revoke(prefix: &str) -> String {
    format!("{}?key={prefix}", routes::ADMIN_API_KEYS_REVOKE)
}

pub async fn get_revoke(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Query(query): Query<ApiKeysQuery>,
) -> Answer {
    let Some(key) = live(&state, &query.key).await? else { return see_other(routes::ADMIN_API_KEYS) };
    let (name, prefix) = (key.name, key.prefix.to_string());
    require_fresh(&state, &authority, &path_to_revoke(&prefix))?;
    Ok(page(StatusCode::OK, || view! { <RevokeKeyPage who=authority.email name prefix reason=String::new() error=None/> }))
}

/// Ends a key.
#[server(prefix = "", endpoint = "admin/api-keys/revoke", protocol = FormPost)]
pub async fn revoke_api_key(#[server(default)] key: String, #[server(default)] reason: String) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_API_KEYS).await?;
    let typed = line(&reason);
    let Some(found) = live(&form.state, &key).await? else {
        return see_other(routes::ADMIN_API_KEYS);
    };
    let reason: Reason = match typed.parse() {
        Ok(reason) => reason,
        Err(error) => {
            let (who, name, prefix) = (authority.email, found.name, found.prefix.to_string());
            let ask = || view! { <RevokeKeyPage who name prefix reason=typed error=Some(error)/> };
            return Err(page(StatusCode::UNPROCESSABLE_ENTITY, ask).into());
        }
    };
    match form.state.auth.api_keys().revoke(Actor::Admin { authority: &authority, from: &form.from }, found.prefix, &reason).await {
        Ok(()) => see_other(&format!("{}?done={REVOKED}", routes::ADMIN_API_KEYS)),
        // Somebody was faster. The page shows how things are now.
        Err(ActionError::Nothing) => see_other(routes::ADMIN_API_KEYS),
        Err(error) => not_done(error, &path_to_revoke(&found.prefix.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn who() -> String {
        "priya@example.org".to_owned()
    }

    fn key(state: KeyState) -> ApiKey {
        ApiKey {
            name: "Billing <b>".to_owned(),
            prefix: "lk_k7qdm2xw".to_owned(),
            scopes: vec![Scope::SignIn, Scope::AuditRead],
            maker: Maker::Admin("mara@example.org".into()),
            curbed: false,
            state,
            last_used: None,
            expires: Some(datetime!(2027-02-22 14:29 UTC)),
        }
    }

    fn list(keys: Vec<ApiKey>, revoked: bool) -> String {
        render(move || view! { <ApiKeysPage who=who() keys revoked now=NOW/> })
    }

    #[test]
    fn a_list_that_may_not_be_whole_says_so() {
        let most = |n: u16| list((0..n).map(|_| key(KeyState::Live)).collect(), false);
        assert!(most(MOST_SHOWN).contains("500 are shown") && !most(MOST_SHOWN - 1).contains("are shown"));
    }

    #[test]
    fn the_form_offers_every_scope_and_keeps_what_was_chosen() {
        let draft = Draft { name: "Billing".to_owned(), scopes: vec![Scope::Users], lifetime: Lifetime::Year };
        let html = render(move || view! { <NewApiKeyPage who=who() draft error=Some(NewKeyError::NameTooLong)/> });
        for &scope in Scope::ALL {
            let (name, hint) = scope_words(scope);
            assert!(html.contains(&format!(r#"name="{name}""#)) && html.contains(hint), "{scope:?}");
            assert!(html.contains(&format!("<code>{}</code>", scope.as_str())), "{scope:?}");
        }
        assert_eq!(html.matches(" checked").count(), 1);
        assert!(html.contains(r#"value="365d" selected"#) && html.contains(r##"href="#name""##));
        assert!(html.contains("Use 80 characters or fewer") && html.contains("<title>Error: Make an API key"));
        let none = render(|| view! { <NewApiKeyPage who=who() draft=Draft::default() error=Some(NewKeyError::NoScope)/> });
        assert!(none.contains("Choose what it may do") && none.contains(r##"href="#signin""##));
        assert!(none.contains(r#"value="90d" selected"#));
    }
}
