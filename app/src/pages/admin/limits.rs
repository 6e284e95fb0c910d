//! `/admin/limits`: whom limits throttle now, and releasing one.

use auth::{
    administration::{self, ThrottledBy},
    identity::Actor,
    limits::request_bursts::{NetworkRequests, TOO_MANY},
    policy::limits::Limit,
};

use crate::pages::{
    admin::{not_done, person},
    prelude::*,
};

/// Says in the list's URL that somebody was released a moment ago.
const DONE: &str = "released";

/// What a limit counts, for administrators.
const fn counts(by: ThrottledBy) -> &'static str {
    match by {
        ThrottledBy::Limit(limit) => match limit {
            Limit::LinkAddressNetwork => "Sign-in emails to one address, from one network",
            Limit::LinkAddress => "Sign-in emails to one address",
            Limit::LinkAddressNewcomer => "First sign-in emails to a crowded address, from one network",
            Limit::LinkAddressNewcomers => "First sign-in emails to a crowded address",
            Limit::LinkKnownBrowser => "Sign-in emails, in a browser that has signed in before",
            Limit::LinkNetwork => "Sign-in emails, from one network",
            Limit::LinkNetwork56 => "Sign-in emails, from one IPv6 /56",
            Limit::LinkNetwork48 => "Sign-in emails, from one IPv6 /48 or IPv4 /24",
            Limit::LinkAll => "Sign-in emails in all",
            Limit::LinkAllCommon => "Sign-in emails in all, without what is kept for networks that ask for little",
            Limit::LinkAllBlock => "Sign-in emails of what is kept, from one IPv6 /48 or IPv4 /24",
            Limit::LinkAllRange => "Sign-in emails of what is kept, from one IPv6 /32 or IPv4 /16",
            Limit::LinkBrowser => "Sign-in emails, in one browser",
            Limit::CodeNetwork => "Wrong email codes, from one network",
            Limit::CodeAddress => "Wrong email codes for one address",
            Limit::CodeKnownBrowser => "Wrong email codes, in a browser that has signed in before",
            Limit::TotpAccount => "Wrong authenticator codes",
            Limit::TotpKnownBrowser => "Wrong authenticator codes, in a browser that has signed in before",
            Limit::BackupAccount => "Wrong backup codes",
            Limit::BackupKnownBrowser => "Wrong backup codes, in a browser that has signed in before",
            Limit::StepUpAccount => "Wrong codes before a change",
            Limit::StepUpKnownBrowser => "Wrong codes before a change, in a browser that has signed in before",
            Limit::StepUpMail => "Emails before a change",
            Limit::BackupCodeSets => "New sets of backup codes",
            Limit::AccountChanges => "Changes to one's own account",
            Limit::SignUpNetwork => "Accounts made from one network",
            Limit::AddressChange => "Changes of address",
            Limit::Notice => "Emails that tell of something",
            Limit::MailTest => "Test emails",
            Limit::ApiKey => "Requests of one API key",
        },
        ThrottledBy::WrongAppCodes => "Wrong authenticator codes in a row",
    }
}

/// Somebody whom a limit throttles.
#[derive(Clone, Debug)]
pub struct Throttled {
    pub by: ThrottledBy,
    /// Names it, for releasing it.
    pub key: String,
    pub address: Option<MaskedAddress>,
    pub network: Option<String>,
    /// The account's id, where the limit counts one.
    pub user: Option<String>,
    pub free_at: OffsetDateTime,
}

const COLUMNS: &[Column] =
    &[Column::text("Who"), Column::text("What is counted"), Column::text("Free again"), Column::text("Action")];

/// `held` are those with the longest wait of `all`. `released`: somebody was, a moment ago.
#[component]
pub fn LimitsPage(
    who: String,
    by: Option<ThrottledBy>,
    held: Vec<Throttled>,
    all: u64,
    too_many: Vec<NetworkRequests>,
    released: bool,
    now: OffsetDateTime,
) -> impl IntoView {
    let shown = held.len() as u64;
    let rows = held.into_iter().map(|held| cells(held, now)).collect();
    let nobody = "People who ask for too many emails, or type too many wrong codes, show up in this list.";
    view! {
        <Admin title="Limits" email=who help=Some(help::ADMIN_LIMITS) lede="Who has to wait now, and for what. A limit never locks an account, and ends no session.">
            {released.then(|| view! {
                <Notice tone=Tone::Ok title="Let go">"They can try again at once. It's in the audit log."</Notice>
            })}
            {(!too_many.is_empty()).then(|| view! { <TooMany networks=too_many/> })}
            <div class="panel">
                <Filters by/>
                <Table label="Who is limited" columns=COLUMNS rows><Empty heading="Nobody is limited now" text=nobody/></Table>
                {(shown > 0 && all > shown).then(|| view! {
                    <p class="body hint">"The "{format::grouped(shown)}" with the longest wait, of "{format::grouped(all)}"."</p>
                })}
            </div>
        </Admin>
    }
}

#[component]
fn TooMany(networks: Vec<NetworkRequests>) -> impl IntoView {
    let title = match networks.len() {
        1 => "One network asks for too many sign-in emails".to_owned(),
        n => format!("{} networks ask for too many sign-in emails", format::grouped(n as u64)),
    };
    let networks: Vec<String> = networks
        .into_iter()
        .map(|NetworkRequests { network, requests }| format!("{network} asked for {}", format::grouped(requests.unsigned_abs())))
        .collect();
    view! {
        <Notice tone=Tone::Danger title>
            {networks.join(", ")}" in the last hour. More than "{TOO_MANY}" is unusual."
        </Notice>
    }
}

