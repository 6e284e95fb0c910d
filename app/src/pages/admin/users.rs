//! `/admin/users`: every account, and who was invited.

use auth::administration::{self, Status, UserFilter};

use crate::pages::{
    account::two_factor::FEW_CODES,
    admin::{
        invite, line,
        person::{self, StatusBadge, status_badge},
    },
    prelude::*,
};

/// As long as an address can be.
const MAX_SEARCH: usize = 254;

const fn on_or_off(two_factor: Option<bool>) -> &'static str {
    match two_factor {
        None => "",
        Some(true) => "on",
        Some(false) => "off",
    }
}

/// This page with these filters, from one place in the list on. What was searched for stays in the session: it may be a whole
/// address, and URLs are logged by every proxy on the way.
fn path(filter: &UserFilter, at: &str) -> String {
    let search = if filter.search.is_some() { "1" } else { "" };
    let (status, two_factor) = (filter.status.map_or("", Status::as_str), on_or_off(filter.two_factor));
    routes::with_query(routes::ADMIN_USERS, [("search", search), ("status", status), ("two_factor", two_factor), ("at", at)])
}

/// One of the list, by its masked address.
#[derive(Clone, Debug)]
pub struct UserRow {
    pub id: String,
    pub address: MaskedAddress,
    pub status: Status,
    pub admin: bool,
    /// Backup codes left, where two-factor is on.
    pub two_factor: Option<u64>,
    pub last_sign_in: Option<OffsetDateTime>,
    pub sessions: u64,
}

/// So many of the list as a page holds.
#[derive(Clone, Debug)]
pub struct Users {
    pub rows: Vec<UserRow>,
    /// How many there are on all pages, as far as they were counted.
    pub matching: u64,
    /// There are more than that.
    pub more: bool,
    /// The place of the first row among them, from 1, as far as they were counted.
    pub from: Option<u64>,
    /// Cursors to the pages beside this one.
    pub previous: Option<String>,
    pub next: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::text("Email"),
    Column::text("Status"),
    Column::text("Two-factor"),
    Column::text("Last sign-in (UTC)"),
    Column::number("Sessions"),
];

/// `who`: the administrator's own address. `invited`: somebody was, a moment ago.
#[component]
pub fn UsersPage(who: String, filter: UserFilter, users: Users, invited: bool, now: OffsetDateTime) -> impl IntoView {
    let Users { rows, matching, more, from, previous, next } = users;
    let count = format::grouped(matching);
    let count = if more { format!("more than {count}") } else { count };
    let lede = match (filter != UserFilter::default(), matching) {
        (true, 0) => String::new(),
        (true, 1) => "1 match. ".to_owned(),
        (true, _) => format!("{} match. ", format::capitalised(&count)),
        (false, 1) => "1 account. ".to_owned(),
        (false, _) => format!("{} accounts and invitations. ", format::capitalised(&count)),
    };
    let action = view! { <a class="button sm" href=routes::ADMIN_USERS_INVITE>"Invite someone"</a> }.into_any();
    let shown = rows.len() as u64;
    let text = match from {
        Some(from) => format!("{} to {} of {count}", format::grouped(from), format::grouped(from + shown.saturating_sub(1))),
        None => format!("{} of {count}", format::grouped(shown)),
    };
    let link = |cursor: Option<String>| cursor.map(|at| path(&filter, &at));
    let (previous, next) = (link(previous), link(next));
    let all = view! { <a class="button" href=routes::ADMIN_USERS>"Clear filters"</a> }.into_any();
    let rows = rows.into_iter().map(|row| cells(row, now)).collect();
    view! {
        <Admin title="Users" email=who action=Some(action) help=Some(help::ADMIN_ACCOUNTS)>
            <p class="lede">{lede}"Addresses are masked until you open an account."</p>
            {invited.then(|| view! {
                <Notice tone=Tone::Ok title="Invitation sent">"They're in this list as invited until they use it."</Notice>
            })}
            <div class="panel">
                <Filters filter/>
                <Table label="Users" columns=COLUMNS rows>
                    <Empty heading="Nobody matches" text="Check the spelling, or clear the filters." action=Some(all)/>
                </Table>
                {(shown > 0).then(|| view! { <Pager text back=("Previous", previous) forth=("Next", next)/> })}
            </div>
        </Admin>
    }
}

