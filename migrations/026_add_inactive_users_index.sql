-- Accounts that are disabled or leaving are found among 10^5 without a look at the others.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- Not `concurrently`: that waits for every open transaction, and one of those may be the next instance's, which waits for sqlx's
-- lock around these migrations. To read 10^5 accounts once takes 30 ms.
create index if not exists users_inactive on users (email_key) where disabled_at is not null or deletes_at is not null;

-- It takes the place of `listed_users`, which the version before still reads: `status` is an expression, through which PostgreSQL
-- doesn't see, so this one also has the columns that the index knows.
create or replace view listed_accounts as
select u.id, u.email, u.email_key, u.is_admin, u.last_sign_in_at, null::timestamptz as expires_at,
       case when u.disabled_at is not null then 'disabled' when u.deletes_at is not null then 'leaving' else 'active' end as status,
       u.id in (select t.user_id from totp_credentials t where t.confirmed_at is not null) as two_factor,
       u.disabled_at, u.deletes_at
from users u
union all
select i.id, i.email, i.email_key, false, null, i.expires_at, 'invited', false, null, null
from invites i
where i.used_at is null and i.revoked_at is null and not exists (select 1 from users u where u.email_key = i.email_key);

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
