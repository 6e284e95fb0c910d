//! Two-factor on a real database, with the clock moved, and raced over two servers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use auth::{
    Auth,
    administration::{Reset, ThrottledBy},
    crypto::{Code, Keys, KnownBrowserToken, RevertToken, TrustedDeviceToken, random},
    delivery::Content,
    factors::{
        backup_code::BackupCode,
        totp::{Secret, step},
    },
    flag::{Change, Of, PASSWORDLESS_AUTH, bucket},
    identity::{ActionError, Actor, Authority, Level},
    one_time::{Dead, mailed_code::MailedCodeError, revert_link::Revert},
    outbox::Notice,
    policy::{
        Policy, RequireTwoFactor, ResetTwoFactor, SignUp,
        limits::{Limit, Limits},
    },
    primitives::email_address::EmailAddress,
    self_service::{
        revert::{RevertError, RevertState, Reverted},
        two_factor::{ChangeError, NewBackupCodes},
    },
    sign_in::{
        first_factor::Outcome,
        second_factor::{Factor, PendingSignIn, SecondFactorError, SignedIn},
        step_up::{SendCodeError, StepUpError, StepUpSession},
    },
};
use futures::future::join_all;
use testkit::{Kit, TEST_KEY, Visitor, address, handover, why};
use time::Duration as Span;

fn mara() -> EmailAddress {
    address("mara@example.org")
}

fn fresh() -> auth::crypto::SessionKey {
    handover().fresh
}

/// The code of the step that is `offset` steps from now.
fn code(kit: &Kit, secret: &Secret, offset: i64) -> Code {
    secret.code(step(kit.auth.now()) + offset)
}

/// Six digits that no step near now has.
fn wrong_code(kit: &Kit, secret: &Secret) -> Code {
    let near: HashSet<String> = (-25..=25).map(|offset| code(kit, secret, offset).reveal()).collect();
    let free = (0..100).map(|n| Code::parse(&format!("{n:06}")).expect("six digits")).find(|code| !near.contains(&code.reveal()));
    free.expect("a million is more than fifty")
}

/// Waits for a code nobody has used.
fn next_step(kit: &Kit) {
    kit.clock.advance(Span::seconds(30));
}

async fn signed_in(kit: &Kit, email: &EmailAddress) -> Visitor {
    let mut visitor = Visitor::at([203, 0, 113, 24]);
    let outcome = visitor.give_first_factor(kit, email).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    visitor
}

async fn authority(kit: &Kit, visitor: &Visitor) -> Authority {
    visitor.authority(&kit.auth).await.expect("signed in")
}

/// Does something with a session that renews it.
macro_rules! stepping {
    ($kit:expr, $visitor:expr, |$stepping:ident| $work:expr) => {{
        let authority = authority($kit, $visitor).await;
        let new = fresh();
        let $stepping = StepUpSession { authority: &authority, old: $visitor.session.expect("a session"), fresh: new };
        let result = $work.await;
        if result.is_ok() {
            $visitor.session = Some(new);
        }
        result
    }};
}

async fn begin(kit: &Kit, visitor: &Visitor) -> Secret {
    let authority = authority(kit, visitor).await;
    kit.auth.self_service().start_two_factor_setup(&authority, &visitor.from).await.expect("may be set up");
    kit.auth.self_service().two_factor_setup(&authority).await.expect("the database answers").expect("a set-up is under way")
}

/// Turns two-factor on, with the codes not saved yet.
async fn enrol(kit: &Kit, visitor: &mut Visitor) -> (Secret, NewBackupCodes) {
    let secret = begin(kit, visitor).await;
    let first = code(kit, &secret, 0);
    let codes = stepping!(kit, visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &first,
        "Phone",
        &visitor.from
    ));
    (secret, codes.expect("the code is right").expect("the first app comes with codes"))
}

/// An owner with two-factor and saved codes, signed in.
async fn owner(kit: &Kit) -> (Visitor, Secret, Vec<BackupCode>) {
    let mut visitor = signed_in(kit, &mara()).await;
    let (secret, codes) = enrol(kit, &mut visitor).await;
    let authority = authority(kit, &visitor).await;
    kit.auth.self_service().save_backup_codes(&authority, codes.set, &visitor.from).await.expect("saved");
    kit.letters().await;
    next_step(kit);
    (visitor, secret, codes.codes)
}

/// A browser that has given the first factor of the owner's account and knows nothing else.
async fn half_signed_in(kit: &Kit) -> Visitor {
    let mut visitor = Visitor::at([198, 51, 100, 7]);
    let outcome = visitor.give_first_factor(kit, &mara()).await;
    assert!(matches!(outcome, Outcome::SecondFactorNeeded), "{outcome:?}");
    visitor
}

async fn enter_totp_at(
    auth: &Auth,
    visitor: &mut Visitor,
    user: uuid::Uuid,
    code: &Code,
    trust: bool,
) -> Result<SignedIn, SecondFactorError> {
    let new = handover();
    let half = visitor.session.expect("a session");
    let result = auth
        .sign_in()
        .enter_second_factor(PendingSignIn { half, user, handover: &new }, Factor::App(code), trust, visitor.proof(), &visitor.from)
        .await;
    if let Ok(signed_in) = &result {
        visitor.session = Some(new.fresh);
        visitor.known = Some(signed_in.known_browser.clone());
        visitor.trusted.clone_from(&signed_in.trusted_device);
    }
    result
}

async fn enter_totp(kit: &Kit, visitor: &mut Visitor, code: &Code) -> Result<SignedIn, SecondFactorError> {
    let user = authority(kit, visitor).await.user;
    enter_totp_at(&kit.auth, visitor, user, code, false).await
}

async fn enter_backup(kit: &Kit, visitor: &mut Visitor, code: &BackupCode) -> Result<SignedIn, SecondFactorError> {
    let user = authority(kit, visitor).await.user;
    let new = handover();
    let half = visitor.session.expect("a session");
    let result = kit
        .auth
        .sign_in()
        .enter_second_factor(
            PendingSignIn { half, user, handover: &new },
            Factor::BackupCode(code),
            false,
            visitor.proof(),
            &visitor.from,
        )
        .await;
    if result.is_ok() {
        visitor.session = Some(new.fresh);
    }
    result
}

/// What the owner was told since the last look, but of the new browsers that these tests sign in with: tests/account.rs has those.
async fn notices(kit: &Kit) -> Vec<Notice> {
    let letters = kit.letters().await;
    letters
        .into_iter()
        .filter_map(|letter| if let Content::Notice { notice, .. } = letter.content { Some(notice) } else { None })
        .filter(|notice| !matches!(notice, Notice::NewSignIn { .. }))
        .collect()
}

async fn events(kit: &Kit, name: &str) -> i64 {
    sqlx::query_scalar("select count(*) from auth_audit where event_type = $1")
        .bind(name)
        .fetch_one(&kit.pool)
        .await
        .expect("a count")
}

async fn unlimited() -> Kit {
    let limits = Limits::off();
    Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, limits, ..Policy::default() }).await
}

// Setting up

#[tokio::test]
async fn the_first_code_turns_it_on_and_is_burnt() {
    let kit = Kit::new().await;
    let mut elsewhere = signed_in(&kit, &mara()).await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let before = visitor.session;
    let (secret, codes) = enrol(&kit, &mut visitor).await;
    assert_eq!(codes.codes.len(), 10);

    let authority = authority(&kit, &visitor).await;
    assert_eq!((authority.level, authority.two_factor), (Level::TwoFactor, true));
    assert!(kit.auth.sessions().load(before.expect("a session")).await.expect("answers").is_none(), "the session's old id is dead");
    assert!(elsewhere.authority(&kit.auth).await.is_none(), "the other session is over");
    assert_eq!(notices(&kit).await, [Notice::TwoFactorOn]);

    let outcome = elsewhere.give_first_factor(&kit, &mara()).await;
    assert!(matches!(outcome, Outcome::SecondFactorNeeded));
    // The clock stands minutes later by now; go back to the code that turned it on.
    kit.clock.advance(-Span::minutes(6));
    let setup_code = code(&kit, &secret, 0);
    let again = enter_totp(&kit, &mut elsewhere, &setup_code).await;
    assert!(matches!(again, Err(SecondFactorError::Used)), "{again:?}");
    next_step(&kit);
    let now = code(&kit, &secret, 0);
    enter_totp(&kit, &mut elsewhere, &now).await.expect("the next code is right");
}

#[tokio::test]
async fn a_setup_that_is_not_finished_changes_nothing_in_use() {
    let kit = Kit::new().await;
    let (mut visitor, secret, _) = owner(&kit).await;
    let second = begin(&kit, &visitor).await;
    let wrong = wrong_code(&kit, &second);
    let refused = stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &wrong,
        "",
        &visitor.from
    ));
    assert!(matches!(refused, Err(ChangeError::WrongCode)), "{refused:?}");

    let mut other = half_signed_in(&kit).await;
    let unfinished = code(&kit, &second, 0);
    let refused = enter_totp(&kit, &mut other, &unfinished).await;
    assert!(matches!(refused, Err(SecondFactorError::Wrong { .. })), "{refused:?}");
    let right = code(&kit, &secret, 0);
    enter_totp(&kit, &mut other, &right).await.expect("the app in use works on");
}

#[tokio::test]
async fn a_setup_is_over_after_a_quarter_of_an_hour() {
    let kit = Kit::with(Policy {
        passwordless_auth: true,
        sign_up: SignUp::Open,
        step_up_ttl: Duration::from_hours(1),
        ..Policy::default()
    })
    .await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let secret = begin(&kit, &visitor).await;
    kit.clock.advance(Span::minutes(15));
    let late = code(&kit, &secret, 0);
    let refused = stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &late,
        "",
        &visitor.from
    ));
    assert!(matches!(refused, Err(ChangeError::Nothing)), "{refused:?}");
}

#[tokio::test]
async fn a_setup_belongs_to_the_session_that_began_it() {
    let kit = Kit::new().await;
    let mut thief = signed_in(&kit, &mara()).await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let theirs = begin(&kit, &thief).await;
    let now = authority(&kit, &visitor).await;
    assert!(kit.auth.self_service().two_factor_setup(&now).await.expect("answers").is_none(), "never seen");
    let their_code = code(&kit, &theirs, 0);
    let refused = stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &their_code,
        "",
        &visitor.from
    ));
    assert!(matches!(refused, Err(ChangeError::Nothing)), "never confirmed: {refused:?}");

    let own = begin(&kit, &visitor).await;
    assert_ne!(own.base32(), theirs.base32());
    let still = kit.auth.self_service().two_factor_setup(&authority(&kit, &thief).await).await.expect("answers");
    assert_eq!(still.expect("its own").base32(), theirs.base32(), "nor taken away");
    let own_code = code(&kit, &own, 0);
    let refused = stepping!(&kit, &mut thief, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &own_code,
        "",
        &thief.from
    ));
    assert!(matches!(refused, Err(ChangeError::WrongCode)), "{refused:?}");
    stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &own_code,
        "",
        &visitor.from
    ))
    .expect("right");
    assert_eq!(kit.count("select count(*) from totp_credentials where confirmed_at is not null").await, 1);
    next_step(&kit);
    let mut other = half_signed_in(&kit).await;
    let their_code = code(&kit, &theirs, 0);
    let refused = enter_totp(&kit, &mut other, &their_code).await;
    assert!(matches!(refused, Err(SecondFactorError::Wrong { .. })), "{refused:?}");
}

