-- The audit is sealed: batches of its rows are hashed, each batch with the one before it, so that what is changed, removed or put in
-- afterwards shows (docs/audit.md).
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- In which order rows are sealed. A sequence, not transaction ids: those start anew where a dump is restored. It caches nothing, or a
-- session could hand out a number long after greater ones were sealed.
create sequence if not exists auth_audit_positions as bigint cache 1;
-- A row is numbered by whoever inserts it, and the version before does so too; this file doesn't know its role.
grant usage on sequence auth_audit_positions to public;

-- 0: the row is older than this column. A constant default rewrites nothing, whatever the size of the log.
alter table auth_audit add column if not exists position bigint not null default 0;
alter table auth_audit alter column position set default nextval('auth_audit_positions');
-- PostgreSQL builds no index of a partitioned table concurrently, and meanwhile nobody signs in. Where the log has more than a
-- million rows, add the column and build these before, as 018 says of its own.
create index if not exists auth_audit_position on auth_audit (position);
-- The newest of a kind of event: `auth_audit_type` lacks the id, without which it doesn't give the order.
create index if not exists auth_audit_kind on auth_audit (event_type, created_at desc, id desc);
-- "What did this address do, newest first", which whoever looks into an attack asks. "Whom did this administrator act on": rare rows.
create index if not exists auth_audit_ip on auth_audit (ip, created_at desc, id desc) where ip is not null;
create index if not exists auth_audit_actor on auth_audit (actor_id, created_at desc, id desc) where actor_id is not null;

-- One batch: rows of one month, so that a month can go without leaving half a batch behind.
create table if not exists auth_audit_seals (
    number       bigint primary key,
    -- 'dropped': the month's rows are gone because their time was over. From then on they are not looked for.
    kind         text not null check (kind in ('rows', 'dropped')),
    month        date not null,
    -- The batch holds its month's rows from where the batches before it end up to here. Batches that end at one place were made together.
    to_position  bigint not null,
    -- Among rows of position 0: the last one's. Null above them.
    to_at        timestamptz,
    to_id        uuid,
    rows         bigint not null,
    first_at     timestamptz,
    last_at      timestamptz,
    -- SHA-256 of the rows' SHA-256.
    rows_hash    bytea not null check (octet_length(rows_hash) = 32),
    -- The first 8 bytes of each row's, to tell which one is not as it was. They prove nothing.
    fingerprints bytea not null,
    sealed_at    timestamptz not null,
    -- SHA-256 of all of the above and of the batch before.
    hash         bytea not null check (octet_length(hash) = 32),
    -- HMAC of `hash` under this key: who can write to the database can make a chain, but not this.
    key_id       text not null,
    mac          bytea not null check (octet_length(mac) = 32),
    check ((to_at is null) = (to_id is null))
);
create index if not exists auth_audit_seals_dropped on auth_audit_seals (month) where kind = 'dropped';

do $$
begin
    if not exists (select 1 from pg_trigger where tgname = 'auth_audit_seals_no_change' and tgrelid = 'auth_audit_seals'::regclass) then
        create trigger auth_audit_seals_no_change before update or delete on auth_audit_seals
            for each row execute function auth_audit_is_append_only();
    end if;
    if not exists (select 1 from pg_trigger where tgname = 'auth_audit_seals_no_truncate' and tgrelid = 'auth_audit_seals'::regclass) then
        create trigger auth_audit_seals_no_truncate before truncate on auth_audit_seals
            for each statement execute function auth_audit_is_append_only();
    end if;
end
$$;

-- What the last scheduled verification said: one row.
create table if not exists audit_verification (
    one      boolean primary key default true check (one),
    at       timestamptz not null,
    head     bigint not null,
    rows     bigint not null,
    -- How many of each kind.
    findings jsonb not null
);

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
