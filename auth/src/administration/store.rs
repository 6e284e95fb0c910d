use std::fmt;

use sqlx::PgPool;
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::OffsetDateTime;
use uuid::Uuid;

/// How an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    Active,
    /// Turned off by an administrator.
    Disabled,
    /// Its owner asked for it to be deleted.
    Leaving,
    /// No account yet: an invitation that was not taken up.
    Invited,
}

named!(Status);

/// As our own queries tell it. What can't be read is nobody who signs in.
impl From<String> for Status {
    fn from(text: String) -> Self {
        Self::parse(&text).unwrap_or(Self::Disabled)
    }
}

/// Which users are asked for. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Part of an address in any case, or a whole id.
    pub search: Option<String>,
    pub status: Option<Status>,
    pub two_factor: Option<bool>,
}

impl UserFilter {
    /// What a whole id finds, and what a part of an address: a pattern for `like`.
    fn search(&self) -> (Option<Uuid>, Option<String>) {
        let search = self.search.as_deref().map(str::trim).filter(|search| !search.is_empty());
        match search.map(|search| (search, Uuid::try_parse(search))) {
            None => (None, None),
            Some((_, Ok(id))) => (Some(id), None),
            Some((text, Err(_))) => (None, Some(format!("%{}%", like_literal(text)))),
        }
    }
}

/// `like` takes three characters for more than themselves; people who search don't.
fn like_literal(text: &str) -> String {
    text.to_lowercase().replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

/// A user in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// An invitation's, where there is no account yet.
    pub id: Uuid,
    pub email: String,
    pub status: Status,
    pub admin: bool,
    pub two_factor: bool,
    /// Backup codes that still work.
    pub codes_left: i64,
    pub last_sign_in_at: Option<OffsetDateTime>,
    /// Live ones.
    pub sessions: i64,
}

/// A row, and which way to go from it. It holds the row's id, so that no address stands in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    backwards: bool,
    id: Uuid,
}

impl Cursor {
    pub fn after(id: Uuid) -> Self {
        Self { backwards: false, id }
    }

    pub fn before(id: Uuid) -> Self {
        Self { backwards: true, id }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (direction, id) = text.split_at_checked(1)?;
        let id = Uuid::try_parse(id).ok()?;
        match direction {
            "a" => Some(Self::after(id)),
            "b" => Some(Self::before(id)),
            _ => None,
        }
    }

    pub fn id(self) -> Uuid {
        self.id
    }

    pub fn is_backwards(self) -> bool {
        self.backwards
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.backwards { 'b' } else { 'a' }, self.id.simple())
    }
}

/// At most `most`, in the order of the cursor's direction. What is told of a row beside (second factor, codes, sessions)
/// is looked up for the rows of the page only.
///
/// Two ways lead to a page: along the index of addresses until it is full, or over everything and then in order. The first is the
/// better for a filter that many match, the second for one that few do, and PostgreSQL chooses by the pattern: `like`, of which it
/// estimates how many match, where of `position` it takes for granted that a third does. So it must plan with the values, as it does
/// here: a plan for any values is a dear one, and it never changes over to that. Whoever was only invited has an expiry, and no account
/// has: said to PostgreSQL, it doesn't look for the invited among the accounts. So it is with the disabled and the leaving, of whom there
/// is an index.
pub(super) async fn page(
    pool: &PgPool,
    filter: &UserFilter,
    cursor: Option<Cursor>,
    most: usize,
    now: OffsetDateTime,
    idle_since: OffsetDateTime,
) -> sqlx::Result<Vec<UserRow>> {
    let (id, pattern) = filter.search();
    let (status, two_factor) = (filter.status.map(Status::as_str), filter.two_factor);
    let (from, limit) = (cursor.map(|cursor| cursor.id), i64::try_from(most).unwrap_or(i64::MAX));
    // `$beyond` says on which side of the cursor's row they lie, `$order` which of them come first.
    macro_rules! rows {
        ($beyond:tt, $order:tt) => {
            sqlx::query_as!(
                UserRow,
                r#"
                select id as "id!", email as "email!", status as "status!", is_admin as "admin!", last_sign_in_at,
                       exists (select 1 from totp_credentials t where t.user_id = page.id and t.confirmed_at is not null) as "two_factor!",
                       (select count(*) from backup_codes b where b.user_id = page.id and b.saved_at is not null and b.used_at is null) as "codes_left!",
                       (select count(*) from sessions s where s.user_id = page.id and s.level <> 'first_factor'
                            and s.revoked_at is null and s.expires_at > $7 and s.last_seen_at > $8) as "sessions!"
                from (
                    select id, email, email_key, status, is_admin, last_sign_in_at from listed_accounts
                    where ($1::uuid is null or id = $1) and ($2::text is null or email_key like $2) and ($3::text is null or status = $3)
                        and ($4::boolean is null or two_factor = $4) and (expires_at is null or expires_at > $7)
                        and ($3 is distinct from 'invited' or expires_at is not null)
                        and ($3 is distinct from 'disabled' or disabled_at is not null) and ($3 is distinct from 'leaving' or deletes_at is not null)
                        and email_key "# + $beyond + " order by email_key " + $order + r#" limit $6
                ) page
                order by email_key "# + $order,
                id,
                pattern,
                status,
                two_factor,
                from,
                limit,
                now,
                idle_since,
            )
            .fetch_all(pool)
            .await
        };
    }
    if cursor.is_some_and(|cursor| cursor.backwards) {
        rows!("< (select email_key from users where id = $5 union all select email_key from invites where id = $5)", "desc")
    } else {
        rows!(
            "> coalesce((select email_key from users where id = $5 union all select email_key from invites where id = $5), '')",
            "asc"
        )
    }
}

