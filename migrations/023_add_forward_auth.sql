-- Forward-auth: what a browser shows to a proxy that guards another host.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- One for each session, so that a new one replaces the one before. It holds no authority: that is the session's, at each use.
create table if not exists forward_auth_tokens (
    session_id uuid primary key references sessions (id) on delete cascade,
    -- SHA-256 of the cookie's value, which itself is stored nowhere.
    token_hash bytea not null unique check (octet_length(token_hash) = 32),
    -- What the session had proven when it was made. It never counts for more, whatever the session proves later: an application
    -- that kept the cookie must not be lifted with its owner.
    level      text not null check (level in ('email', 'two_factor')),
    created_at timestamptz not null
);

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
