-- Every table of the sign-in service. Additive, and idempotent: `psql -f` before or after `latchkey migrate` does no harm.
-- Times are always written by the application's clock, never by now(): two instances must agree, and tests move the clock.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

create table if not exists users (
    id              uuid primary key,
    -- As the person wrote it, for display and for sending.
    email           text not null,
    -- What makes two spellings one address: lower case, NFC, ASCII domain.
    email_key       text not null unique,
    display_name    text,
    is_admin        boolean not null default false,
    created_at      timestamptz not null,
    last_sign_in_at timestamptz,
    disabled_at     timestamptz
);

-- One row is one sign-in mail: its link, its code, one counter of wrong codes.
create table if not exists magic_links (
    id                 uuid primary key,
    email              text not null,
    email_key          text not null,
    -- Token and code are derived from this nonce with the key named beside it, so that nothing secret stands here.
    nonce              bytea not null check (octet_length(nonce) = 32),
    key_id             text not null,
    token_hash         bytea not null unique check (octet_length(token_hash) = 32),
    code_hash          bytea not null check (octet_length(code_hash) = 32),
    -- The browser that asked: only there link and code work.
    browser_hash       bytea not null check (octet_length(browser_hash) = 32),
    from_known_browser boolean not null,
    ip                 inet not null,
    user_agent         text not null,
    created_at         timestamptz not null,
    expires_at         timestamptz not null,
    attempts           smallint not null default 0,
    used               smallint not null default 0 check (used in (0, 1)),
    used_at            timestamptz,
    used_by            text check (used_by in ('link', 'code')),
    closed_at          timestamptz,
    closed_reason      text check (closed_reason in ('replaced', 'cancelled', 'crowded_out', 'signed_in')),
    check ((used = 1) = (used_at is not null)),
    check ((used = 1) = (used_by is not null)),
    check ((closed_at is null) = (closed_reason is null)),
    check (used = 0 or closed_at is null),
    check (expires_at <= created_at + interval '10 minutes')
);
create index if not exists magic_links_browser on magic_links (browser_hash, created_at desc);
create index if not exists magic_links_address on magic_links (email_key, created_at desc);
create index if not exists magic_links_created on magic_links (created_at);

create table if not exists sessions (
    id               uuid primary key,
    -- SHA-256 of the cookie's value, which itself is stored nowhere.
    token_hash       bytea not null unique check (octet_length(token_hash) = 32),
    -- A token made for the API never works as a cookie.
    audience         text not null check (audience in ('browser', 'api')),
    data             jsonb not null,
    -- Authority: null until a redeemed link or factor grants it, in the transaction that redeems.
    user_id          uuid references users (id) on delete cascade,
    level            text check (level in ('first_factor', 'email', 'two_factor')),
    method           text check (method in ('link', 'code')),
    magic_link_id    uuid,
    authenticated_at timestamptz,
    ip               inet,
    user_agent       text,
    created_at       timestamptz not null,
    last_seen_at     timestamptz not null,
    expires_at       timestamptz not null,
    revoked_at       timestamptz,
    revoke_reason    text,
    check ((user_id is null) = (level is null)),
    check ((user_id is null) = (authenticated_at is null)),
    check ((revoked_at is null) = (revoke_reason is null))
);
create index if not exists sessions_user on sessions (user_id, created_at desc) where user_id is not null;
create index if not exists sessions_expires on sessions (expires_at);

-- Browsers that have signed an account in before: strangers cannot use up their limits.
create table if not exists known_browsers (
    token_hash   bytea not null check (octet_length(token_hash) = 32),
    user_id      uuid not null references users (id) on delete cascade,
    created_at   timestamptz not null,
    last_used_at timestamptz not null,
    expires_at   timestamptz not null,
    primary key (token_hash, user_id)
);
create index if not exists known_browsers_user on known_browsers (user_id);

create table if not exists invites (
    id         uuid primary key,
    email      text not null,
    email_key  text not null,
    nonce      bytea not null check (octet_length(nonce) = 32),
    key_id     text not null,
    token_hash bytea not null unique check (octet_length(token_hash) = 32),
    invited_by uuid references users (id) on delete set null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at    timestamptz,
    revoked_at timestamptz
);
create index if not exists invites_address on invites (email_key);

create table if not exists totp_credentials (
    id           uuid primary key,
    user_id      uuid not null references users (id) on delete cascade,
    name         text not null,
    -- AES-256-GCM, bound to this table, column and row.
    secret       bytea not null,
    key_id       text not null,
    created_at   timestamptz not null,
    confirmed_at timestamptz,
    last_step    bigint,
    drift        smallint not null default 0 check (drift between -1 and 1),
    failures     integer not null default 0,
    last_used_at timestamptz,
    disabled_at  timestamptz
);
create index if not exists totp_credentials_user on totp_credentials (user_id);

create table if not exists backup_codes (
    id         uuid primary key,
    user_id    uuid not null references users (id) on delete cascade,
    set_id     uuid not null,
    selector   text not null,
    hash       text not null,
    created_at timestamptz not null,
    saved_at   timestamptz,
    used_at    timestamptz
);
create index if not exists backup_codes_user on backup_codes (user_id, selector);

create table if not exists trusted_devices (
    id           uuid primary key,
    user_id      uuid not null references users (id) on delete cascade,
    token_hash   bytea not null unique check (octet_length(token_hash) = 32),
    ip           inet,
    user_agent   text,
    created_at   timestamptz not null,
    last_used_at timestamptz not null,
    expires_at   timestamptz not null,
    revoked_at   timestamptz
);
create index if not exists trusted_devices_user on trusted_devices (user_id);