/// A copy of the session's id has seen the secret.
#[tokio::test]
async fn a_setup_ends_when_its_session_steps_up() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    kit.letters().await;
    begin(&kit, &visitor).await;
    kit.auth.sign_in().mail_step_up_code(&authority(&kit, &visitor).await, &visitor.from).await.expect("queued");
    let mailed = mailed_code(&kit).await;
    stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(s, &mailed, visitor.proof(), &visitor.from))
        .expect("right");
    let now = authority(&kit, &visitor).await;
    assert!(kit.auth.self_service().two_factor_setup(&now).await.expect("answers").is_none());
}

#[tokio::test]
async fn a_setup_begun_anew_leaves_the_older_one_worthless() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let first = begin(&kit, &visitor).await;
    let second = begin(&kit, &visitor).await;
    let old = code(&kit, &first, 0);
    let refused = stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &old,
        "",
        &visitor.from
    ));
    assert!(matches!(refused, Err(ChangeError::WrongCode)), "{refused:?}");
    let new = code(&kit, &second, 0);
    stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(stepping, &new, "", &visitor.from))
        .expect("right");
    assert_eq!(kit.count("select count(*) from totp_credentials").await, 1);
}

#[tokio::test]
async fn two_apps_and_no_third_and_a_step_counts_for_both() {
    let kit = Kit::new().await;
    let (mut visitor, first, _) = owner(&kit).await;
    let second = begin(&kit, &visitor).await;
    let its_code = code(&kit, &second, 0);
    let codes = stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &its_code,
        "Tablet",
        &visitor.from
    ));
    assert!(codes.expect("right").is_none(), "the codes there are stay");
    assert_eq!(notices(&kit).await, [Notice::AuthenticatorAdded]);
    let standing = kit.auth.self_service().two_factor(&authority(&kit, &visitor).await).await.expect("answers");
    let names: Vec<_> = standing.authenticators.iter().map(|app| app.name.as_str()).collect();
    assert_eq!((names, standing.backup_codes.left), (vec!["Phone", "Tablet"], 10));
    let third = kit.auth.self_service().start_two_factor_setup(&authority(&kit, &visitor).await, &visitor.from).await;
    assert!(matches!(third, Err(ChangeError::Full)), "{third:?}");

    for app in [&first, &second] {
        let mut other = half_signed_in(&kit).await;
        let right = code(&kit, app, 0);
        enter_totp(&kit, &mut other, &right).await.expect("either app signs in");
        let mut again = half_signed_in(&kit).await;
        kit.clock.advance(-Span::minutes(6));
        for app in [&first, &second] {
            let same_step = code(&kit, app, 0);
            let refused = enter_totp(&kit, &mut again, &same_step).await;
            assert!(matches!(refused, Err(SecondFactorError::Used)), "{refused:?}");
        }
        kit.clock.advance(Span::minutes(60));
    }
}

#[tokio::test]
async fn only_one_of_two_apps_can_be_removed() {
    let kit = Kit::new().await;
    let (mut visitor, first, _) = owner(&kit).await;
    let second = begin(&kit, &visitor).await;
    let its_code = code(&kit, &second, 0);
    stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &its_code,
        "",
        &visitor.from
    ))
    .expect("right");
    let now = authority(&kit, &visitor).await;
    let apps = kit.auth.self_service().two_factor(&now).await.expect("answers").authenticators;
    kit.letters().await;
    kit.auth.self_service().remove_authenticator(&now, apps[0].id, &visitor.from).await.expect("one may go");
    assert_eq!(notices(&kit).await, [Notice::AuthenticatorRemoved]);
    let refused = kit.auth.self_service().remove_authenticator(&now, apps[1].id, &visitor.from).await;
    assert!(matches!(refused, Err(ChangeError::Nothing)), "{refused:?}");
    let mut other = half_signed_in(&kit).await;
    let gone = code(&kit, &first, 0);
    assert!(matches!(enter_totp(&kit, &mut other, &gone).await, Err(SecondFactorError::Wrong { .. })));
    let stays = code(&kit, &second, 0);
    enter_totp(&kit, &mut other, &stays).await.expect("the other one works");
}

#[tokio::test]
async fn another_accounts_app_cannot_be_removed() {
    let kit = Kit::new().await;
    let (visitor, ..) = owner(&kit).await;
    let theirs = kit.auth.self_service().two_factor(&authority(&kit, &visitor).await).await.expect("answers").authenticators[0].id;
    let stranger = signed_in(&kit, &address("mallory@example.org")).await;
    let refused = kit.auth.self_service().remove_authenticator(&authority(&kit, &stranger).await, theirs, &stranger.from).await;
    assert!(matches!(refused, Err(ChangeError::Nothing)), "{refused:?}");
}

// Signing in

#[tokio::test]
async fn one_factor_of_two_opens_nothing_for_ten_minutes_and_dies_at_use() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    let mut other = half_signed_in(&kit).await;
    let half = authority(&kit, &other).await;
    assert_eq!((half.level, half.second, half.verified_at), (Level::FirstFactor, None, None));
    assert!(!kit.auth.sign_in().is_fresh(&half), "it may change nothing");

    let before = other.session.expect("a session");
    let right = code(&kit, &secret, 0);
    enter_totp(&kit, &mut other, &right).await.expect("right");
    let whole = authority(&kit, &other).await;
    assert_eq!((whole.level, whole.second), (Level::TwoFactor, Some(auth::identity::SecondFactor::Totp)));
    assert!(kit.auth.sessions().load(before).await.expect("answers").is_none(), "it was used");

    let mut late = half_signed_in(&kit).await;
    let user = authority(&kit, &late).await.user;
    kit.clock.advance(Span::minutes(10));
    assert!(late.authority(&kit.auth).await.is_none());
    let right = code(&kit, &secret, 0);
    let refused = enter_totp_at(&kit.auth, &mut late, user, &right, false).await;
    assert!(matches!(refused, Err(SecondFactorError::SessionOver)), "{refused:?}");
    // What was refused used nothing up.
    let mut again = half_signed_in(&kit).await;
    kit.clock.advance(-Span::minutes(6));
    enter_totp(&kit, &mut again, &right).await.expect("the code was not used");
}

#[tokio::test]
async fn the_session_and_the_account_must_belong_together() {
    let kit = Kit::new().await;
    let (visitor, secret, _) = owner(&kit).await;
    let user = authority(&kit, &visitor).await.user;
    let mut mallory = signed_in(&kit, &address("mallory@example.org")).await;
    let right = code(&kit, &secret, 0);
    let refused = enter_totp_at(&kit.auth, &mut mallory, user, &right, false).await;
    assert!(matches!(refused, Err(SecondFactorError::SessionOver)), "{refused:?}");
}

#[tokio::test]
async fn who_was_turned_off_meanwhile_stays_out() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    let mut other = half_signed_in(&kit).await;
    let user = authority(&kit, &other).await.user;
    sqlx::query("update users set disabled_at = now()").execute(&kit.pool).await.expect("updated");
    let right = code(&kit, &secret, 0);
    let refused = enter_totp_at(&kit.auth, &mut other, user, &right, false).await;
    assert!(matches!(refused, Err(SecondFactorError::SessionOver)), "{refused:?}");
}

#[tokio::test]
async fn the_flag_off_stops_the_second_step_too() {
    let kit = Kit::new().await;
    let (_, secret, codes) = owner(&kit).await;
    let other = half_signed_in(&kit).await;
    let user = authority(&kit, &other).await.user;
    let policy = Policy { passwordless_auth: false, ..kit.auth.policy().clone() };
    let off = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&TEST_KEY, &[]), policy);
    let half = other.session.expect("a session");
    let right = code(&kit, &secret, 0);
    let refused = off
        .sign_in()
        .enter_second_factor(
            PendingSignIn { half, user, handover: &handover() },
            Factor::App(&right),
            false,
            other.proof(),
            &other.from,
        )
        .await;
    assert!(matches!(refused, Err(SecondFactorError::Off)), "{refused:?}");
    let refused = off
        .sign_in()
        .enter_second_factor(
            PendingSignIn { half, user, handover: &handover() },
            Factor::BackupCode(&codes[0]),
            false,
            other.proof(),
            &other.from,
        )
        .await;
    assert!(matches!(refused, Err(SecondFactorError::Off)), "{refused:?}");

    // On for others only: what was refused used nothing up, and the same code works once it is for this one too.
    let set = |change| {
        let auth = kit.auth.clone();
        async move { auth.rollout().set_flag(Actor::Operator, PASSWORDLESS_AUTH, &change, &why("ticket 7")).await.expect("changed") }
    };
    set(Change::Percent(50, Of::Everyone)).await;
    assert!(bucket(PASSWORDLESS_AUTH, mara().key()) >= 50, "not among the fifty");
    let give = async || {
        let finishing = PendingSignIn { half, user, handover: &handover() };
        kit.auth.sign_in().enter_second_factor(finishing, Factor::App(&right), false, other.proof(), &other.from).await
    };
    let refused = give().await;
    assert!(matches!(refused, Err(SecondFactorError::Off)), "{refused:?}");
    set(Change::Allow(mara())).await;
    give().await.expect("the code is as good as it was");
}

#[tokio::test]
async fn a_session_of_one_factor_is_half_once_the_account_has_two() {
    let kit = Kit::new().await;
    let (mut visitor, ..) = owner(&kit).await;
    // As if it had been signed in while two-factor was being turned on.
    sqlx::query("update sessions set level = 'email', second_method = null").execute(&kit.pool).await.expect("updated");
    let half = authority(&kit, &visitor).await;
    assert_eq!(half.level, Level::FirstFactor);
    assert!(!kit.auth.sign_in().is_fresh(&half));
    let refused = stepping!(&kit, &mut visitor, |stepping| kit.auth.self_service().turn_two_factor_off(
        stepping,
        None,
        visitor.proof(),
        &visitor.from
    ));
    assert!(matches!(refused, Err(ChangeError::NotFresh)), "{refused:?}");
}

