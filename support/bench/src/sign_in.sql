-- One sign-in by link, as the product's statements do it with the limits off: asking, sending, opening, confirming, the account
-- page. The first line makes what the product makes outside the database; it is the one query more.
select 'pgbench' || :client_id || '@example.org' as email, gen_random_uuid()::text as link, gen_random_uuid()::text as mail, gen_random_uuid()::text as visitor, gen_random_uuid()::text as session, encode(sha256(gen_random_uuid()::text::bytea), 'hex') as token, encode(sha256(gen_random_uuid()::text::bytea), 'hex') as browser, encode(sha256(gen_random_uuid()::text::bytea), 'hex') as old, encode(sha256(gen_random_uuid()::text::bytea), 'hex') as fresh \gset

-- POST /login
begin;
with replaced as (update magic_links set closed_at = now(), closed_reason = 'replaced' where browser_hash = decode(:browser, 'hex') and used = 0 and closed_at is null and expires_at > now()), crowded_out as (update magic_links set closed_at = now(), closed_reason = 'crowded_out' where id in (select id from magic_links where email_key = :email and browser_hash <> decode(:browser, 'hex') and not from_known_browser and used = 0 and closed_at is null and expires_at > now() order by created_at desc offset 9)) insert into magic_links (id, email, email_key, nonce, key_id, token_hash, code_hash, browser_hash, from_known_browser, ip, user_agent, created_at, expires_at) values (:link::uuid, :email, :email, decode(:token, 'hex'), 'bench', decode(:token, 'hex'), decode(:token, 'hex'), decode(:browser, 'hex'), false, '127.0.0.1', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0', now(), now() + interval '10 minutes');
insert into mail_outbox (id, kind, magic_link_id, created_at, run_at, deadline) values (:mail::uuid, 'sign_in', :link::uuid, now(), now(), now() + interval '10 minutes');
insert into auth_audit (id, created_at, event_type, ip, user_agent, request_id, details) values (gen_random_uuid(), now(), 'link.requested', '127.0.0.1', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0', :mail, jsonb_build_object('link', :link::text, 'known_browser', false));
commit;
insert into sessions (id, token_hash, audience, data, created_at, last_seen_at, expires_at) values (:visitor::uuid, decode(:old, 'hex'), 'browser', jsonb_build_object('visit', :browser::text), now(), now(), now() + interval '1 hour') on conflict (token_hash) do nothing;

-- The mail
with due as materialized (select id from mail_outbox where id = :mail::uuid and state = 'queued' and run_at <= now() and (lease_until is null or lease_until < now()) order by run_at limit 8 for update skip locked) update mail_outbox m set attempts = m.attempts + 1, lease_until = now() + interval '15 seconds', leased_by = m.id from due where m.id = due.id returning m.id, m.magic_link_id, m.attempts;
select * from magic_links where id = :link::uuid;
select id, disabled_at is not null, exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) from users u where email_key = :email;
begin;
update mail_outbox set state = 'sent', settled_at = now(), lease_until = null, leased_by = null where id = :mail::uuid and attempts = 1 and state = 'queued';
insert into auth_audit (id, created_at, event_type, details) values (gen_random_uuid(), now(), 'mail.sent', jsonb_build_object('mail', :mail::text, 'kind', 'sign_in'));
commit;

-- GET /login/confirm
select s.*, u.email, u.is_admin from sessions s left join users u on u.id = s.user_id where s.token_hash = decode(:old, 'hex') and s.audience = 'browser' and s.revoked_at is null and s.expires_at > now();
select * from magic_links where token_hash = decode(:token, 'hex');

-- POST /login/confirm
select s.*, u.email, u.is_admin from sessions s left join users u on u.id = s.user_id where s.token_hash = decode(:old, 'hex') and s.audience = 'browser' and s.revoked_at is null and s.expires_at > now();
select * from magic_links where token_hash = decode(:token, 'hex');
begin;
with live as materialized (select id from magic_links where email_key = :email and used = 0 and closed_at is null and expires_at > now() order by id for update), consumed as (update magic_links m set used = 1, used_at = now(), used_by = 'link' from live where m.id = live.id and m.id = :link::uuid and m.used = 0 returning m.id), closed as (update magic_links m set closed_at = now(), closed_reason = 'signed_in' from live where m.id = live.id and m.id <> :link::uuid and m.used = 0 and exists (select 1 from consumed)) select count(*) from consumed;
select id, disabled_at is not null, exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) from users u where email_key = :email;
insert into users (id, email, email_key, created_at) values (:session::uuid, :email, :email, now()) on conflict (email_key) do nothing;
insert into sessions (id, token_hash, audience, data, user_id, level, method, magic_link_id, ip, user_agent, authenticated_at, created_at, last_seen_at, expires_at) select :session::uuid, decode(:fresh, 'hex'), 'browser', jsonb_build_object('visit', :browser::text), id, 'email', 'link', :link::uuid, '127.0.0.1', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0', now(), now(), now(), now() + interval '30 days' from users where email_key = :email;
update sessions set revoked_at = now(), revoke_reason = 'replaced' where token_hash = decode(:old, 'hex') and user_id is not null and revoked_at is null;
delete from sessions where token_hash = decode(:old, 'hex') and user_id is null;
update users set last_sign_in_at = now() where email_key = :email;
insert into known_browsers (token_hash, user_id, created_at, last_used_at, expires_at) select decode(:browser, 'hex'), id, now(), now(), now() + interval '1 year' from users where email_key = :email on conflict (token_hash, user_id) do update set last_used_at = excluded.last_used_at, expires_at = excluded.expires_at;
insert into auth_audit (id, created_at, event_type, ip, user_agent, request_id, details) select gen_random_uuid(), now(), event_type, '127.0.0.1', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0', :mail, jsonb_build_object('link', :link::text, 'method', 'link') from unnest(array['link.redeemed', 'session.created']) as happened (event_type);
commit;

-- GET /account
select s.*, u.email, u.is_admin from sessions s left join users u on u.id = s.user_id where s.token_hash = decode(:fresh, 'hex') and s.audience = 'browser' and s.revoked_at is null and s.expires_at > now();