/// How many match, or how many of them come before the row `first`; up to `most`: a page must not look at every account to say a
/// number that nobody reads.
///
/// Who has two-factor is counted from there, without the list: PostgreSQL does not see through it that few have it, and joined to them it
/// would read the whole list for each (seconds where there are 10^5 accounts).
pub(super) async fn count(
    pool: &PgPool,
    filter: &UserFilter,
    first: Option<Uuid>,
    most: i64,
    now: OffsetDateTime,
) -> sqlx::Result<i64> {
    let (id, pattern) = filter.search();
    let status = filter.status.map(Status::as_str);
    if filter.two_factor == Some(true) {
        return sqlx::query_scalar!(
            r#"
            select count(*) as "matching!" from (
                select from (select distinct user_id from totp_credentials where confirmed_at is not null) t
                join users u on u.id = t.user_id
                where ($1::uuid is null or u.id = $1) and ($2::text is null or u.email_key like $2)
                    and ($3::text is null or $3 = case when u.disabled_at is not null then 'disabled'
                                                       when u.deletes_at is not null then 'leaving' else 'active' end)
                    and ($4::uuid is null or u.email_key < (select email_key from users where id = $4))
                limit $5
            ) some_of_them
            "#,
            id,
            pattern,
            status,
            first,
            most,
        )
        .fetch_one(pool)
        .await;
    }
    sqlx::query_scalar!(
        r#"
        select count(*) as "matching!" from (
            select from listed_accounts
            where ($1::uuid is null or id = $1) and ($2::text is null or email_key like $2) and ($3::text is null or status = $3)
                and ($4::boolean is null or two_factor = $4) and (expires_at is null or expires_at > $5)
                and ($3 is distinct from 'invited' or expires_at is not null)
                and ($3 is distinct from 'disabled' or disabled_at is not null) and ($3 is distinct from 'leaving' or deletes_at is not null)
                and ($6::uuid is null or email_key < (select email_key from users where id = $6 union all select email_key from invites where id = $6))
            limit $7
        ) some_of_them
        "#,
        id,
        pattern,
        status,
        filter.two_factor,
        now,
        first,
        most,
    )
    .fetch_one(pool)
    .await
}

pub(super) struct Found {
    pub row: UserRow,
    pub display_name: Option<String>,
    pub created_at: OffsetDateTime,
    pub deletes_at: Option<OffsetDateTime>,
}

pub(super) async fn one(pool: &PgPool, id: Uuid, now: OffsetDateTime, idle_since: OffsetDateTime) -> sqlx::Result<Option<Found>> {
    let row = sqlx::query!(
        r#"
        select u.id, u.email, u.display_name, u.is_admin, u.created_at, u.last_sign_in_at, u.deletes_at,
               case when u.disabled_at is not null then 'disabled' when u.deletes_at is not null then 'leaving' else 'active' end as "status!",
               exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) as "two_factor!",
               (select count(*) from backup_codes b where b.user_id = u.id and b.saved_at is not null and b.used_at is null) as "codes_left!",
               (select count(*) from sessions s where s.user_id = u.id and s.level <> 'first_factor'
                    and s.revoked_at is null and s.expires_at > $2 and s.last_seen_at > $3) as "sessions!"
        from users u where u.id = $1
        "#,
        id,
        now,
        idle_since,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Found {
        row: UserRow {
            id: row.id,
            email: row.email,
            status: row.status.into(),
            admin: row.is_admin,
            two_factor: row.two_factor,
            codes_left: row.codes_left,
            last_sign_in_at: row.last_sign_in_at,
            sessions: row.sessions,
        },
        display_name: row.display_name,
        created_at: row.created_at,
        deletes_at: row.deletes_at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        for cursor in [Cursor::after(Uuid::from_u128(7)), Cursor::before(Uuid::from_u128(7))] {
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in ["", "a", "x00000000000000000000000000000007", "é", "a7"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_search_is_an_id_or_part_of_an_address() {
        let search = |text: &str| UserFilter { search: Some(text.to_owned()), ..UserFilter::default() }.search();
        assert_eq!(search("  "), (None, None));
        assert_eq!(search(" Mara@"), (None, Some("%mara@%".to_owned())));
        assert_eq!(search(r"100%_\"), (None, Some(r"%100\%\_\\%".to_owned())), "what `like` would take for more than itself");
        let id = Uuid::from_u128(7);
        assert_eq!(search(&id.to_string()), (Some(id), None));
    }
}