/// The acceptance table, by clock: what a code of each step comes to.
#[tokio::test]
async fn two_steps_are_accepted_and_never_three() {
    for (offset, right) in [(-3, false), (-2, false), (-1, true), (0, true), (1, false), (2, false), (3, false)] {
        let kit = Kit::new().await;
        let (_, secret, _) = owner(&kit).await;
        let mut other = half_signed_in(&kit).await;
        let typed = code(&kit, &secret, offset);
        match enter_totp(&kit, &mut other, &typed).await {
            Ok(_) => assert!(right, "{offset}"),
            Err(SecondFactorError::Clock { steps }) => assert!(!right && steps == offset, "{offset}: {steps}"),
            Err(error) => panic!("{offset}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_code_that_came_early_stays_refused_and_two_teach_where_the_clock_is() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    let mut other = half_signed_in(&kit).await;
    let early = code(&kit, &secret, 1);
    assert!(matches!(enter_totp(&kit, &mut other, &early).await, Err(SecondFactorError::Clock { steps: 1 })));
    next_step(&kit);
    assert!(matches!(enter_totp(&kit, &mut other, &early).await, Err(SecondFactorError::Used)), "its time has come");
    let early = code(&kit, &secret, 1);
    enter_totp(&kit, &mut other, &early).await.expect("the second one in a row: the clock is ahead");

    // From now on the window lies one step later.
    let mut other = half_signed_in(&kit).await;
    let late = code(&kit, &secret, -1);
    assert!(matches!(enter_totp(&kit, &mut other, &late).await, Err(SecondFactorError::Clock { steps: -1 })));
    // And back again, since that code showed a clock that isn't ahead.
    enter_totp(&kit, &mut other, &late).await.expect("taken once the window is back");
}

#[tokio::test]
async fn every_app_is_read_once_though_sixty_four_try_over_two_servers() {
    let kit = unlimited().await;
    let second = kit.second().await;
    let mut owner = signed_in(&kit, &mara()).await;
    let (secret, _) = enrol(&kit, &mut owner).await;
    // The account knows each, so that it is the statement that decides and not the waits of strangers.
    let mut visitors: Vec<Visitor> = Vec::new();
    for _ in 0..64 {
        visitors.push(Visitor { known: owner.known.clone(), ..Visitor::at([203, 0, 113, 24]) });
    }
    kit.letters().await;
    for visitor in &mut visitors {
        assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded));
        kit.clock.advance(-Span::minutes(6));
    }
    next_step(&kit);
    let user = authority(&kit, &visitors[0]).await.user;
    let right = code(&kit, &secret, 0);
    let right = &right;
    let servers = [&*kit.auth, &*second];
    let tries = visitors.iter_mut().enumerate().map(|(n, visitor)| enter_totp_at(servers[n % 2], visitor, user, right, false));
    let results = join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(refused, SecondFactorError::Used), "{refused:?}");
    }
    // Another process, started later.
    let restarted = kit.second().await;
    let mut last = visitors.into_iter().find(|visitor| visitor.trusted.is_none()).expect("any");
    last.session = None;
    last.give_first_factor(&kit, &mara()).await;
    kit.clock.advance(-Span::minutes(6));
    let refused = enter_totp_at(&restarted, &mut last, user, right, false).await;
    assert!(matches!(refused, Err(SecondFactorError::Used)), "{refused:?}");
}

// Wrong codes

#[tokio::test]
async fn five_wrong_codes_and_then_a_wait_that_grows() {
    let kit = Kit::new().await;
    let (mut visitor, secret, _) = owner(&kit).await;
    let mut other = half_signed_in(&kit).await;
    for left in [4, 3, 2, 1] {
        let wrong = wrong_code(&kit, &secret);
        let refused = enter_totp(&kit, &mut other, &wrong).await;
        assert!(matches!(refused, Err(SecondFactorError::Wrong { left: n }) if n == left), "{left}: {refused:?}");
    }
    let wrong = wrong_code(&kit, &secret);
    for _ in 0..3 {
        match enter_totp(&kit, &mut other, &wrong).await {
            Err(SecondFactorError::Limited(limited)) => assert_eq!(limited.limit, Limit::TotpAccount),
            other => panic!("{other:?}"),
        }
    }
    let right = code(&kit, &secret, 0);
    assert!(matches!(enter_totp(&kit, &mut other, &right).await, Err(SecondFactorError::Limited(_))), "not even the right one");

    // The owner's known browser has a budget of its own; live sessions go on.
    assert!(visitor.authority(&kit.auth).await.is_some());
    visitor.session = None;
    visitor.give_first_factor(&kit, &mara()).await;
    let right = code(&kit, &secret, 0);
    enter_totp(&kit, &mut visitor, &right).await.expect("the owner is let in");
}

#[tokio::test]
async fn a_new_sign_in_brings_no_new_tries_and_waits_double_up_to_an_hour() {
    let kit = unlimited().await;
    let (_, secret, _) = owner(&kit).await;
    let mut waits = Vec::new();
    for _ in 1..=14 {
        let mut other = half_signed_in(&kit).await;
        kit.clock.advance(Span::hours(1));
        // A half-signed-in session is over by then; the next one has no tries of its own.
        other.session = None;
        other.give_first_factor(&kit, &mara()).await;
        let wrong = wrong_code(&kit, &secret);
        match enter_totp(&kit, &mut other, &wrong).await {
            Err(SecondFactorError::Wrong { .. }) => waits.push(0),
            Err(SecondFactorError::Limited(limited)) => {
                let blocked: time::OffsetDateTime =
                    sqlx::query_scalar("select blocked_until from totp_credentials").fetch_one(&kit.pool).await.expect("a time");
                // What is told and what the statement has decided are the same.
                assert_eq!(blocked - kit.auth.now(), limited.wait);
                waits.push(limited.wait.as_secs());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
}

#[tokio::test]
async fn during_a_wait_not_even_a_right_code_is_looked_at_and_waiting_as_told_is_enough() {
    // With the other limits off: this one stays.
    let kit = unlimited().await;
    let (_, secret, _) = owner(&kit).await;
    let mut other = half_signed_in(&kit).await;
    for _ in 0..5 {
        let wrong = wrong_code(&kit, &secret);
        enter_totp(&kit, &mut other, &wrong).await.expect_err("wrong");
    }
    let right = code(&kit, &secret, 0);
    for _ in 0..3 {
        match enter_totp(&kit, &mut other, &right).await {
            Err(SecondFactorError::Limited(limited)) => assert_eq!(limited.wait, Duration::from_secs(30)),
            other => panic!("{other:?}"),
        }
    }
    kit.clock.advance(Span::seconds(30));
    let right = code(&kit, &secret, 0);
    enter_totp(&kit, &mut other, &right).await.expect("the wait is over, and being refused cost nothing");
}

#[tokio::test]
async fn an_administrator_sees_the_wait_and_ends_it_and_the_wrong_codes_stay_counted() {
    let kit = Kit::new().await;
    let (owner, secret, _) = owner(&kit).await;
    let user = authority(&kit, &owner).await.user;
    let mut other = half_signed_in(&kit).await;
    for _ in 0..5 {
        let wrong = wrong_code(&kit, &secret);
        enter_totp(&kit, &mut other, &wrong).await.expect_err("wrong");
    }
    let held = kit.auth.administration().limits_in_force(None).await.expect("the database answers").held;
    let whose: Vec<_> = held.iter().map(|held| (held.by, held.subject.user, held.subject.address.as_deref())).collect();
    let address = Some("mara@example.org");
    let limit = ThrottledBy::Limit(Limit::TotpAccount);
    assert_eq!(
        whose,
        [(limit, Some(user), address), (ThrottledBy::WrongAppCodes, Some(user), address)],
        "whole: it is an account's"
    );
    for held in &held {
        kit.auth.administration().release(Actor::Operator, held.by, &held.key).await.expect("let go");
        assert!(matches!(kit.auth.administration().release(Actor::Operator, held.by, &held.key).await, Err(ActionError::Nothing)));
    }
    assert_eq!(kit.auth.administration().limits_in_force(None).await.expect("the database answers").held, []);
    assert_eq!(kit.count("select max(failures)::bigint from totp_credentials").await, 5);
    let right = code(&kit, &secret, 0);
    enter_totp(&kit, &mut other, &right).await.expect("looked at, at once");
}

#[tokio::test]
async fn after_a_hundred_the_app_is_off_for_strangers_until_it_is_set_up_anew() {
    let kit = unlimited().await;
    let (mut visitor, secret, codes) = owner(&kit).await;
    sqlx::query("update totp_credentials set failures = 99, blocked_until = null").execute(&kit.pool).await.expect("updated");
    let mut other = half_signed_in(&kit).await;
    let wrong = wrong_code(&kit, &secret);
    assert!(matches!(enter_totp(&kit, &mut other, &wrong).await, Err(SecondFactorError::AppOff)), "the hundredth");
    assert_eq!(events(&kit, "totp.locked").await, 1);
    kit.clock.advance(Span::days(365));
    let mut other = half_signed_in(&kit).await;
    let right = code(&kit, &secret, 0);
    assert!(matches!(enter_totp(&kit, &mut other, &right).await, Err(SecondFactorError::AppOff)), "time does not mend it");
    enter_backup(&kit, &mut other, &codes[0]).await.expect("a backup code does");
    assert!(kit.auth.self_service().two_factor(&authority(&kit, &other).await).await.expect("answers").authenticators[0].stopped);

    // A browser the account knows is never kept out by strangers.
    kit.clock.advance(-Span::days(30));
    visitor.session = None;
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded), "it stays two-factor");
    let right = code(&kit, &secret, 0);
    enter_totp(&kit, &mut visitor, &right).await.expect("the owner is let in");
    let mut stranger = half_signed_in(&kit).await;
    let right = code(&kit, &secret, 0);
    assert!(matches!(enter_totp(&kit, &mut stranger, &right).await, Err(SecondFactorError::AppOff)), "that does not turn it on");
}

#[tokio::test]
async fn a_known_browser_that_guesses_on_and_on_is_a_stranger_in_the_end() {
    let kit = unlimited().await;
    let (mut visitor, secret, _) = owner(&kit).await;
    visitor.session = None;
    visitor.give_first_factor(&kit, &mara()).await;
    sqlx::query("update known_browsers set failures = 100").execute(&kit.pool).await.expect("updated");
    sqlx::query("update totp_credentials set failures = 100").execute(&kit.pool).await.expect("updated");
    let right = code(&kit, &secret, 0);
    assert!(matches!(enter_totp(&kit, &mut visitor, &right).await, Err(SecondFactorError::AppOff)));
}

/// Else each guess could bring a cookie made up for it, with tries of its own.
#[tokio::test]
async fn a_made_up_known_browser_cookie_brings_no_tries() {
    let kit = Kit::new().await;
    let (_, _, codes) = owner(&kit).await;
    let wrong = BackupCode::parse("aaaa-aaaa-aaaa").expect("well-formed");
    let mut other = half_signed_in(&kit).await;
    for _ in 0..5 {
        other.known = Some(KnownBrowserToken::new().into());
        enter_backup(&kit, &mut other, &wrong).await.expect_err("wrong");
    }
    other.known = Some(KnownBrowserToken::new().into());
    let refused = enter_backup(&kit, &mut other, &codes[0]).await;
    assert!(matches!(refused, Err(SecondFactorError::Limited(limited)) if limited.limit == Limit::BackupAccount), "{refused:?}");
}

#[tokio::test]
async fn a_known_browser_gets_five_wrong_codes_of_each_kind_too() {
    let kit = Kit::new().await;
    let (mut visitor, secret, codes) = owner(&kit).await;
    visitor.give_first_factor(&kit, &mara()).await;
    let (wrong, right) = (wrong_code(&kit, &secret), code(&kit, &secret, 0));
    for _ in 0..5 {
        enter_totp(&kit, &mut visitor, &wrong).await.expect_err("wrong");
    }
    let refused = enter_totp(&kit, &mut visitor, &right).await;
    assert!(matches!(refused, Err(SecondFactorError::Limited(limited)) if limited.limit == Limit::TotpKnownBrowser), "{refused:?}");
    let wrong = BackupCode::parse("aaaa-aaaa-aaaa").expect("well-formed");
    for _ in 0..5 {
        enter_backup(&kit, &mut visitor, &wrong).await.expect_err("wrong");
    }
    let refused = enter_backup(&kit, &mut visitor, &codes[0]).await;
    assert!(
        matches!(refused, Err(SecondFactorError::Limited(limited)) if limited.limit == Limit::BackupKnownBrowser),
        "{refused:?}"
    );
}

#[tokio::test]
async fn two_hundred_guesses_at_once_get_five_looks() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    let second = kit.second().await;
    let other = half_signed_in(&kit).await;
    let (half, user) = (other.session.expect("a session"), authority(&kit, &other).await.user);
    let wrong = wrong_code(&kit, &secret);
    let guess = async |n: usize| {
        let auth = if n.is_multiple_of(2) { &*kit.auth } else { &*second };
        auth.sign_in()
            .enter_second_factor(
                PendingSignIn { half, user, handover: &handover() },
                Factor::App(&wrong),
                false,
                other.proof(),
                &other.from,
            )
            .await
    };
    join_all((0..200).map(guess)).await;
    assert_eq!(events(&kit, "totp.refused").await, 5, "codes that were compared");
    let right = code(&kit, &secret, 0);
    let refused = kit
        .auth
        .sign_in()
        .enter_second_factor(
            PendingSignIn { half, user, handover: &handover() },
            Factor::App(&right),
            false,
            other.proof(),
            &other.from,
        )
        .await;
    assert!(matches!(refused, Err(SecondFactorError::Limited(_))), "{refused:?}");
}