#[component]
fn Filters(filter: UserFilter) -> impl IntoView {
    let two_factor = on_or_off(filter.two_factor);
    let status = filter.status.map_or("", Status::as_str);
    let statuses =
        [("", "Any")].into_iter().chain(Status::ALL.iter().map(|&status| (status.as_str(), status_badge(status).1))).collect();
    view! {
        <form class="filters" method="post" action=routes::ADMIN_USERS role="search">
            <SearchField id="q" label="Email or user ID" value=filter.search.unwrap_or_default() maxlength=MAX_SEARCH/>
            <SelectField id="status" label="Status" options=statuses chosen=status/>
            <SelectField
                id="two_factor" label="Two-factor" options=vec![("", "Any"), ("on", "On"), ("off", "Off")] chosen=two_factor
            />
            <button class="button">"Search"</button>
        </form>
    }
}

/// Somebody who was only invited has no page yet.
fn cells(row: UserRow, now: OffsetDateTime) -> Vec<AnyView> {
    let UserRow { id, address, status, admin, two_factor, last_sign_in, sessions } = row;
    let address = if status == Status::Invited {
        view! { <Masked address/> }.into_any()
    } else {
        view! { <a href=person::path(&id)><Masked address/></a> }.into_any()
    };
    let two_factor = match two_factor {
        None => "Off".to_owned(),
        Some(left @ ..=FEW_CODES) => format!("On, {} left", format::count(left, "code")),
        Some(_) => "On".to_owned(),
    };
    vec![
        view! { <span class="whole">{address}</span>" "{admin.then(|| view! { <Badge text="Admin"/> })} }.into_any(),
        view! { <StatusBadge status/> }.into_any(),
        two_factor.into_any(),
        view! { <LatelyIfEver at=last_sign_in now/> }.into_any(),
        format::grouped(sessions).into_any(),
    ]
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct UsersQuery {
    search: String,
    status: String,
    two_factor: String,
    at: String,
    done: String,
}

/// What is no filter filters nothing.
fn filter(search: Option<String>, status: &str, two_factor: &str) -> UserFilter {
    UserFilter {
        search: search.filter(|search| !search.is_empty()),
        status: Status::parse(status),
        two_factor: [true, false].into_iter().find(|on| on_or_off(Some(*on)) == two_factor),
    }
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(browser, authority): Administrator,
    Query(query): Query<UsersQuery>,
) -> Answer {
    let search = browser.visit.user_search.filter(|_| !query.search.is_empty());
    let filter = filter(search, &query.status, &query.two_factor);
    let found = state.auth.administration().users(&filter, Some(query.at.as_str())).await?;
    let row = |row: administration::UserRow| UserRow {
        id: row.id.to_string(),
        address: row.email.as_str().into(),
        status: row.status,
        admin: row.admin,
        two_factor: row.two_factor.then_some(row.codes_left.unsigned_abs()),
        last_sign_in: row.last_sign_in_at,
        sessions: row.sessions.unsigned_abs(),
    };
    let users = Users {
        rows: found.rows.into_iter().map(row).collect(),
        matching: found.matching.unsigned_abs(),
        more: found.more,
        from: found.from.map(i64::unsigned_abs),
        previous: found.previous,
        next: found.next,
    };
    let (invited, now) = (query.done == invite::DONE, state.auth.now());
    Ok(page(StatusCode::OK, || view! { <UsersPage who=authority.email filter users invited now/> }))
}

/// Searches: keeps what was typed in the session, and shows the list.
#[server(prefix = "", endpoint = "admin/users", protocol = FormPost)]
pub async fn search_users(
    #[server(default)] q: String,
    #[server(default)] status: String,
    #[server(default)] two_factor: String,
) -> Answer {
    let (_, Administrator(browser, _)) = Form::authorize(routes::ADMIN_USERS).await?;
    let search: String = line(&q).chars().take(MAX_SEARCH).collect();
    let filter = filter(Some(search), &status, &two_factor);
    let visit = session::Visit { user_search: filter.search.clone(), ..browser.visit.clone() };
    browser.store(&visit).await?;
    see_other(&path(&filter, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn row(address: &str, status: Status, two_factor: Option<u64>) -> UserRow {
        UserRow {
            id: "7".to_owned(),
            address: address.into(),
            status,
            admin: false,
            two_factor,
            last_sign_in: Some(datetime!(2026-11-23 22:05 UTC)),
            sessions: 1_200,
        }
    }

    fn html(filter: UserFilter, rows: Vec<UserRow>, matching: u64) -> String {
        let users = Users { rows, matching, more: false, from: Some(26), previous: Some("a&b".to_owned()), next: None };
        render(move || view! { <UsersPage who="priya@example.org".to_owned() filter users invited=false now=NOW/> })
    }

    fn all(rows: Vec<UserRow>) -> String {
        html(UserFilter::default(), rows, 16_840)
    }

    #[test]
    fn what_was_not_counted_is_not_guessed() {
        let rows = vec![row("mara@example.org", Status::Active, None)];
        let users = Users { rows, matching: 10_000, more: true, from: None, previous: None, next: None };
        let filter = UserFilter::default();
        let html = render(move || view! { <UsersPage who="priya@example.org".to_owned() filter users invited=false now=NOW/> });
        assert!(
            html.contains("More than 10,000 accounts and invitations. ") && html.contains("<p>1 of more than 10,000</p>"),
            "{html}"
        );
    }

    #[test]
    fn every_status_has_its_shape() {
        for (status, badge) in [
            (Status::Active, r#"<span class="badge ok">Active</span>"#),
            (Status::Disabled, r#"<span class="badge danger">Disabled</span>"#),
            (Status::Invited, r#"<span class="badge off">Invited</span>"#),
            (Status::Leaving, r#"<span class="badge warn">Leaving</span>"#),
        ] {
            let html = all(vec![row("mara@example.org", status, None)]);
            assert!(html.contains(badge), "{status:?}");
            assert_eq!(html.contains("/admin/users/7"), status != Status::Invited, "{status:?}: who was invited has no page");
        }
    }

    #[test]
    fn two_factor_counts_codes_once_they_are_few() {
        for (two_factor, words) in [
            (None, ">Off</td>"),
            (Some(10), ">On</td>"),
            (Some(4), ">On</td>"),
            (Some(3), ">On, 3 codes left</td>"),
            (Some(1), ">On, 1 code left</td>"),
            (Some(0), ">On, 0 codes left</td>"),
        ] {
            assert!(all(vec![row("mara@example.org", Status::Active, two_factor)]).contains(words), "{words}");
        }
        let never = UserRow { last_sign_in: None, ..row("mara@example.org", Status::Invited, None) };
        assert!(all(vec![never]).contains(">Never</td>"));
    }

    #[test]
    fn filters_stay_as_they_were_set_and_go_along_to_other_pages() {
        let filter = UserFilter { search: Some("\"><script>".to_owned()), status: Some(Status::Leaving), two_factor: Some(false) };
        let html = html(filter, vec![row("mara@example.org", Status::Leaving, None)], 26);
        assert!(html.contains(r#"name="q" type="text" value="&quot;&gt;&lt;script&gt;""#) && !html.contains("<script"));
        assert!(html.contains(r#"<option value="leaving" selected>"#) && html.contains(r#"<option value="off" selected>"#));
        assert_eq!(html.matches(" selected").count(), 2);
        assert!(html.contains("26 match. Addresses are masked") && html.contains("26 to 26 of 26"));
        assert!(html.contains(
            r#"href="/admin/users?search=1&amp;status=leaving&amp;two_factor=off&amp;at=a%26b" class="button sm">Previous"#
        ));
        assert!(html.contains(r#"aria-disabled="true" class="button sm">Next"#) || html.contains(r#"aria-disabled="true">Next"#));
    }

    #[test]
    fn the_whole_list_is_counted() {
        let html = all(vec![row("mara@example.org", Status::Active, None); 25]);
        assert!(html.contains("16,840 accounts and invitations.") && html.contains("<p>26 to 50 of 16,840</p>"));
        assert!(html.contains(r#"href="/admin/users?at=a%26b""#));
    }

    #[test]
    fn what_is_no_filter_filters_nothing() {
        let query = |q: &str, status: &str, two_factor: &str| filter(Some(line(q)), status, two_factor);
        assert_eq!(query(" \0\n ", "Active", "true"), UserFilter::default());
        let search = Some("mara@example.org".to_owned());
        let set = UserFilter { search, status: Some(Status::Leaving), two_factor: Some(false) };
        assert_eq!(query(" mara@\0example.org\n", "leaving", "off"), set);
    }
}
