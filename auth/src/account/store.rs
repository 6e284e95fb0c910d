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