// Backup codes

#[tokio::test]
async fn codes_work_once_saved_and_each_once_and_every_use_is_told() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let (_, codes) = enrol(&kit, &mut visitor).await;
    kit.letters().await;
    let mut other = half_signed_in(&kit).await;
    let refused = enter_backup(&kit, &mut other, &codes.codes[0]).await;
    assert!(matches!(refused, Err(SecondFactorError::Wrong { .. })), "not saved yet: {refused:?}");
    let now = authority(&kit, &visitor).await;
    assert!(kit.auth.self_service().two_factor(&now).await.expect("answers").backup_codes.proposed_at.is_some());
    kit.auth.self_service().save_backup_codes(&now, codes.set, &visitor.from).await.expect("saved");
    kit.auth.self_service().save_backup_codes(&now, codes.set, &visitor.from).await.expect("twice does no harm");
    assert_eq!(notices(&kit).await, [Notice::SecondStepFailed], "of the codes the first mail told");

    for (n, code) in codes.codes.iter().enumerate() {
        let mut other = half_signed_in(&kit).await;
        let typed = BackupCode::parse(&code.reveal().to_uppercase().replace('-', " ")).expect("well-formed");
        enter_backup(&kit, &mut other, &typed).await.expect("works once");
        assert_eq!(authority(&kit, &other).await.second, Some(auth::identity::SecondFactor::BackupCode));
        let left = 9 - i64::try_from(n).expect("ten");
        let mut told = vec![Notice::BackupCodeUsed { left }];
        if left == 3 {
            told.push(Notice::BackupCodesLow { left });
        }
        // Two mails of one moment go out in either order.
        let mut seen = notices(&kit).await;
        seen.sort_by_key(|notice| matches!(notice, Notice::BackupCodesLow { .. }));
        assert_eq!(seen, told);
        kit.clock.advance(Span::hours(1));
        let mut other = half_signed_in(&kit).await;
        let refused = enter_backup(&kit, &mut other, &typed).await;
        assert!(matches!(refused, Err(SecondFactorError::Used)), "{refused:?}");
    }
}

#[tokio::test]
async fn one_backup_code_of_sixty_four_tries_and_ten_codes_at_once() {
    let kit = unlimited().await;
    let second = kit.second().await;
    let (_, _, codes) = owner(&kit).await;
    let mut halves = Vec::new();
    for _ in 0..64 {
        halves.push(half_signed_in(&kit).await);
        kit.clock.advance(-Span::minutes(6));
    }
    let user = authority(&kit, &halves[0]).await.user;
    let servers = [&*kit.auth, &*second];
    let enter = async |n: usize, visitor: &Visitor, code: &BackupCode| {
        let half = visitor.session.expect("a session");
        servers[n % 2]
            .sign_in()
            .enter_second_factor(
                PendingSignIn { half, user, handover: &handover() },
                Factor::BackupCode(code),
                false,
                visitor.proof(),
                &visitor.from,
            )
            .await
    };
    let results = join_all(halves.iter().enumerate().map(|(n, visitor)| enter(n, visitor, &codes[0]))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|error| matches!(error, SecondFactorError::Used)));

    let mut left = Vec::new();
    for visitor in halves {
        if visitor.authority(&kit.auth).await.is_some() {
            left.push(visitor);
        }
    }
    let results = join_all(left.iter().zip(&codes[1..]).enumerate().map(|(n, (visitor, code))| enter(n, visitor, code))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 9);
    assert_eq!(kit.count("select count(*) from backup_codes where used_at is null").await, 0);
}

/// Each is a right factor of its own, so only the half-signed-in session is there once.
#[tokio::test]
async fn ten_backup_codes_at_once_finish_one_sign_in() {
    let kit = unlimited().await;
    let (_, _, codes) = owner(&kit).await;
    let other = half_signed_in(&kit).await;
    let (half, user) = (other.session.expect("a session"), authority(&kit, &other).await.user);
    let enter = async |code: &BackupCode| {
        let new = handover();
        let finishing = PendingSignIn { half, user, handover: &new };
        kit.auth.sign_in().enter_second_factor(finishing, Factor::BackupCode(code), false, other.proof(), &other.from).await
    };
    let results = join_all(codes.iter().map(enter)).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(kit.count("select count(*) from backup_codes where used_at is null").await, 9, "the others are not used up");
}

#[tokio::test]
async fn a_new_set_replaces_the_old_one_when_it_is_saved_and_not_before() {
    let kit = Kit::new().await;
    let (visitor, _, old) = owner(&kit).await;
    let now = authority(&kit, &visitor).await;
    let never_saved = kit.auth.self_service().new_backup_codes(&now, &visitor.from).await.expect("fresh");
    let new = kit.auth.self_service().new_backup_codes(&now, &visitor.from).await.expect("fresh");
    let mut other = half_signed_in(&kit).await;
    enter_backup(&kit, &mut other, &old[0]).await.expect("the old set works until then");
    let gone = kit.auth.self_service().save_backup_codes(&now, never_saved.set, &visitor.from).await;
    assert!(matches!(gone, Err(ChangeError::Nothing)), "{gone:?}");
    kit.letters().await;
    kit.auth.self_service().save_backup_codes(&now, new.set, &visitor.from).await.expect("saved");
    assert_eq!(notices(&kit).await, [Notice::BackupCodesNew]);
    let mut other = half_signed_in(&kit).await;
    assert!(matches!(enter_backup(&kit, &mut other, &old[1]).await, Err(SecondFactorError::Wrong { .. })));
    enter_backup(&kit, &mut other, &new.codes[0]).await.expect("the new set works");
}

#[tokio::test]
async fn a_set_belongs_to_the_session_that_was_shown_it() {
    let kit = Kit::new().await;
    let (visitor, secret, _) = owner(&kit).await;
    let mut elsewhere = half_signed_in(&kit).await;
    let second = code(&kit, &secret, 0);
    enter_totp(&kit, &mut elsewhere, &second).await.expect("right");
    let theirs =
        kit.auth.self_service().new_backup_codes(&authority(&kit, &elsewhere).await, &elsewhere.from).await.expect("fresh");
    let now = authority(&kit, &visitor).await;
    let refused = kit.auth.self_service().save_backup_codes(&now, theirs.set, &visitor.from).await;
    assert!(matches!(refused, Err(ChangeError::Nothing)), "{refused:?}");
    let own = kit.auth.self_service().new_backup_codes(&now, &visitor.from).await.expect("fresh");
    kit.auth.self_service().new_backup_codes(&authority(&kit, &elsewhere).await, &elsewhere.from).await.expect("fresh");
    kit.auth.self_service().save_backup_codes(&now, own.set, &visitor.from).await.expect("no other session took it away");
}

#[tokio::test]
async fn five_new_sets_an_hour_and_no_more() {
    let kit = Kit::new().await;
    let (visitor, ..) = owner(&kit).await;
    let now = authority(&kit, &visitor).await;
    let made = join_all((0..8).map(|_| kit.auth.self_service().new_backup_codes(&now, &visitor.from))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 4, "the fifth came with two-factor");
    for refused in refused {
        let Err(ChangeError::Limited(limited)) = refused else { panic!("{refused:?}") };
        assert_eq!(limited.limit, Limit::BackupCodeSets);
    }
}

#[tokio::test]
async fn another_accounts_codes_and_sets_are_nothing() {
    let kit = Kit::new().await;
    let (visitor, _, codes) = owner(&kit).await;
    let waiting = kit.auth.self_service().new_backup_codes(&authority(&kit, &visitor).await, &visitor.from).await.expect("fresh");
    let mut mallory = signed_in(&kit, &address("mallory@example.org")).await;
    enrol(&kit, &mut mallory).await;
    let theirs = authority(&kit, &mallory).await;
    assert!(matches!(
        kit.auth.self_service().save_backup_codes(&theirs, waiting.set, &mallory.from).await,
        Err(ChangeError::Nothing)
    ));
    let refused = stepping!(&kit, &mut mallory, |stepping| kit.auth.sign_in().step_up(
        stepping,
        Factor::BackupCode(&codes[0]),
        mallory.proof(),
        &mallory.from
    ));
    assert!(matches!(refused, Err(SecondFactorError::Wrong { .. })), "{refused:?}");
}

