//! Auth packets: who the client says it is (schemes `digest`, `ip`; `super` by configuration), and how `whoAmI` shows it.

use crate::base::address::ip_text;
use crate::base::secret::same_secret;
use crate::base::{Auth, AuthId, Writer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// What decides on auth packets.
#[derive(Clone, Copy, Debug)]
pub struct AuthRules<'a> {
    /// The `digest` scheme is offered.
    pub digest_enabled: bool,
    /// `super:<base64>`; whoever proves to have it passes every ACL.
    pub super_digest: Option<&'a str>,
}

/// The identity every connection starts with.
#[must_use]
pub fn initial(peer: IpAddr) -> Auth {
    Auth { ids: vec![ip_id(peer)] }
}

/// Judges an auth packet: the identities gained, or `None` for a refusal.
#[must_use]
pub fn authenticate(scheme: Option<&str>, credential: Option<&[u8]>, peer: IpAddr, rules: AuthRules<'_>) -> Option<Vec<AuthId>> {
    match scheme {
        Some("ip") => Some(vec![ip_id(peer)]),
        Some("digest") if rules.digest_enabled => {
            let id = digest_id(&String::from_utf8_lossy(credential?));
            let mut ids = Vec::with_capacity(2);
            if rules.super_digest.is_some_and(|known| same_secret(known.as_bytes(), id.as_bytes())) {
                ids.push(AuthId { scheme: "super".into(), id: String::new() });
            }
            ids.push(AuthId { scheme: "digest".into(), id });
            Some(ids)
        }
        _ => None,
    }
}

/// `user:base64(SHA-1(user:password))`; without a colon the whole of it is the user.
#[must_use]
pub fn digest_id(credential: &str) -> String {
    let user = credential.split(':').next().unwrap_or("");
    format!("{user}:{}", STANDARD.encode(Sha1::digest(credential.as_bytes())))
}

/// Appends the body of a whoAmI reply: schemes, and users without secrets.
pub fn write_who_am_i(auth: &Auth, out: &mut impl Writer) {
    out.put_len(auth.ids.len());
    for id in &auth.ids {
        out.put_string(&id.scheme);
        out.put_string(if id.scheme == "digest" { id.id.split(':').next().unwrap_or("") } else { &id.id });
    }
}

fn ip_id(peer: IpAddr) -> AuthId {
    AuthId { scheme: "ip".into(), id: ip_text(peer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn gained(scheme: &str, credential: &[u8], super_digest: Option<&str>) -> Option<Vec<(String, String)>> {
        authenticate(Some(scheme), Some(credential), PEER, AuthRules { digest_enabled: true, super_digest })
            .map(|ids| ids.into_iter().map(|i| (i.scheme, i.id)).collect())
    }

    #[test]
    fn digests_as_zookeeper_computes_them() {
        assert_eq!(digest_id("u:p"), "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=");
        assert_eq!(digest_id("nocolon"), "nocolon:Ra+cHr2ZoHvBjtNArFGNGlVie4g=");
    }

    #[test]
    fn super_needs_the_configured_digest() {
        let digest = ("digest".to_string(), digest_id("super:secret"));
        let known = digest_id("super:secret");
        assert_eq!(gained("digest", b"super:secret", None), Some(vec![digest.clone()]));
        assert_eq!(gained("digest", b"super:secret", Some(&known)), Some(vec![("super".into(), String::new()), digest]));
        let wrong = gained("digest", b"super:wrong", Some(&known)).expect("digest takes anything");
        assert!(wrong.iter().all(|(scheme, _)| scheme != "super"));
    }

    #[test]
    fn schemes_that_cannot_be_proved_are_refused() {
        for scheme in ["world", "auth", "super", "sasl", "x509", "", "DIGEST"] {
            assert_eq!(gained(scheme, b"a:b", None), None, "{scheme}");
        }
        let rules = |digest_enabled| AuthRules { digest_enabled, super_digest: None };
        assert_eq!(authenticate(None, Some(b""), PEER, rules(true)), None);
        assert_eq!(authenticate(Some("digest"), Some(b"u:p"), PEER, rules(false)), None);
        assert_eq!(authenticate(Some("digest"), None, PEER, rules(true)), None, "null is nobody's credential");
        assert_eq!(authenticate(Some("ip"), None, PEER, rules(true)), Some(vec![ip_id(PEER)]));
    }

    #[test]
    fn who_am_i_shows_users_without_secrets() {
        let mut auth = initial(PEER);
        auth.ids.push(AuthId { scheme: "digest".into(), id: digest_id("u:p") });
        let mut out = Vec::new();
        write_who_am_i(&auth, &mut out);
        assert_eq!(out, b"\0\0\0\x02\0\0\0\x02ip\0\0\0\x09127.0.0.1\0\0\0\x06digest\0\0\0\x01u");
    }
}
