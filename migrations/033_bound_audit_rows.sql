-- Whoever has the application's role could add a row that fills a server's memory when it is read, and end sealing by it (docs/audit.md).
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- Not validated, which would read the whole log under the lock; it holds for new rows. No server writes a row of 4 KiB, nor did the
-- version before.
do $$
begin
    if not exists (select 1 from pg_constraint where conname = 'auth_audit_size_check' and conrelid = 'auth_audit'::regclass) then
        alter table auth_audit add constraint auth_audit_size_check check (
            octet_length(event_type) + coalesce(octet_length(user_agent), 0) + coalesce(octet_length(request_id), 0)
                + octet_length(details::text) <= 65536
        ) not valid;
    end if;
end
$$;

-- The key vouches for what the last verification said, or whoever has the application's role could say it. Null: the version before said it.
alter table audit_verification
    add column if not exists key_id text,
    add column if not exists mac bytea;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
