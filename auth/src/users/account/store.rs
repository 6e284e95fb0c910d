use std::collections::HashMap;

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Profile;
use crate::primitives::email_address::EmailAddress;
use crate::primitives::statement::Statement as _;

#[expect(clippy::struct_excessive_bools, reason = "columns, each of which a rule asks for by itself")]
pub(crate) struct Account {
    pub id: Uuid,
    pub email: String,
    pub email_key: String,
    pub admin: bool,
    /// Turned off by an administrator, or past its deletion: it signs nobody in.
    pub disabled: bool,
    /// A sign-in from a browser it doesn't know is only worth a mail where there has been one before.
    pub signed_in_before: bool,
    /// It has an authenticator that was confirmed. One that was switched off after too many failures counts too: the account
    /// stays two-factor.
    pub two_factor: bool,
}

/// The account that a condition on `$1` finds, as it stands at `$2`.
macro_rules! account {
    ($condition:tt, $($argument:expr),+) => {
        sqlx::query_as!(
            Account,
            r#"
            select id, email, email_key, is_admin as admin, (disabled_at is not null or deletes_at <= $2) is true as "disabled!",
                   last_sign_in_at is not null as "signed_in_before!",
                   exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) as "two_factor!"
            from users u where "# + $condition,
            $($argument),+
        )
    };
}

pub(crate) async fn by_email(connection: &mut PgConnection, email_key: &str, now: OffsetDateTime) -> sqlx::Result<Option<Account>> {
    account!("email_key = $1", email_key, now).fetch_optional(connection).await
}

pub(crate) async fn by_id(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> sqlx::Result<Option<Account>> {
    account!("id = $1", id, now).fetch_optional(connection).await
}

/// The addresses of these accounts.
pub(crate) async fn addresses(connection: &mut PgConnection, users: &[Uuid]) -> sqlx::Result<HashMap<Uuid, String>> {
    let rows = sqlx::query!("select id, email from users where id = any($1)", users).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.email)).collect())
}

/// `None` where the address has an account.
pub(crate) async fn create(
    connection: &mut PgConnection,
    id: Uuid,
    email: &EmailAddress,
    admin: bool,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        r#"
        insert into users (id, email, email_key, is_admin, created_at) values ($1, $2, $3, $4, $5)
        on conflict (email_key) do nothing
        returning id
        "#,
        id,
        email.as_str(),
        email.key(),
        admin,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// `false` where the account has moved to another address since it was read: what proved the old one does not sign in to it.
pub(crate) async fn signed_in(connection: &mut PgConnection, account: &Account, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!("update users set last_sign_in_at = $3 where id = $1 and email_key = $2", account.id, account.email_key, now,)
        .changes(connection)
        .await
}

pub(super) async fn profile(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Profile>> {
    sqlx::query_as!(
        Profile,
        "select email, display_name, is_admin as admin, created_at, last_sign_in_at, deletes_at from users where id = $1",
        id,
    )
    .fetch_optional(pool)
    .await
}

/// `false` where that is its name already.
pub(crate) async fn set_name(connection: &mut PgConnection, id: Uuid, name: Option<&str>) -> sqlx::Result<bool> {
    sqlx::query!("update users set display_name = $2 where id = $1 and display_name is distinct from $2", id, name)
        .changes(connection)
        .await
}

/// Moves the account to another address. `false` where that one has an account; the transaction is then over.
pub(crate) async fn set_email(connection: &mut PgConnection, id: Uuid, email: &str, email_key: &str) -> sqlx::Result<bool> {
    match sqlx::query!("update users set email = $2, email_key = $3 where id = $1", id, email, email_key).execute(connection).await
    {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether no administrator would be left without this account. Those that count are on and stay; all of them are locked, in one
/// order and until the transaction ends, so of the last two that go at once one waits here and finds that it is the last.
/// To be asked before one is deleted, turned off or made an ordinary account, in the transaction that does it.
pub(crate) async fn is_last_admin(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        with staying as materialized (
            select id from users where is_admin and disabled_at is null and deletes_at is null
            order by id
            for no key update
        )
        select (count(*) = 1 and bool_and(id = $1)) is true as "last!" from staying
        "#,
        id,
    )
    .fetch_one(connection)
    .await
}

/// `false` where it is to be deleted already.
pub(crate) async fn schedule_deletion(connection: &mut PgConnection, id: Uuid, deletes_at: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!("update users set deletes_at = $2 where id = $1 and deletes_at is null", id, deletes_at).changes(connection).await
}

/// The account stays after all. `false` where it was not to be deleted, or its time is over.
pub(crate) async fn cancel_deletion(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!("update users set deletes_at = null where id = $1 and deletes_at > $2", id, now).changes(connection).await
}

/// Deletes accounts whose time is over, `batch` of them at most, and what belongs to their addresses. The last administrator's is
/// none of them, however it came to be due. What else is theirs goes with the row.
pub(crate) async fn delete_due(connection: &mut PgConnection, batch: i64, now: OffsetDateTime) -> sqlx::Result<Vec<Uuid>> {
    let gone = sqlx::query_scalar!(
        r#"
        select id from users u
        where deletes_at <= $1 and not (
            is_admin and disabled_at is null
            and not exists (select 1 from users o where o.id <> u.id and o.is_admin and o.disabled_at is null and o.deletes_at is null)
        )
        order by deletes_at, id
        limit $2
        for update
        "#,
        now,
        batch,
    )
    .fetch_all(&mut *connection)
    .await?;
    // Their addresses, now and before. One that belongs to somebody else by now is theirs.
    let addresses = sqlx::query_scalar!(
        r#"
        select email_key as "email_key!" from users where id = any($1)
        union
        select l.email_key from undo_links l
        where l.user_id = any($1) and not exists (select 1 from users u where u.email_key = l.email_key and u.id <> all($1))
        "#,
        &gone,
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!("delete from mail_outbox where user_id = any($1)", &gone).execute(&mut *connection).await?;
    // Their mails go with them.
    sqlx::query!("delete from magic_links where email_key = any($1)", &addresses).execute(&mut *connection).await?;
    sqlx::query!("delete from wrong_codes where email_key = any($1)", &addresses).execute(&mut *connection).await?;
    sqlx::query!("delete from invites where email_key = any($1)", &addresses).execute(&mut *connection).await?;
    sqlx::query!("delete from users where id = any($1)", &gone).execute(connection).await?;
    Ok(gone)
}

/// `false` where it is off already.
pub(crate) async fn disable(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!("update users set disabled_at = $2 where id = $1 and disabled_at is null", id, now).changes(connection).await
}

pub(crate) async fn enable(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query!("update users set disabled_at = null where id = $1 and disabled_at is not null", id).changes(connection).await
}

/// `false` where it is so already.
pub(crate) async fn set_admin(connection: &mut PgConnection, id: Uuid, admin: bool) -> sqlx::Result<bool> {
    sqlx::query!("update users set is_admin = $2 where id = $1 and is_admin <> $2", id, admin).changes(connection).await
}
