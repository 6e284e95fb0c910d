//! From the configuration to the values the other crates know. They read no environment, and this is where it stops.

use app::{
    forward_auth::{ForwardAuth, GuardedHost},
    state::Site,
};
use auth::{
    crypto::Keys,
    policy::{
        NamedDomains, Policy, SignUp,
        limits::{Limits, Rate},
    },
};

use crate::config::{self, Config, Key, Signup, development_key};

pub fn policy(config: &Config) -> Policy {
    let rate = |limit: config::Limit| Rate::new(limit.burst, limit.period);
    let limits = &config.limits;
    Policy {
        link_ttl: config.magic_link_ttl,
        session_idle: config.session_idle,
        session_max: config.session_max,
        step_up_ttl: config.step_up_ttl,
        trusted_device_ttl: config.trusted_device_ttl,
        require_two_factor: config.require_two_factor,
        sign_up: match &config.signup {
            Signup::Open => SignUp::Open,
            Signup::Domains(domains) => SignUp::Domains(domains.clone()),
            Signup::Invite => SignUp::Invite,
            Signup::Closed => SignUp::Closed,
        },
        passwordless_auth: config.passwordless_auth,
        redirect_urls: config.redirect_urls.clone(),
        metrics_email_domains: NamedDomains::new(config.metrics_email_domains.iter().cloned()),
        limits: Limits {
            enabled: limits.enforced,
            link_address_network: rate(limits.link_address_network),
            link_address: rate(limits.link_address),
            link_known_browser: rate(limits.link_known_browser),
            link_network: rate(limits.link_network),
            link_all: rate(limits.link_all),
            code_network: rate(limits.code_network),
            totp_account: rate(limits.totp_account),
            backup_account: rate(limits.backup_account),
            step_up_account: rate(limits.step_up_account),
            step_up_mail: rate(limits.step_up_mail),
            address_change: rate(limits.address_change),
            sign_up_network: rate(limits.signup_network),
            api_key: rate(limits.api_key),
        },
    }
}

pub fn keys(config: &Config) -> anyhow::Result<Keys> {
    let current = match &config.wallet_key {
        Key::Given(key) => key.clone(),
        Key::Generate => development_key(&config.data_dir)?,
    };
    let previous: Vec<[u8; 32]> = config.wallet_keys_previous.iter().map(|key| *key.expose()).collect();
    Ok(Keys::new(current.expose(), &previous))
}

pub fn site(config: &Config) -> Site {
    Site {
        base_url: config.base_url.as_url().clone(),
        sender: config.mail_from.email.to_string(),
        legacy_sign_in_url: config.legacy_sign_in_url.clone(),
        forward_auth: config.forward_auth.as_ref().map(|forward_auth| forward_auth_hosts(config, forward_auth)),
    }
}

fn forward_auth_hosts(config: &Config, forward_auth: &config::ForwardAuth) -> ForwardAuth {
    let host = |host: &config::GuardedHost| GuardedHost { name: host.name.clone(), port: host.port, needs: host.needs };
    ForwardAuth {
        domain: forward_auth.domain.clone(),
        hosts: forward_auth.hosts.iter().map(host).collect(),
        // Only development has a BASE_URL without TLS, and then the other hosts are as ours.
        https_only: config.base_url.is_https(),
    }
}