// Step-up

#[tokio::test]
async fn a_change_needs_a_factor_given_in_the_last_ten_minutes() {
    let kit = Kit::new().await;
    let (mut visitor, secret, codes) = owner(&kit).await;
    kit.clock.advance(Span::minutes(10));
    let stale = authority(&kit, &visitor).await;
    assert!(!kit.auth.sign_in().is_fresh(&stale));
    let from = &visitor.from.clone();
    assert!(matches!(kit.auth.self_service().start_two_factor_setup(&stale, from).await, Err(ChangeError::NotFresh)));
    assert!(matches!(kit.auth.self_service().new_backup_codes(&stale, from).await, Err(ChangeError::NotFresh)));
    assert!(matches!(kit.auth.self_service().remove_authenticator(&stale, stale.user, from).await, Err(ChangeError::NotFresh)));
    // Mail is no way round the stronger factor.
    assert!(matches!(kit.auth.sign_in().mail_step_up_code(&stale, from).await, Err(SendCodeError::TwoFactor)));

    let before = visitor.session.expect("a session");
    let wrong = wrong_code(&kit, &secret);
    let refused =
        stepping!(&kit, &mut visitor, |stepping| kit.auth.sign_in().step_up(stepping, Factor::App(&wrong), visitor.proof(), from));
    assert!(matches!(refused, Err(SecondFactorError::Wrong { .. })), "{refused:?}");
    let right = code(&kit, &secret, 0);
    stepping!(&kit, &mut visitor, |stepping| kit.auth.sign_in().step_up(stepping, Factor::App(&right), visitor.proof(), from))
        .expect("right");
    assert!(kit.auth.sessions().load(before).await.expect("answers").is_none(), "the session has another id");
    let now = authority(&kit, &visitor).await;
    assert_eq!(now.session, stale.session, "and is the same session");
    assert!(kit.auth.sign_in().is_fresh(&now));
    let again =
        stepping!(&kit, &mut visitor, |stepping| kit.auth.sign_in().step_up(stepping, Factor::App(&right), visitor.proof(), from));
    assert!(matches!(again, Err(SecondFactorError::Used)), "{again:?}");

    kit.clock.advance(Span::minutes(10));
    stepping!(&kit, &mut visitor, |stepping| kit.auth.sign_in().step_up(
        stepping,
        Factor::BackupCode(&codes[0]),
        visitor.proof(),
        from
    ))
    .expect("a backup code does it too");
    assert!(kit.auth.sign_in().is_fresh(&authority(&kit, &visitor).await));
}

#[tokio::test]
async fn ten_wrong_codes_and_no_more_in_a_live_session() {
    let kit = Kit::new().await;
    let (mut visitor, secret, _) = owner(&kit).await;
    let wrong = wrong_code(&kit, &secret);
    let mut refusals = Vec::new();
    for _ in 0..12 {
        let refused =
            stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up(s, Factor::App(&wrong), visitor.proof(), &visitor.from));
        refusals.push(match refused {
            Err(SecondFactorError::Wrong { left }) => left,
            Err(SecondFactorError::Limited(limited)) if limited.limit == Limit::StepUpKnownBrowser => 0,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(refusals, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]);
    assert!(visitor.authority(&kit.auth).await.is_some(), "the session is not ended by it");
}

#[tokio::test]
async fn a_half_signed_in_session_cannot_step_up() {
    let kit = Kit::new().await;
    let (_, secret, codes) = owner(&kit).await;
    let mut other = half_signed_in(&kit).await;
    let right = code(&kit, &secret, 0);
    let refused = stepping!(&kit, &mut other, |s| kit.auth.sign_in().step_up(s, Factor::App(&right), other.proof(), &other.from));
    assert!(matches!(refused, Err(SecondFactorError::SessionOver)), "{refused:?}");
    let refused =
        stepping!(&kit, &mut other, |s| kit.auth.sign_in().step_up(s, Factor::BackupCode(&codes[0]), other.proof(), &other.from));
    assert!(matches!(refused, Err(SecondFactorError::SessionOver)), "{refused:?}");
    assert_eq!(authority(&kit, &other).await.level, Level::FirstFactor);
}

#[tokio::test]
async fn neither_can_one_that_became_half_nor_one_that_says_it_is_whole() {
    let kit = Kit::new().await;
    let (mut visitor, secret, _) = owner(&kit).await;
    sqlx::query("update sessions set level = 'email', second_method = null").execute(&kit.pool).await.expect("updated");
    let right = code(&kit, &secret, 0);
    let refused =
        stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up(s, Factor::App(&right), visitor.proof(), &visitor.from));
    assert!(matches!(refused, Err(SecondFactorError::SessionOver)), "{refused:?}");

    // The row is asked too, whatever the caller believes of the session.
    let other = half_signed_in(&kit).await;
    let believed = Authority { level: Level::TwoFactor, ..authority(&kit, &other).await };
    let stepping = StepUpSession { authority: &believed, old: other.session.expect("a session"), fresh: fresh() };
    let right = code(&kit, &secret, 0);
    let refused = kit.auth.sign_in().step_up(stepping, Factor::App(&right), other.proof(), &other.from).await;
    assert!(matches!(refused, Err(SecondFactorError::SessionOver)), "{refused:?}");
    assert_eq!(authority(&kit, &other).await.level, Level::FirstFactor);
}

async fn mailed_code(kit: &Kit) -> Code {
    match kit.letters().await.pop().map(|letter| letter.content) {
        Some(Content::StepUp { code, .. }) => code,
        other => panic!("expected a code, found {other:?}"),
    }
}

#[tokio::test]
async fn without_two_factor_a_code_by_mail_does_in_its_own_session_only() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let mut elsewhere = signed_in(&kit, &mara()).await;
    kit.clock.advance(Span::minutes(10));
    kit.auth.sign_in().mail_step_up_code(&authority(&kit, &visitor).await, &visitor.from).await.expect("queued");
    let code = mailed_code(&kit).await;
    let refused = stepping!(&kit, &mut elsewhere, |s| kit.auth.sign_in().step_up_with_mailed_code(
        s,
        &code,
        elsewhere.proof(),
        &elsewhere.from
    ));
    assert!(matches!(refused, Err(StepUpError::Code(MailedCodeError::NothingSent))), "{refused:?}");
    let before = visitor.session.expect("a session");
    stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(s, &code, visitor.proof(), &visitor.from))
        .expect("right");
    assert!(kit.auth.sessions().load(before).await.expect("answers").is_none());
    assert!(kit.auth.sign_in().is_fresh(&authority(&kit, &visitor).await));
    let again =
        stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(s, &code, visitor.proof(), &visitor.from));
    assert!(matches!(again, Err(StepUpError::Code(MailedCodeError::Expired))), "{again:?}");

    kit.auth.sign_in().mail_step_up_code(&authority(&kit, &visitor).await, &visitor.from).await.expect("queued");
    let code = mailed_code(&kit).await;
    kit.clock.advance(Span::minutes(10));
    let late =
        stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(s, &code, visitor.proof(), &visitor.from));
    assert!(matches!(late, Err(StepUpError::Code(MailedCodeError::Expired))), "{late:?}");
}

#[tokio::test]
async fn a_mailed_code_forgives_four_mistakes_and_mails_are_few() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    kit.auth.sign_in().mail_step_up_code(&authority(&kit, &visitor).await, &visitor.from).await.expect("queued");
    let right = mailed_code(&kit).await;
    let digits: u32 = right.reveal().replace(' ', "").parse().expect("digits");
    let wrong = Code::parse(&format!("{:06}", (digits + 1) % 1_000_000)).expect("six digits");
    for left in [4, 3, 2, 1] {
        let refused = stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(
            s,
            &wrong,
            visitor.proof(),
            &visitor.from
        ));
        assert!(matches!(refused, Err(StepUpError::Code(MailedCodeError::Wrong { left: n })) if n == left), "{refused:?}");
    }
    for code in [&wrong, &right] {
        let refused =
            stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(s, code, visitor.proof(), &visitor.from));
        assert!(matches!(refused, Err(StepUpError::Code(MailedCodeError::LastTry))), "{refused:?}");
    }
    let now = authority(&kit, &visitor).await;
    for _ in 1..5 {
        kit.auth.sign_in().mail_step_up_code(&now, &visitor.from).await.expect("five an hour");
    }
    let refused = kit.auth.sign_in().mail_step_up_code(&now, &visitor.from).await;
    assert!(matches!(refused, Err(SendCodeError::Limited(limited)) if limited.limit == Limit::StepUpMail), "{refused:?}");
}

#[tokio::test]
async fn fifty_guesses_at_once_at_a_mailed_code_get_five_looks() {
    let kit = unlimited().await;
    let visitor = signed_in(&kit, &mara()).await;
    let now = authority(&kit, &visitor).await;
    kit.auth.sign_in().mail_step_up_code(&now, &visitor.from).await.expect("queued");
    let digits: u32 = mailed_code(&kit).await.reveal().replace(' ', "").parse().expect("digits");
    let wrong = Code::parse(&format!("{:06}", (digits + 1) % 1_000_000)).expect("six digits");
    let old = visitor.session.expect("a session");
    let guess = async || {
        let stepping = StepUpSession { authority: &now, old, fresh: fresh() };
        kit.auth.sign_in().step_up_with_mailed_code(stepping, &wrong, visitor.proof(), &visitor.from).await
    };
    join_all((0..50).map(|_| guess())).await;
    assert_eq!(events(&kit, "step_up.refused").await, 5, "codes that were compared");
}

#[tokio::test]
async fn a_code_mailed_before_two_factor_was_on_is_no_way_round_it() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    kit.auth.sign_in().mail_step_up_code(&authority(&kit, &visitor).await, &visitor.from).await.expect("queued");
    let mailed = mailed_code(&kit).await;
    enrol(&kit, &mut visitor).await;
    let refused =
        stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(s, &mailed, visitor.proof(), &visitor.from));
    assert!(matches!(refused, Err(StepUpError::TwoFactor)), "{refused:?}");
}

#[tokio::test]
async fn a_step_up_code_signs_nobody_in_and_a_sign_in_code_is_no_step_up() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    kit.clock.advance(Span::minutes(6));
    kit.auth.sign_in().request_link(&mara(), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
    let (_, sign_in) = kit.sign_in_mail().await;
    kit.auth.sign_in().mail_step_up_code(&authority(&kit, &visitor).await, &visitor.from).await.expect("queued");
    let step_up = mailed_code(&kit).await;
    let refused = kit.auth.sign_in().enter_code(&step_up, visitor.proof(), &handover(), &visitor.from).await;
    assert!(refused.is_err(), "{refused:?}");
    let refused =
        stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up_with_mailed_code(s, &sign_in, visitor.proof(), &visitor.from));
    assert!(matches!(refused, Err(StepUpError::Code(MailedCodeError::Wrong { .. }))), "{refused:?}");
}

