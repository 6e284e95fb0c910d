use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::email_address::EmailAddress;

pub(crate) struct Account {
    pub id: Uuid,
    pub email: String,
    pub email_key: String,
    /// Turned off by an administrator, or past its deletion: it signs nobody in.
    pub disabled: bool,
    /// A sign-in from a browser it doesn't know is only worth a mail where there has been one before.
    pub signed_in_before: bool,
    /// It has an authenticator that was confirmed. One that was switched off after too many failures counts too: the account
    /// stays two-factor.
    pub two_factor: bool,
}

pub(crate) async fn by_email(
    connection: &mut PgConnection,
    email_key: &str,
    now: OffsetDateTime,
) -> Result<Option<Account>, sqlx::Error> {
    sqlx::query_as!(
        Account,
        r#"
        select id, email, email_key, (disabled_at is not null or deletes_at <= $2) is true as "disabled!",
               last_sign_in_at is not null as "signed_in_before!",
               exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) as "two_factor!"
        from users u where email_key = $1
        "#,
        email_key,
        now,
    )
    .fetch_optional(connection)
    .await
}

pub(crate) async fn by_id(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> Result<Option<Account>, sqlx::Error> {
    sqlx::query_as!(
        Account,
        r#"
        select id, email, email_key, (disabled_at is not null or deletes_at <= $2) is true as "disabled!",
               last_sign_in_at is not null as "signed_in_before!",
               exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) as "two_factor!"
        from users u where id = $1
        "#,
        id,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// `None` where the address has an account.
pub(crate) async fn create(
    connection: &mut PgConnection,
    id: Uuid,
    email: &EmailAddress,
    admin: bool,
    now: OffsetDateTime,
) -> Result<Option<Uuid>, sqlx::Error> {
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

pub(crate) async fn signed_in(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!("update users set last_sign_in_at = $2 where id = $1", id, now).execute(connection).await?;
    Ok(())
}

/// What an administrator may have changed.
pub(crate) struct State {
    pub admin: bool,
    pub disabled: bool,
}

pub(crate) async fn state(connection: &mut PgConnection, id: Uuid) -> Result<Option<State>, sqlx::Error> {
    sqlx::query_as!(State, r#"select is_admin as admin, disabled_at is not null as "disabled!" from users where id = $1"#, id)
        .fetch_optional(connection)
        .await
}

/// `false` where it is off already, or the last administrator's. All administrators' rows are locked in one order first: two that
/// are turned off at once each find the other still there otherwise, and none would be left.
pub(crate) async fn disable(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let disabled = sqlx::query!(
        r#"
        with admins as materialized (
            select id from users where is_admin and disabled_at is null and deletes_at is null order by id for update
        )
        update users set disabled_at = $2
        where id = $1 and disabled_at is null
            and (not exists (select 1 from admins where id = $1) or exists (select 1 from admins where id <> $1))
        "#,
        id,
        now,
    )
    .execute(connection)
    .await?;
    Ok(disabled.rows_affected() == 1)
}

pub(crate) async fn enable(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let enabled = sqlx::query!("update users set disabled_at = null where id = $1 and disabled_at is not null", id)
        .execute(connection)
        .await?;
    Ok(enabled.rows_affected() == 1)
}

pub(crate) async fn make_admin(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let made = sqlx::query!("update users set is_admin = true where id = $1 and not is_admin", id).execute(connection).await?;
    Ok(made.rows_affected() == 1)
}

/// As [`disable`]: never the last.
pub(crate) async fn unmake_admin(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let unmade = sqlx::query!(
        r#"
        with admins as materialized (
            select id from users where is_admin and disabled_at is null and deletes_at is null order by id for update
        )
        update users set is_admin = false
        where id = $1 and is_admin
            and (not exists (select 1 from admins where id = $1) or exists (select 1 from admins where id <> $1))
        "#,
        id,
    )
    .execute(connection)
    .await?;
    Ok(unmade.rows_affected() == 1)
}
