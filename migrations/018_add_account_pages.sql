-- The account's own pages, and administration: address changes, deletion, undo links.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

alter table users
    -- When the account goes; null: it stays. Decided at use: from then on it signs nobody in, whenever its row is deleted.
    add column if not exists deletes_at timestamptz;
create index if not exists users_deletes on users (deletes_at) where deletes_at is not null;
-- A handful among 10^5, looked for whenever one of them might be the last.
create index if not exists users_admins on users (id) where is_admin;

-- Signed in by a browser that the account did not know.
alter table sessions add column if not exists new_device boolean not null default false;

-- Who signs in all day long leaves 10^5 ended sessions behind, which a list of the live ones must not read. Without `last_seen_at`,
-- which moves each minute and would drag the index along.
create index if not exists sessions_live on sessions (user_id, expires_at) where user_id is not null and revoked_at is null;

-- Another address for an account, until its code is typed. The code belongs to one session and to this address.
create table if not exists email_changes (
    id         uuid primary key,
    session_id uuid not null references sessions (id) on delete cascade,
    user_id    uuid not null references users (id) on delete cascade,
    email      text not null,
    email_key  text not null,
    nonce      bytea not null check (octet_length(nonce) = 32),
    key_id     text not null,
    code_hash  bytea not null check (octet_length(code_hash) = 32),
    ip         inet not null,
    user_agent text not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    attempts   smallint not null default 0,
    used_at    timestamptz,
    check (expires_at <= created_at + interval '10 minutes')
);
create index if not exists email_changes_session on email_changes (session_id, created_at desc);
create index if not exists email_changes_created on email_changes (created_at);

-- A link in a mail that takes something back: a change of address, a deletion, a sign-in. It signs nobody in.
create table if not exists undo_links (
    id         uuid primary key,
    user_id    uuid not null references users (id) on delete cascade,
    kind       text not null check (kind in ('email_change', 'deletion', 'session')),
    -- Where its mail goes. For a change of address: the old one, to which it goes back.
    email      text not null,
    email_key  text not null,
    -- For a sign-in: the session it ends.
    session_id uuid references sessions (id) on delete cascade,
    nonce      bytea not null check (octet_length(nonce) = 32),
    key_id     text not null,
    token_hash bytea not null unique check (octet_length(token_hash) = 32),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at    timestamptz,
    -- Overtaken: an earlier change was taken back, and this one with it.
    closed_at  timestamptz,
    check ((kind = 'session') = (session_id is not null))
);
create index if not exists undo_links_user on undo_links (user_id, created_at);
-- Whoever lost an address to a change can have it back, so meanwhile nobody else signs up with it.
create index if not exists undo_links_address on undo_links (email_key) where kind = 'email_change';
create index if not exists undo_links_expires on undo_links (expires_at);
-- Housekeeping deletes sessions by the thousand, and each asks for its links: without this all links were read for every one.
create index if not exists undo_links_session on undo_links (session_id) where session_id is not null;

alter table mail_outbox
    add column if not exists email_change_id uuid,
    add column if not exists undo_link_id uuid;
-- "Have we told them of this within the hour?"
create index if not exists mail_outbox_user on mail_outbox (user_id, created_at) where user_id is not null;

-- "What happened to this account, of these kinds, newest first": each kind's newest rows stand side by side, so a page costs the same
-- for an account with ten rows and with 10^5. It takes the place of an index by user and time, which no release has asked: with
-- that one, a kind that is rare was looked for in everything.
-- PostgreSQL builds no index of a partitioned table concurrently, and meanwhile nobody signs in. Where the log has more than a
-- million rows, build it before: `create index … on only auth_audit …` under this name, one `concurrently` for each partition,
-- `alter index … attach partition`. This then finds it made.
create index if not exists auth_audit_user_type on auth_audit (user_id, event_type, created_at desc, id desc) where user_id is not null;
-- squawk-ignore require-concurrent-index-deletion
drop index if exists auth_audit_user;

-- Accounts and open invitations in one list, as administrators see it. What state an account is in is said here once: the page, its
-- other direction and the count must not differ. `expires_at` is an invitation's, and null for an account.
-- `in`, not `exists`: the one is looked up in a hash table, the other asks the index again for each of 10^5 accounts.
create or replace view listed_users as
select u.id, u.email, u.email_key, u.is_admin, u.last_sign_in_at, null::timestamptz as expires_at,
       case when u.disabled_at is not null then 'disabled' when u.deletes_at is not null then 'leaving' else 'active' end as status,
       u.id in (select t.user_id from totp_credentials t where t.confirmed_at is not null) as two_factor
from users u
union all
select i.id, i.email, i.email_key, false, null, i.expires_at, 'invited', false
from invites i
where i.used_at is null and i.revoked_at is null and not exists (select 1 from users u where u.email_key = i.email_key);

-- Drops the months of the audit that end before `before`, for the application's role, which may not drop tables. What is younger
-- than 300 days by the database's own clock stays whatever is asked: a mistaken clock must not cost the log.
create or replace function auth_audit_drop_partitions(before timestamptz) returns integer
    language plpgsql
    security definer
    set search_path = public, pg_temp
    as $$
declare
    past    timestamptz := least(before, clock_timestamp() - interval '300 days');
    month   record;
    dropped integer := 0;
begin
    for month in
        select c.relname as name
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'public.auth_audit'::regclass and c.relname ~ '^auth_audit_[0-9]{6}$'
            and (to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month') at time zone 'UTC' <= past
    loop
        execute format('drop table %I', month.name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;
revoke all on function auth_audit_drop_partitions(timestamptz) from public;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