// Off, and reset

#[tokio::test]
async fn off_takes_a_right_factor_and_everything_with_it() {
    let kit = Kit::new().await;
    let (mut visitor, secret, _) = owner(&kit).await;
    let mut elsewhere = half_signed_in(&kit).await;
    let right = code(&kit, &secret, 0);
    let user = authority(&kit, &elsewhere).await.user;
    enter_totp_at(&kit.auth, &mut elsewhere, user, &right, true).await.expect("right");
    next_step(&kit);

    let wrong = wrong_code(&kit, &secret);
    for code in [Some(&wrong), Some(&right), None] {
        let refused =
            stepping!(&kit, &mut visitor, |s| kit.auth.self_service().turn_two_factor_off(s, code, visitor.proof(), &visitor.from));
        assert!(matches!(refused, Err(ChangeError::Factor(_) | ChangeError::NotFresh)), "{refused:?}");
    }
    kit.letters().await;
    let right = code(&kit, &secret, 0);
    stepping!(&kit, &mut visitor, |s| kit.auth.self_service().turn_two_factor_off(s, Some(&right), visitor.proof(), &visitor.from))
        .expect("right");
    assert_eq!(notices(&kit).await, [Notice::TwoFactorOff]);
    let now = authority(&kit, &visitor).await;
    assert_eq!((now.level, now.two_factor), (Level::Email, false));
    assert!(elsewhere.authority(&kit.auth).await.is_none(), "other sessions are over");
    assert_eq!(kit.count("select count(*) from totp_credentials").await, 0);
    assert_eq!(kit.count("select count(*) from backup_codes").await, 0);
    assert_eq!(kit.count("select count(*) from trusted_devices where revoked_at is null").await, 0);
    assert!(matches!(elsewhere.give_first_factor(&kit, &mara()).await, Outcome::Complete { .. }));
}

#[tokio::test]
async fn off_takes_a_backup_code_given_just_before() {
    let kit = Kit::new().await;
    let (mut visitor, _, codes) = owner(&kit).await;
    stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up(s, Factor::BackupCode(&codes[0]), visitor.proof(), &visitor.from))
        .expect("right");
    kit.clock.advance(Span::minutes(10));
    let refused =
        stepping!(&kit, &mut visitor, |s| kit.auth.self_service().turn_two_factor_off(s, None, visitor.proof(), &visitor.from));
    assert!(matches!(refused, Err(ChangeError::NotFresh)), "{refused:?}");
    stepping!(&kit, &mut visitor, |s| kit.auth.sign_in().step_up(s, Factor::BackupCode(&codes[1]), visitor.proof(), &visitor.from))
        .expect("right");
    stepping!(&kit, &mut visitor, |s| kit.auth.self_service().turn_two_factor_off(s, None, visitor.proof(), &visitor.from))
        .expect("fresh");
}

#[tokio::test]
async fn what_is_required_cannot_be_turned_off() {
    let kit = Kit::with(Policy {
        passwordless_auth: true,
        sign_up: SignUp::Open,
        require_two_factor: RequireTwoFactor::Everyone,
        ..Policy::default()
    })
    .await;
    let mut visitor = signed_in(&kit, &mara()).await;
    assert!(authority(&kit, &visitor).await.owes_two_factor(RequireTwoFactor::Everyone));
    assert!(!authority(&kit, &visitor).await.owes_two_factor(RequireTwoFactor::Admins));
    let (secret, _) = enrol(&kit, &mut visitor).await;
    assert!(!authority(&kit, &visitor).await.owes_two_factor(RequireTwoFactor::Everyone));
    next_step(&kit);
    let right = code(&kit, &secret, 0);
    let refused = stepping!(&kit, &mut visitor, |s| kit.auth.self_service().turn_two_factor_off(
        s,
        Some(&right),
        visitor.proof(),
        &visitor.from
    ));
    assert!(matches!(refused, Err(ChangeError::Required)), "{refused:?}");
}

#[tokio::test]
async fn an_operator_resets_it_with_a_reason_that_the_audit_keeps() {
    let kit = Kit::new().await;
    let reset = async |user, reason| kit.auth.administration().reset_user_two_factor(Actor::Operator, user, &why(reason)).await;
    assert!(matches!(reset(uuid::Uuid::nil(), "lost phone").await, Err(ActionError::NoSuchUser)));
    let (visitor, ..) = owner(&kit).await;
    let user = kit.auth.administration().user_id(&mara()).await.expect("answers").expect("an account");
    reset(user, "lost phone, ticket 7").await.expect("reset");
    assert!(visitor.authority(&kit.auth).await.is_none(), "every session is over");
    assert_eq!(kit.count("select count(*) from known_browsers").await, 0, "and no browser is known");
    assert_eq!(notices(&kit).await, [Notice::TwoFactorReset]);
    let reason: String =
        sqlx::query_scalar("select details->>'reason' from auth_audit where event_type = 'two_factor.reset' and user_id = $1")
            .bind(user)
            .fetch_one(&kit.pool)
            .await
            .expect("audited");
    assert_eq!(reason, "lost phone, ticket 7");
    assert!(matches!(reset(user, "again").await, Err(ActionError::Nothing)));
    signed_in(&kit, &mara()).await;
}

#[tokio::test]
async fn turning_it_on_forgets_every_known_browser_but_the_one_in_which_it_was_done() {
    let kit = Kit::new().await;
    signed_in(&kit, &mara()).await;
    kit.clock.advance(Span::seconds(31));
    let mut visitor = signed_in(&kit, &mara()).await;
    assert_eq!(kit.count("select count(*) from known_browsers").await, 2);
    enrol(&kit, &mut visitor).await;
    let authority = authority(&kit, &visitor).await;
    let known = kit.auth.self_service().known_browsers(&authority, visitor.proof()).await.expect("answers");
    assert_eq!(known.iter().map(|browser| browser.here).collect::<Vec<_>>(), [true]);
}

#[tokio::test]
async fn an_account_knows_the_twenty_browsers_that_were_used_last() {
    let kit = Kit::new().await;
    let mut first = signed_in(&kit, &mara()).await;
    for _ in 0..21 {
        kit.clock.advance(Span::hours(1));
        signed_in(&kit, &mara()).await;
    }
    assert_eq!(kit.count("select count(*) from known_browsers").await, 20);
    // The first is not among them, and is again once it signs in.
    kit.clock.advance(Span::hours(1));
    kit.letters().await;
    first.give_first_factor(&kit, &mara()).await;
    let authority = authority(&kit, &first).await;
    let known = kit.auth.self_service().known_browsers(&authority, first.proof()).await.expect("answers");
    assert_eq!((known.len(), known[0].here, known.iter().filter(|browser| browser.here).count()), (20, true, 1));
}

// A reset that waits

/// An owner with two-factor, and administrators, where a reset waits so.
async fn where_resets_wait(reset_two_factor: ResetTwoFactor, admins: &[&str]) -> (Kit, Visitor, uuid::Uuid, Vec<Visitor>) {
    let policy = Policy {
        passwordless_auth: true,
        sign_up: SignUp::Open,
        require_two_factor: RequireTwoFactor::None,
        reset_two_factor,
        session_idle: Duration::from_hours(72),
        ..Policy::default()
    };
    let kit = Kit::with(policy).await;
    let (owner, ..) = owner(&kit).await;
    let user = authority(&kit, &owner).await.user;
    let mut visitors = Vec::new();
    for admin in admins {
        kit.auth.users().create(&address(admin), true, None).await.expect("made");
        visitors.push(signed_in(&kit, &address(admin)).await);
    }
    kit.letters().await;
    (kit, owner, user, visitors)
}

/// An administrator who has just given their factor.
async fn reset(kit: &Kit, admin: &Visitor, user: uuid::Uuid) -> Result<Reset, ActionError> {
    let authority = authority(kit, admin).await;
    let authority = Authority { verified_at: Some(kit.auth.now()), ..authority };
    let by = Actor::Admin { authority: &authority, from: &admin.from };
    kit.auth.administration().reset_user_two_factor(by, user, &why("lost phone")).await
}

/// The link in the one mail there is.
async fn link_that_stops(kit: &Kit, due_at: Option<time::OffsetDateTime>) -> RevertToken {
    let letters = kit.letters().await;
    let [letter] = letters.as_slice() else { panic!("expected one mail, found {letters:?}") };
    let Content::Notice { notice, undo: Some(token), by, .. } = &letter.content else { panic!("no link in {letter:?}") };
    assert_eq!((letter.to.clone(), *notice, by), (mara(), Notice::TwoFactorResetRequested { due_at }, &None));
    token.clone()
}

async fn stop(kit: &Kit, token: &RevertToken) -> Result<Reverted, RevertError> {
    let stranger = Visitor::at([192, 0, 2, 9]);
    kit.auth.self_service().revert(token, None, stranger.proof(), &stranger.from).await
}

const A_DAY: ResetTwoFactor = ResetTwoFactor::Wait(Duration::from_hours(24));

#[tokio::test]
async fn a_reset_that_waits_happens_when_its_time_has_come() {
    let (kit, owner, user, admins) = where_resets_wait(A_DAY, &["root@example.org"]).await;
    let due = kit.auth.now() + Span::days(1);
    assert_eq!(reset(&kit, &admins[0], user).await.expect("asked for"), Reset::At(due));
    link_that_stops(&kit, Some(due)).await;
    assert!(matches!(reset(&kit, &admins[0], user).await, Err(ActionError::Nothing)), "it waits already");
    let waits =
        kit.auth.administration().user(Actor::Operator, user).await.expect("answers").expect("there").reset.expect("it waits");
    assert_eq!(
        (waits.due_at, waits.reason.as_str(), waits.asked_by_email.as_deref()),
        (Some(due), "lost phone", Some("root@example.org"))
    );

    kit.clock.advance(Span::days(1) - Span::seconds(1));
    kit.auth.administration().carry_out_resets().await.expect("done");
    assert_eq!(events(&kit, "two_factor.reset").await, 0);
    half_signed_in(&kit).await;
    kit.letters().await;
    kit.clock.advance(Span::seconds(1));
    for auth in [&kit.second().await, &kit.auth] {
        auth.administration().carry_out_resets().await.expect("done");
    }
    assert_eq!(events(&kit, "two_factor.reset").await, 1, "once");
    assert!(owner.authority(&kit.auth).await.is_none(), "every session is over");
    assert_eq!(notices(&kit).await, [Notice::TwoFactorReset]);
    signed_in(&kit, &mara()).await;
}

