-- Resets of two-factor that an administrator has asked for and that wait: for a time in which the account's owner can stop them, or for a
-- second administrator.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

create table if not exists two_factor_resets (
    user_id    uuid primary key references users (id) on delete cascade,
    -- The administrator. Not a foreign key: who asked is told also when their account is gone.
    asked_by   uuid not null,
    reason     text not null,
    asked_at   timestamptz not null,
    -- When it happens by itself. Null: when another administrator agrees.
    due_at     timestamptz,
    -- Nobody agreed until then: it was never asked for.
    expires_at timestamptz not null
);
create index if not exists two_factor_resets_due on two_factor_resets (due_at) where due_at is not null;

-- A link that stops one. Checked for new rows from here on; the old ones passed the narrower check.
-- Its place is taken by a wider one in the same transaction.
-- squawk-ignore ban-drop-constraint
alter table undo_links drop constraint if exists undo_links_kind_check;
alter table undo_links add constraint undo_links_kind_check
    check (kind in ('email_change', 'deletion', 'session', 'two_factor_reset')) not valid;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
