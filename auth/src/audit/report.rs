//! What in the audit is unusual: guessing, replays, and acts that somebody should have known of. It points out; what it means, people
//! decide.
//!
//! To add a kind: its rule in [`judge`], its words in `app/src/ui/unusual.rs`.

use std::net::IpAddr;

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::OffsetDateTime;
use uuid::Uuid;

use super::report_store::{
    ACCOUNTS_OF_NETWORK, Act, FAILURES_OF_ACCOUNT, LINKS_OF_NETWORK, REPLAYS, Tally, acts, tallies_of_accounts, tallies_of_networks,
};
use crate::{Audit, Error};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    Tampered,
    Unreadable,
    ManyFailures,
    ManyAccounts,
    ManyLinks,
    Replays,
    TwoFactorReset,
    MadeAdmin,
    Exported,
    AtTheShell,
    ManyRequests,
}

named!(Kind);

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unusual {
    pub kind: Kind,
    /// How often.
    pub count: i64,
    /// The account it happened to.
    pub user: Option<Uuid>,
    /// Who did it.
    pub actor: Option<Uuid>,
    pub ip: Option<IpAddr>,
    /// Of an act: its event.
    pub event: Option<String>,
    /// The reason somebody gave.
    pub reason: Option<String>,
    /// How many accounts, or links, where that is what is unusual.
    pub of: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    pub first: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last: OffsetDateTime,
}

impl Audit<'_> {
    /// What is unusual since then: the gravest kinds first, and of each the newest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn report(self, since: OffsetDateTime) -> Result<Vec<Unusual>, Error> {
        let pool = &self.0.pool;
        let (accounts, networks) = (tallies_of_accounts(pool, since).await?, tallies_of_networks(pool, since).await?);
        Ok(judge(accounts, networks, acts(pool, since).await?))
    }
}

fn judge(accounts: Vec<Tally>, networks: Vec<Tally>, acts: Vec<Act>) -> Vec<Unusual> {
    let of_tally = |tally: &Tally, kind, count, of| Unusual {
        kind,
        count,
        user: tally.user,
        actor: None,
        ip: tally.ip.map(|ip| ip.addr()),
        event: None,
        reason: None,
        of,
        first: tally.first,
        last: tally.last,
    };
    let mut found = Vec::new();
    for tally in accounts {
        if tally.failures >= FAILURES_OF_ACCOUNT {
            found.push(of_tally(&tally, Kind::ManyFailures, tally.failures, None));
        }
        if tally.replays >= REPLAYS {
            found.push(of_tally(&tally, Kind::Replays, tally.replays, None));
        }
    }
    for tally in networks {
        if tally.accounts >= ACCOUNTS_OF_NETWORK {
            found.push(of_tally(&tally, Kind::ManyAccounts, tally.failures, Some(tally.accounts)));
        }
        if tally.links >= LINKS_OF_NETWORK {
            found.push(of_tally(&tally, Kind::ManyLinks, tally.failures, Some(tally.links)));
        }
        if tally.replays >= REPLAYS {
            found.push(of_tally(&tally, Kind::Replays, tally.replays, None));
        }
    }
    for act in acts {
        let at_the_shell = act.by.as_deref() == Some("operator");
        let kind = match act.event.as_str() {
            "audit.tampered" => Kind::Tampered,
            "totp.unreadable" => Kind::Unreadable,
            "two_factor.reset" => Kind::TwoFactorReset,
            "admin.granted" => Kind::MadeAdmin,
            "audit.exported" => Kind::Exported,
            "network.too_many_requests" => Kind::ManyRequests,
            _ if at_the_shell => Kind::AtTheShell,
            _ => continue,
        };
        found.push(Unusual {
            kind,
            count: 1,
            user: act.user,
            actor: act.actor,
            ip: act.network.as_deref().and_then(|network| network.split('/').next()?.parse().ok()),
            event: Some(act.event),
            reason: act.reason,
            of: None,
            first: act.at,
            last: act.at,
        });
    }
    found.sort_by(|a, b| a.kind.cmp(&b.kind).then(b.last.cmp(&a.last)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const AT: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn tally(failures: i64, replays: i64, accounts: i64, links: i64) -> Tally {
        Tally { user: None, ip: None, failures, replays, accounts, links, first: AT, last: AT }
    }

    fn act(event: &str, by: Option<&str>) -> Act {
        let by = by.map(str::to_owned);
        Act { event: event.to_owned(), user: None, actor: None, by, reason: None, network: None, at: AT }
    }

    fn kinds(found: &[Unusual]) -> Vec<Kind> {
        found.iter().map(|unusual| unusual.kind).collect()
    }

    #[test]
    fn what_people_do_every_day_is_not_unusual() {
        assert_eq!(judge(vec![tally(9, 2, 0, 0)], vec![tally(50, 2, 4, 19)], vec![]), []);
        let acts =
            vec![act("user.created", Some("sign_up")), act("user.disabled", Some("admin")), act("flag.changed", Some("rollout"))];
        assert_eq!(judge(vec![], vec![], acts), []);
    }

    #[test]
    fn each_limit_begins_where_it_says() {
        assert_eq!(kinds(&judge(vec![tally(10, 0, 0, 0)], vec![], vec![])), [Kind::ManyFailures]);
        assert_eq!(kinds(&judge(vec![tally(3, 3, 0, 0)], vec![], vec![])), [Kind::Replays]);
        let found = judge(vec![], vec![tally(30, 0, 5, 20)], vec![]);
        assert_eq!(kinds(&found), [Kind::ManyAccounts, Kind::ManyLinks]);
        assert_eq!((found[0].count, found[0].of, found[1].of), (30, Some(5), Some(20)));
    }

    #[test]
    fn acts_are_told_by_what_they_are_and_the_gravest_first() {
        let acts = vec![
            act("sessions.ended", Some("operator")),
            act("audit.exported", Some("operator")),
            act("admin.granted", Some("admin")),
            act("two_factor.reset", Some("operator")),
            act("audit.tampered", None),
        ];
        let found = judge(vec![tally(10, 0, 0, 0)], vec![], acts);
        assert_eq!(
            kinds(&found),
            [Kind::Tampered, Kind::ManyFailures, Kind::TwoFactorReset, Kind::MadeAdmin, Kind::Exported, Kind::AtTheShell]
        );
    }

    #[test]
    fn of_one_kind_the_newest_comes_first() {
        let older = Act { at: AT - time::Duration::HOUR, ..act("two_factor.reset", Some("admin")) };
        let found = judge(vec![], vec![], vec![older, act("two_factor.reset", Some("admin"))]);
        assert!(found[0].last > found[1].last);
    }
}