#[tokio::test]
async fn its_owner_stops_it_with_the_mail_or_by_a_change_of_their_own() {
    let (kit, mut owner, user, admins) = where_resets_wait(A_DAY, &["root@example.org"]).await;
    let due = Some(kit.auth.now() + Span::days(1));
    reset(&kit, &admins[0], user).await.expect("asked for");
    let token = link_that_stops(&kit, due).await;
    assert_eq!(stop(&kit, &token).await.expect("live"), Reverted::TwoFactorReset);
    assert_eq!((events(&kit, "two_factor.reset_stopped").await, notices(&kit).await), (1, vec![Notice::TwoFactorResetStopped]));
    let again = stop(&kit, &token).await;
    assert!(matches!(again, Err(RevertError::NotLive(RevertState::Dead(Dead::Used, Revert::TwoFactorReset)))), "{again:?}");
    reset(&kit, &admins[0], user).await.expect("asked for again");
    let second = link_that_stops(&kit, Some(kit.auth.now() + Span::days(1))).await;

    // Only its owner can add an app.
    let secret = begin(&kit, &owner).await;
    let first = code(&kit, &secret, 0);
    stepping!(&kit, &mut owner, |s| kit.auth.self_service().confirm_two_factor_setup(s, &first, "Tablet", &owner.from))
        .expect("right");
    kit.clock.advance(Span::days(2));
    kit.auth.administration().carry_out_resets().await.expect("done");
    assert_eq!(events(&kit, "two_factor.reset").await, 0);

    // The mail about one reset doesn't stop the next: whoever can read only that mail, at an address the account has left, keeps nobody out.
    reset(&kit, &admins[0], user).await.expect("asked for a third time");
    let old = stop(&kit, &second).await;
    assert!(matches!(old, Err(RevertError::NotLive(RevertState::Dead(Dead::Cancelled, Revert::TwoFactorReset)))), "{old:?}");
}

#[tokio::test]
async fn a_reset_asked_for_by_who_is_no_administrator_any_more_does_not_happen() {
    let (kit, _, user, admins) = where_resets_wait(A_DAY, &["root@example.org", "rogue@example.org"]).await;
    reset(&kit, &admins[1], user).await.expect("asked for");
    let rogue = authority(&kit, &admins[1]).await.user;
    kit.auth.administration().set_admin(Actor::Operator, rogue, false, &why("fired")).await.expect("done");
    kit.letters().await;
    kit.clock.advance(Span::days(1));
    kit.auth.administration().carry_out_resets().await.expect("done");
    assert_eq!((events(&kit, "two_factor.reset").await, notices(&kit).await), (0, vec![Notice::TwoFactorResetStopped]));
}

#[tokio::test]
async fn two_administrators_agree_and_nobody_with_themselves() {
    let admins = ["root@example.org", "priya@example.org", "jonas@example.org"];
    let (kit, owner, user, admins) = where_resets_wait(ResetTwoFactor::Two, &admins).await;
    assert_eq!(reset(&kit, &admins[0], user).await.expect("asked for"), Reset::AwaitsAnother);
    link_that_stops(&kit, None).await;
    assert!(matches!(reset(&kit, &admins[0], user).await, Err(ActionError::Nothing)), "the same one");
    // Who waits too long has to ask again.
    kit.clock.advance(Span::hours(24));
    assert_eq!(reset(&kit, &admins[1], user).await.expect("asked for"), Reset::AwaitsAnother);
    let link = link_that_stops(&kit, None).await;
    assert_eq!(stop(&kit, &link).await.expect("live"), Reverted::TwoFactorReset);
    assert_eq!(reset(&kit, &admins[0], user).await.expect("asked for"), Reset::AwaitsAnother, "what was stopped counts no more");
    kit.letters().await;
    assert!(owner.authority(&kit.auth).await.is_some());

    let (one, other) = tokio::join!(reset(&kit, &admins[1], user), reset(&kit, &admins[2], user));
    let done = [&one, &other].iter().filter(|outcome| matches!(outcome, Ok(Reset::Done))).count();
    assert_eq!((done, events(&kit, "two_factor.reset").await), (1, 1), "{one:?} {other:?}");
    assert!(owner.authority(&kit.auth).await.is_none());
}

/// Or one could make another account of theirs the second.
#[tokio::test]
async fn whom_an_administrator_made_one_is_for_a_day_neither_of_two() {
    let (kit, _, user, admins) = where_resets_wait(ResetTwoFactor::Two, &["root@example.org", "priya@example.org"]).await;
    let own = signed_in(&kit, &address("own@example.org")).await;
    let id = authority(&kit, &own).await.user;
    let root = Authority { verified_at: Some(kit.auth.now()), ..authority(&kit, &admins[0]).await };
    let by = Actor::Admin { authority: &root, from: &admins[0].from };
    kit.auth.administration().set_admin(by, id, true, &why("helps out")).await.expect("an administrator");
    assert!(matches!(reset(&kit, &own, user).await, Err(ActionError::NewAdmin)), "does not ask");
    assert_eq!(reset(&kit, &admins[0], user).await.expect("asked for"), Reset::AwaitsAnother);
    assert!(matches!(reset(&kit, &own, user).await, Err(ActionError::NewAdmin)), "does not agree");
    // Nor one whose account an administrator has just turned on.
    let priya = authority(&kit, &admins[1]).await.user;
    let by = Actor::Admin { authority: &root, from: &admins[0].from };
    kit.auth.administration().disable_user(by, priya, &why("away")).await.expect("off");
    kit.auth.administration().enable_user(by, priya, &why("back")).await.expect("on");
    let back = signed_in(&kit, &address("priya@example.org")).await;
    assert!(matches!(reset(&kit, &back, user).await, Err(ActionError::NewAdmin)), "turned on by another");
    assert_eq!(events(&kit, "two_factor.reset").await, 0);
}

#[tokio::test]
async fn the_word_of_who_was_made_an_ordinary_account_counts_no_more_and_the_shell_waits_for_nobody() {
    let (kit, _, user, admins) = where_resets_wait(ResetTwoFactor::Two, &["root@example.org", "rogue@example.org"]).await;
    reset(&kit, &admins[1], user).await.expect("asked for");
    let rogue = authority(&kit, &admins[1]).await.user;
    kit.auth.administration().set_admin(Actor::Operator, rogue, false, &why("fired")).await.expect("done");
    assert_eq!(reset(&kit, &admins[0], user).await.expect("asked for"), Reset::AwaitsAnother, "nobody's word to agree with");
    assert_eq!(events(&kit, "two_factor.reset").await, 0);
    let at_the_shell = kit.auth.administration().reset_user_two_factor(Actor::Operator, user, &why("lost phone")).await;
    assert_eq!(at_the_shell.expect("done"), Reset::Done);
    assert_eq!(kit.count("select count(*) from two_factor_resets").await, 0);
}

// Trusted browsers

async fn trusting(kit: &Kit, secret: &Secret) -> Visitor {
    let mut visitor = half_signed_in(kit).await;
    let right = code(kit, secret, 0);
    let user = authority(kit, &visitor).await.user;
    enter_totp_at(&kit.auth, &mut visitor, user, &right, true).await.expect("right");
    assert!(visitor.trusted.is_some());
    visitor
}

#[tokio::test]
async fn a_trusted_browser_is_not_asked_and_may_change_nothing_without() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    let mut visitor = trusting(&kit, &secret).await;
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::Complete { .. }));
    let now = authority(&kit, &visitor).await;
    assert_eq!((now.level, now.second), (Level::TwoFactor, Some(auth::identity::SecondFactor::TrustedDevice)));
    assert!(!kit.auth.sign_in().is_fresh(&now), "trust is no factor");
    let devices = kit.auth.factors().trusted_devices(&now, visitor.trusted.as_ref()).await.expect("answers");
    assert_eq!((devices.len(), devices[0].here), (1, true));

    kit.clock.advance(Span::days(30));
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded), "for thirty days");
}

#[tokio::test]
async fn a_made_up_cookie_is_no_trust() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    trusting(&kit, &secret).await;
    let mut other = Visitor { trusted: Some(TrustedDeviceToken::new()), ..Visitor::at([198, 51, 100, 7]) };
    assert!(matches!(other.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded));
}

#[tokio::test]
async fn trust_is_the_accounts_own_and_can_be_taken_back() {
    let kit = Kit::new().await;
    let (owner, secret, _) = owner(&kit).await;
    let mut visitor = trusting(&kit, &secret).await;
    let mut mallory = signed_in(&kit, &address("mallory@example.org")).await;
    let (its, _) = enrol(&kit, &mut mallory).await;
    mallory.trusted.clone_from(&visitor.trusted);
    assert!(matches!(mallory.give_first_factor(&kit, &address("mallory@example.org")).await, Outcome::SecondFactorNeeded));
    let right = code(&kit, &its, 0);
    enter_totp(&kit, &mut mallory, &right).await.expect("right");

    let id = kit.auth.factors().trusted_devices(&authority(&kit, &owner).await, None).await.expect("answers")[0].id;
    assert!(!kit.auth.factors().revoke_trusted_device(&authority(&kit, &mallory).await, id, &mallory.from).await.expect("answers"));
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::Complete { .. }), "it still holds");
    assert!(kit.auth.factors().revoke_trusted_device(&authority(&kit, &owner).await, id, &owner.from).await.expect("answers"));
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded));
}

#[tokio::test]
async fn trust_dies_with_new_codes_and_with_another_app() {
    let kit = Kit::new().await;
    let (mut owner, secret, _) = owner(&kit).await;
    let mut visitor = trusting(&kit, &secret).await;
    next_step(&kit);
    let right = code(&kit, &secret, 0);
    stepping!(&kit, &mut owner, |s| kit.auth.sign_in().step_up(s, Factor::App(&right), owner.proof(), &owner.from)).expect("right");
    let now = authority(&kit, &owner).await;
    let new = kit.auth.self_service().new_backup_codes(&now, &owner.from).await.expect("fresh");
    kit.auth.self_service().save_backup_codes(&now, new.set, &owner.from).await.expect("saved");
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded));

    let mut visitor = trusting(&kit, &secret).await;
    next_step(&kit);
    let right = code(&kit, &secret, 0);
    stepping!(&kit, &mut owner, |s| kit.auth.sign_in().step_up(s, Factor::App(&right), owner.proof(), &owner.from)).expect("right");
    let second = begin(&kit, &owner).await;
    next_step(&kit);
    let its_code = code(&kit, &second, 0);
    stepping!(&kit, &mut owner, |s| kit.auth.self_service().confirm_two_factor_setup(s, &its_code, "", &owner.from))
        .expect("right");
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded));
}

