-- The guarded rollout, and the counts by the minute that it watches.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- What happened in each minute, on all instances together: events of the audit by type and reason, answers by kind.
create table if not exists minute_counts (
    minute timestamptz not null,
    name   text not null,
    value  bigint not null,
    primary key (name, minute)
);
-- "All names of the last hour", asked twice a minute, and what is too old.
create index if not exists minute_counts_minute on minute_counts (minute);

-- A plan that raises a flag step by step. One that has not ended is the only one of its flag.
create table if not exists rollouts (
    id            uuid primary key,
    flag          text not null,
    state         text not null check (state in ('running', 'held', 'paused', 'finished', 'aborted', 'rolled_back')),
    -- [{"to": "named" | {"admins": 5} | {"everyone": 25}, "soak_hours": 72}, …]
    plan          jsonb not null,
    -- The step it stands at, from 0.
    step          smallint not null,
    -- Where it was held meanwhile, as much later as it was held: that time is no soak.
    step_since    timestamptz not null,
    -- While held or paused.
    stopped_since timestamptz,
    -- What holds it, paused it or ended it: a check's name, or an operator's words.
    why           text,
    -- While held: since when no check is over its limit.
    clear_since   timestamptz,
    started_at    timestamptz not null,
    started_by    text not null,
    ended_at      timestamptz,
    check ((state in ('finished', 'aborted', 'rolled_back')) = (ended_at is not null)),
    check ((state in ('held', 'paused')) = (stopped_since is not null))
);
create unique index if not exists rollouts_active on rollouts (flag) where ended_at is null;
create index if not exists rollouts_started on rollouts (flag, started_at desc);

-- What each check said last. How long it is over its limit outlives the process that looked.
create table if not exists rollout_checks (
    name       text primary key,
    -- Null: there is no data.
    value      double precision,
    over_since timestamptz,
    checked_at timestamptz not null
);

-- The last try failed at the mail server, not at the recipient.
alter table mail_outbox add column if not exists server_failed boolean not null default false;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
