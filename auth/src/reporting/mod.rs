//! Counts for pages and metrics, from roll-ups.
//!
//! Not here: the audit itself (`audit`).
//! To add one: a field of `Counts`, its query in `event_counts`.

pub mod event_counts;
pub mod gauges;
pub mod overview;

use strum::VariantArray;

use crate::{
    Reporting,
    event::{DELIVERY_RESULTS, FACTOR_RESULTS, REQUEST_STATUSES, RevokeReason, VERIFICATION_RESULTS},
    identity::{Level, Method},
    policy::limits::Limit,
};

impl Reporting<'_> {
    /// Puts every counter of ours at nothing. One that appeared with its first event would hide it: a rate is a difference, and there
    /// would be nothing to subtract.
    pub fn start_counters(self) {
        for domain in self.0.policy.metrics_email_domains.labels() {
            for status in REQUEST_STATUSES {
                metrics::counter!("auth_magiclink_requests_total", "email_domain" => domain.clone(), "status" => status)
                    .increment(0);
            }
        }
        for result in VERIFICATION_RESULTS {
            for method in [Method::Link, Method::Code] {
                metrics::counter!("auth_magiclink_verifications_total", "result" => result, "method" => method.as_str())
                    .increment(0);
            }
        }
        for result in FACTOR_RESULTS {
            metrics::counter!("auth_totp_verify_total", "result" => result).increment(0);
            metrics::counter!("auth_backup_code_verify_total", "result" => result).increment(0);
        }
        for level in [Level::FirstFactor, Level::Email, Level::TwoFactor] {
            metrics::counter!("auth_sessions_created_total", "level" => level.as_str()).increment(0);
        }
        for reason in RevokeReason::VARIANTS {
            metrics::counter!("auth_sessions_revoked_total", "reason" => <&str>::from(reason)).increment(0);
        }
        for result in DELIVERY_RESULTS {
            metrics::counter!("mail_deliveries_total", "result" => result).increment(0);
        }
        for limit in Limit::ALL {
            metrics::counter!("rate_limited_total", "limit" => limit.name()).increment(0);
        }
    }
}