#[tokio::test]
async fn a_backup_code_gives_no_trust_whatever_is_asked() {
    let kit = Kit::new().await;
    let (_, _, codes) = owner(&kit).await;
    let other = half_signed_in(&kit).await;
    let (half, user) = (other.session.expect("a session"), authority(&kit, &other).await.user);
    let finishing = PendingSignIn { half, user, handover: &handover() };
    let signed_in =
        kit.auth.sign_in().enter_second_factor(finishing, Factor::BackupCode(&codes[0]), true, other.proof(), &other.from).await;
    assert!(signed_in.expect("right").trusted_device.is_none());
    assert_eq!(kit.count("select count(*) from trusted_devices").await, 0);
}

#[tokio::test]
async fn trust_can_be_switched_off_for_all() {
    let kit = Kit::with(Policy {
        passwordless_auth: true,
        sign_up: SignUp::Open,
        trusted_device_ttl: Duration::ZERO,
        ..Policy::default()
    })
    .await;
    let (_, secret, _) = owner(&kit).await;
    let mut visitor = half_signed_in(&kit).await;
    let right = code(&kit, &secret, 0);
    let user = authority(&kit, &visitor).await.user;
    enter_totp_at(&kit.auth, &mut visitor, user, &right, true).await.expect("right");
    assert!(visitor.trusted.is_none());
}

// Keys at rest

async fn with_keys(kit: &Kit, current: [u8; 32], previous: &[[u8; 32]]) -> Auth {
    let auth = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&current, previous), kit.auth.policy().clone());
    auth.flag().read().await.expect("the database answers");
    auth
}

async fn refused_as_unreadable(kit: &Kit, auth: &Auth, secret: &Secret, reason: &str) {
    let mut other = half_signed_in(kit).await;
    let right = code(kit, secret, 0);
    let user = authority(kit, &other).await.user;
    let refused = enter_totp_at(auth, &mut other, user, &right, false).await;
    assert!(matches!(refused, Err(SecondFactorError::Unreadable)), "{refused:?}");
    let found: i64 =
        sqlx::query_scalar("select count(*) from auth_audit where event_type = 'totp.unreadable' and details->>'reason' = $1")
            .bind(reason)
            .fetch_one(&kit.pool)
            .await
            .expect("a count");
    assert!(found > 0, "{reason}");
}

#[tokio::test]
async fn a_flipped_bit_and_a_missing_key_fail_closed() {
    let kit = Kit::new().await;
    let (_, secret, codes) = owner(&kit).await;
    refused_as_unreadable(&kit, &with_keys(&kit, random(), &[]).await, &secret, "key_missing").await;
    sqlx::query("update totp_credentials set secret = set_byte(secret, 20, get_byte(secret, 20) # 1)")
        .execute(&kit.pool)
        .await
        .expect("updated");
    refused_as_unreadable(&kit, &kit.auth, &secret, "tampered").await;
    let mut other = half_signed_in(&kit).await;
    enter_backup(&kit, &mut other, &codes[0]).await.expect("a backup code is the way on");
}

#[tokio::test]
async fn two_accounts_secrets_cannot_be_swapped() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    let mut mallory = signed_in(&kit, &address("mallory@example.org")).await;
    let (theirs, _) = enrol(&kit, &mut mallory).await;
    sqlx::query("update totp_credentials a set secret = b.secret from totp_credentials b where a.id <> b.id")
        .execute(&kit.pool)
        .await
        .expect("swapped");
    refused_as_unreadable(&kit, &kit.auth, &secret, "tampered").await;
    refused_as_unreadable(&kit, &kit.auth, &theirs, "tampered").await;
}

#[tokio::test]
async fn a_row_moved_to_another_account_opens_nothing() {
    let kit = Kit::new().await;
    owner(&kit).await;
    let mut mallory = signed_in(&kit, &address("mallory@example.org")).await;
    let (theirs, _) = enrol(&kit, &mut mallory).await;
    sqlx::query(
        "update totp_credentials set user_id = (select id from users where email = 'mara@example.org'), last_step = null
         where user_id = (select id from users where email = 'mallory@example.org')",
    )
    .execute(&kit.pool)
    .await
    .expect("moved");
    let mut other = half_signed_in(&kit).await;
    let known_to_mallory = code(&kit, &theirs, 0);
    let refused = enter_totp(&kit, &mut other, &known_to_mallory).await;
    assert!(matches!(refused, Err(SecondFactorError::Wrong { .. })), "{refused:?}");
}

#[tokio::test]
async fn keys_rotate_while_people_sign_in() {
    let kit = unlimited().await;
    let (_, secret, _) = owner(&kit).await;
    let both = with_keys(&kit, [7; 32], &[TEST_KEY]).await;
    let status = both.factors().key_status().await.expect("answers");
    assert_eq!(
        status.iter().map(|key| (key.current, key.known, key.totp_secrets)).collect::<Vec<_>>(),
        [(true, true, 0), (false, true, 1)]
    );
    let only_new = with_keys(&kit, [7; 32], &[]).await;
    let missing = only_new.factors().key_status().await.expect("answers");
    assert!(missing.iter().any(|key| !key.known && key.totp_secrets == 1), "{missing:?}");
    assert_eq!(only_new.operations().rotate_keys().await.expect("answers").unreadable, 1);

    // An instance that already reads the new key and writes the old one still, as in the middle of a deployment.
    let serving = with_keys(&kit, TEST_KEY, &[[7; 32]]).await;
    for _ in 0..20 {
        let mut other = half_signed_in(&kit).await;
        let user = authority(&kit, &other).await.user;
        let right = code(&kit, &secret, 0);
        let (rotated, signed_in) =
            tokio::join!(both.operations().rotate_keys(), enter_totp_at(&serving, &mut other, user, &right, false));
        signed_in.expect("a sign-in under way is not lost");
        rotated.expect("answers");
    }
    both.operations().rotate_keys().await.expect("answers");
    next_step(&kit);
    let mut other = half_signed_in(&kit).await;
    let right = code(&kit, &secret, 0);
    let user = authority(&kit, &other).await.user;
    enter_totp_at(&only_new, &mut other, user, &right, false).await.expect("the old key is not needed any more");
    let status = only_new.factors().key_status().await.expect("answers");
    assert_eq!(status.iter().map(|key| (key.known, key.totp_secrets)).collect::<Vec<_>>(), [(true, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_without_pause_lose_none_of_a_dozen_sign_ins_at_once() {
    let kit = unlimited().await;
    let mut people = Vec::new();
    for n in 0..12 {
        let email = address(&format!("person{n}@example.org"));
        let mut visitor = signed_in(&kit, &email).await;
        let (secret, _) = enrol(&kit, &mut visitor).await;
        people.push((email, secret));
    }
    next_step(&kit);
    let mut browsers = Vec::new();
    for (email, secret) in people {
        // All within the ten minutes that a second step may take.
        let mut visitor = Visitor::at([198, 51, 100, 7]);
        kit.auth.sign_in().request_link(&email, &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
        let (_, mailed) = kit.sign_in_mail().await;
        let new = handover();
        kit.auth.sign_in().enter_code(&mailed, visitor.proof(), &new, &visitor.from).await.expect("right");
        visitor.session = Some(new.fresh);
        let user = authority(&kit, &visitor).await.user;
        browsers.push((visitor, user, secret));
    }
    // Two keys that take turns: at every moment some secrets lie under one and some under the other.
    let (one, other) = (with_keys(&kit, [7; 32], &[TEST_KEY]).await, with_keys(&kit, TEST_KEY, &[[7; 32]]).await);
    let serving = Arc::new(with_keys(&kit, TEST_KEY, &[[7; 32]]).await);
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let rotating = tokio::spawn({
        let done = done.clone();
        async move {
            let mut rotations = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for keys in [&one, &other] {
                    assert_eq!(keys.operations().rotate_keys().await.expect("answers").unreadable, 0);
                    rotations += 1;
                }
            }
            rotations
        }
    });
    let now = step(kit.auth.now());
    let sign_ins = browsers.into_iter().map(|(mut visitor, user, secret)| {
        let (serving, right) = (serving.clone(), secret.code(now));
        tokio::spawn(async move { enter_totp_at(&serving, &mut visitor, user, &right, false).await })
    });
    for sign_in in sign_ins.collect::<Vec<_>>() {
        sign_in.await.expect("no panic").expect("a sign-in under way is not lost");
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(rotating.await.expect("no panic") >= 2, "they did turn meanwhile");
}

#[tokio::test]
async fn a_secret_that_is_used_comes_under_the_current_key() {
    let kit = Kit::new().await;
    let (_, secret, _) = owner(&kit).await;
    let both = with_keys(&kit, [7; 32], &[TEST_KEY]).await;
    let mut other = half_signed_in(&kit).await;
    let user = authority(&kit, &other).await.user;
    let right = code(&kit, &secret, 0);
    enter_totp_at(&both, &mut other, user, &right, false).await.expect("right");
    assert_eq!(with_keys(&kit, [7; 32], &[]).await.factors().key_status().await.expect("answers").len(), 1);
}

#[tokio::test]
async fn a_dump_holds_no_secret_and_no_code() {
    let kit = Kit::new().await;
    let (_, secret, codes) = owner(&kit).await;
    let rows: Vec<String> = sqlx::query_scalar(
        "select t::text from totp_credentials t union all select b::text from backup_codes b union all select a::text from auth_audit a
         union all select m::text from mail_outbox m",
    )
    .fetch_all(&kit.pool)
    .await
    .expect("rows");
    let dump = rows.join("\n").to_lowercase();
    let base32 = secret.base32().to_lowercase();
    let hex = data_encoding::HEXLOWER.encode(&data_encoding::BASE32_NOPAD.decode(secret.base32().as_bytes()).expect("base32"));
    assert!(!dump.contains(&base32) && !dump.contains(&hex));
    for code in codes {
        let shown = code.reveal();
        assert!(!dump.contains(&shown) && !dump.contains(&shown.replace('-', "")) && !dump.contains(&shown[5..].replace('-', "")));
    }
}

#[tokio::test]
async fn a_failed_second_step_is_told_once_an_hour() {
    let kit = Kit::new().await;
    let mut owner = signed_in(&kit, &mara()).await;
    let (secret, _) = enrol(&kit, &mut owner).await;
    kit.letters().await;
    for (minutes, told) in [(0, 1), (9, 0), (61, 1)] {
        kit.clock.advance(Span::minutes(minutes));
        let mut stranger = half_signed_in(&kit).await;
        let refused = enter_totp(&kit, &mut stranger, &wrong_code(&kit, &secret)).await;
        assert!(matches!(refused, Err(SecondFactorError::Wrong { .. })), "{refused:?}");
        let notices = notices(&kit).await;
        assert_eq!(notices, vec![Notice::SecondStepFailed; told], "after {minutes} minutes");
    }
}