#[component]
fn Filters(by: Option<ThrottledBy>) -> impl IntoView {
    let options = [("", "Any")].into_iter().chain(ThrottledBy::all().into_iter().map(|by| (by.name(), counts(by)))).collect();
    view! {
        <form class="filters" method="get" action=routes::ADMIN_LIMITS role="search">
            <SelectField id="limit" label="What is counted" options chosen=by.map_or("", ThrottledBy::name)/>
            <button class="button">"Show"</button>
        </form>
    }
}

fn cells(held: Throttled, now: OffsetDateTime) -> Vec<AnyView> {
    let Throttled { by, key, address, network, user, free_at } = held;
    let nobody = address.is_none() && network.is_none() && user.is_none();
    let row = address.as_ref().map(MaskedAddress::spoken).or(network.clone()).unwrap_or_default();
    let address = address.map(|address| match user {
        Some(id) => view! { <a href=person::path(&id)><Masked address/></a> }.into_any(),
        None => view! { <Masked address/> }.into_any(),
    });
    let hidden = vec![("limit", by.name().to_owned()), ("key", key)];
    let wait = (free_at - now).try_into().unwrap_or_default();
    vec![
        view! {
            {address.map(|address| view! { <p><span class="whole">{address}</span></p> })}
            {network.map(|network| view! { <p><span class="whole">{network}</span></p> })}
            {nobody.then_some("Everybody")}
        }
        .into_any(),
        view! { <p>{counts(by)}</p><p class="hint"><code>{by.name()}</code></p> }.into_any(),
        view! { <time datetime=format::machine_time(free_at)>{format::within(wait)}</time> }.into_any(),
        view! { <PostButton action=routes::ADMIN_LIMITS hidden text="Let go" of=row/> }.into_any(),
    ]
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct LimitsQuery {
    limit: String,
    done: String,
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Query(query): Query<LimitsQuery>,
) -> Answer {
    let by = ThrottledBy::by_name(&query.limit);
    let found = state.auth.administration().limits_in_force(by).await?;
    let held = |held: administration::Throttled| Throttled {
        by: held.by,
        key: held.key,
        address: held.subject.address.as_deref().map(Into::into),
        network: held.subject.network,
        user: held.subject.user.map(|user| user.to_string()),
        free_at: held.free_at,
    };
    let (held, all, too_many) = (found.held.into_iter().map(held).collect(), found.all.unsigned_abs(), found.too_many);
    let (released, now) = (query.done == DONE, state.auth.now());
    Ok(page(StatusCode::OK, || view! { <LimitsPage who=authority.email by held all too_many released now/> }))
}

/// Releases one.
#[server(prefix = "", endpoint = "admin/limits", protocol = FormPost)]
pub async fn release_limit(#[server(default)] limit: String, #[server(default)] key: String) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_LIMITS).await?;
    let Some(by) = ThrottledBy::by_name(&limit) else {
        return see_other(routes::ADMIN_LIMITS);
    };
    match form.state.auth.administration().release(Actor::Admin { authority: &authority, from: &form.from }, by, &key).await {
        Ok(()) => see_other(&format!("{}?done={DONE}", routes::ADMIN_LIMITS)),
        Err(error) => not_done(error, routes::ADMIN_LIMITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::{Duration, macros::datetime};

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn held(by: ThrottledBy) -> Throttled {
        Throttled {
            by,
            key: "a-key".to_owned(),
            address: Some("m•••••@example.org".into()),
            network: None,
            user: None,
            free_at: NOW + Duration::seconds(200),
        }
    }

    fn html(held: Vec<Throttled>, all: u64, too_many: Vec<NetworkRequests>) -> String {
        render(move || {
            view! { <LimitsPage who="priya@example.org".to_owned() by=None held all too_many released=false now=NOW/> }
        })
    }

    #[test]
    fn an_account_has_a_link_a_network_none_and_everybody_is_everybody() {
        let account = Throttled { user: Some("7".to_owned()), ..held(ThrottledBy::WrongAppCodes) };
        let network =
            Throttled { address: None, network: Some("2001:db8::/64".to_owned()), ..held(ThrottledBy::Limit(Limit::LinkNetwork)) };
        let everybody = Throttled { address: None, ..held(ThrottledBy::Limit(Limit::LinkAll)) };
        let html = html(vec![account, network, everybody], 1_204, vec![]);
        assert!(html.contains(r#"<a href="/admin/users/7">"#) && html.contains("2001:db8::/64") && html.contains("Everybody"));
        assert!(html.contains("The 3 with the longest wait, of 1,204."));
    }

    #[test]
    fn networks_that_ask_for_too_many_are_told_of() {
        let network = |network: &str, requests| NetworkRequests { network: network.to_owned(), requests };
        let one = html(vec![], 0, vec![network("203.0.113.7", 1_143)]);
        assert!(one.contains("One network asks for too many sign-in emails"));
        assert!(one.contains("203.0.113.7 asked for 1,143") && one.contains("More than 100 is unusual."));
        assert!(one.contains("Nobody is limited now"));
        let two = html(vec![], 0, vec![network("203.0.113.7", 143), network("203.0.113.8", 102)]);
        assert!(two.contains("2 networks ask for too many") && two.contains("143, 203.0.113.8 asked for 102"));
        assert!(!html(vec![], 0, vec![]).contains("notice"));
    }

    #[test]
    fn every_limit_that_holds_has_words_of_its_own() {
        let mut words: Vec<&str> = ThrottledBy::all().into_iter().map(counts).collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
        for by in ThrottledBy::all() {
            assert_eq!(ThrottledBy::by_name(by.name()), Some(by));
        }
    }
}
