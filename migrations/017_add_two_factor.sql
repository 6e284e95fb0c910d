-- Two-factor. 016 made the tables; this adds what their rules turned out to need.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

alter table totp_credentials
    -- No code is looked at before, in browsers the account doesn't know: the wait after wrong ones, which grows.
    add column if not exists blocked_until timestamptz,
    -- A step whose code came before its time. It was refused, and stays refused when its time comes: who guessed it and was
    -- told that a clock is fast gains nothing.
    add column if not exists early_step bigint;

alter table sessions
    -- `totp`, `backup_code` or `trusted_device`; null where the account has one factor.
    add column if not exists second_method text,
    -- When the account's strongest factor was last given in this session. Null: never (a trusted device gave it for us).
    add column if not exists verified_at timestamptz;

-- Consecutive wrong authenticator codes of this browser. After too many it counts as one the account doesn't know.
alter table known_browsers add column if not exists failures integer not null default 0;

-- A code by mail for someone signed in who wants to change something. It belongs to one session and signs nobody in.
create table if not exists step_up_codes (
    id         uuid primary key,
    session_id uuid not null references sessions (id) on delete cascade,
    user_id    uuid not null references users (id) on delete cascade,
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
create index if not exists step_up_codes_session on step_up_codes (session_id, created_at desc);
create index if not exists step_up_codes_created on step_up_codes (created_at);

alter table mail_outbox
    -- Whom a notice is for. No foreign key: a row goes with housekeeping, and a notice of someone who is gone is not sent.
    add column if not exists user_id uuid,
    add column if not exists step_up_code_id uuid,
    -- What a notice says: a device, an address on the network, a count. Nothing secret.
    add column if not exists details jsonb;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
