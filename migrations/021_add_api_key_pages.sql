-- What the pages and the reminder of API keys need. The table itself is 016's.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- `created_by` is null for a key made at the shell, and becomes so when the maker's account is deleted: only this tells them apart,
-- and with it whether the key has lost its maker's rights.
alter table api_keys add column if not exists by_admin boolean not null default false;
-- Its maker was told that it ends soon.
alter table api_keys add column if not exists reminded_at timestamptz;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