create table if not exists feature_flags (
    key              text primary key,
    allowed          text[] not null default '{}',
    percent_admins   smallint not null default 0 check (percent_admins between 0 and 100),
    percent_everyone smallint not null default 0 check (percent_everyone between 0 and 100),
    updated_at       timestamptz not null,
    updated_by       text not null,
    reason           text not null
);

create table if not exists api_keys (
    id           uuid primary key,
    name         text not null,
    prefix       text not null unique,
    key_hash     bytea not null unique check (octet_length(key_hash) = 32),
    scopes       text[] not null,
    created_by   uuid references users (id) on delete set null,
    created_at   timestamptz not null,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

-- GCRA: `tat` is the theoretical arrival time. The key is a keyed hash, so no address stands here.
create table if not exists rate_limits (
    name   text not null,
    key    bytea not null,
    tat    timestamptz not null,
    period interval not null,
    primary key (name, key)
) with (fillfactor = 70);
create index if not exists rate_limits_tat on rate_limits (tat);

-- A mail waiting, sent or given up. It holds ids only: what is secret in a mail is derived again when it is sent.
create table if not exists mail_outbox (
    id            uuid primary key,
    kind          text not null,
    magic_link_id uuid references magic_links (id) on delete cascade,
    invite_id     uuid references invites (id) on delete cascade,
    state         text not null default 'queued' check (state in ('queued', 'sent', 'failed', 'expired')),
    created_at    timestamptz not null,
    run_at        timestamptz not null,
    deadline      timestamptz not null,
    attempts      integer not null default 0,
    lease_until   timestamptz,
    leased_by     uuid,
    settled_at    timestamptz,
    last_error    text
) with (fillfactor = 70);
-- The lease stays unindexed, so that a claim can be a heap-only update.
-- Not where 019 has put another in its place.
do $$
begin
    if to_regclass('mail_outbox_waiting') is null then
        create index if not exists mail_outbox_queued on mail_outbox (run_at) where state = 'queued';
    end if;
end
$$;
create index if not exists mail_outbox_settled on mail_outbox (settled_at) where state <> 'queued';
create index if not exists mail_outbox_magic_link on mail_outbox (magic_link_id);

-- One row a scheduled task: whoever moves `last_slot` forward runs the task.
create table if not exists scheduled_tasks (
    name      text primary key,
    last_slot timestamptz not null
);

-- Append-only, by grant (the application's role may INSERT and SELECT) and by trigger (nobody may change a row).
-- Partitions are months, so that retention drops a table instead of deleting rows.
create table if not exists auth_audit (
    id         uuid not null,
    created_at timestamptz not null,
    event_type text not null,
    user_id    uuid,
    actor_id   uuid,
    ip         inet,
    user_agent text,
    request_id text,
    details    jsonb not null default '{}',
    primary key (created_at, id)
) partition by range (created_at);
-- Not where 018 has put another in its place.
do $$
begin
    if to_regclass('auth_audit_user_type') is null then
        create index if not exists auth_audit_user on auth_audit (user_id, created_at desc) where user_id is not null;
    end if;
end
$$;
create index if not exists auth_audit_type on auth_audit (event_type, created_at desc);
-- Catches what no month was made for, so that an audit row is never refused for want of a partition.
create table if not exists auth_audit_default partition of auth_audit default;

create or replace function auth_audit_is_append_only() returns trigger
    language plpgsql
    set search_path = pg_catalog
    as $$
begin
    raise exception 'auth_audit is append-only' using errcode = 'insufficient_privilege';
end
$$;

do $$
begin
    if not exists (select 1 from pg_trigger where tgname = 'auth_audit_no_change' and tgrelid = 'auth_audit'::regclass) then
        create trigger auth_audit_no_change before update or delete on auth_audit
            for each row execute function auth_audit_is_append_only();
    end if;
    if not exists (select 1 from pg_trigger where tgname = 'auth_audit_no_truncate' and tgrelid = 'auth_audit'::regclass) then
        create trigger auth_audit_no_truncate before truncate on auth_audit
            for each statement execute function auth_audit_is_append_only();
    end if;
end
$$;

-- Makes the partition of the month that holds `at`, for the application's role, which may not create tables.
-- A month that already has rows in the default partition stays there: moving them would be an update.
-- Not where there is one: a later migration's knows more, and this file may be applied alone after it.
do $$
begin
    if to_regprocedure('auth_audit_make_partition(timestamptz)') is null then
create function auth_audit_make_partition(at timestamptz) returns void
    language plpgsql
    security definer
    set search_path = public, pg_temp
    as $function$
declare
    first timestamptz := date_trunc('month', at, 'UTC');
    past  timestamptz := date_trunc('month', at, 'UTC') + interval '1 month';
    name  text := 'auth_audit_' || to_char(first at time zone 'UTC', 'YYYYMM');
begin
    if to_regclass(name) is null
        and not exists (select 1 from auth_audit_default where created_at >= first and created_at < past)
    then
        execute format('create table if not exists %I partition of auth_audit for values from (%L) to (%L)', name, first, past);
    end if;
end
$function$;
    end if;
end
$$;
revoke all on function auth_audit_make_partition(timestamptz) from public;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
