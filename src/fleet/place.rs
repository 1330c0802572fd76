//! `etcd://host[:port][,host…]/prefix` → where a fleet's map is kept. Pure.

use std::fmt;

/// Where a fleet's map is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Hosts and ports of etcd.
    pub endpoints: Vec<(String, u16)>,
    /// Whether etcd is spoken to in TLS, and its certificates are looked at.
    pub tls: bool,
    /// What all keys begin with: it begins and ends with a slash.
    pub prefix: String,
}

impl Place {
    /// Whether that names a place in etcd, rightly or not; else it is a file.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(CLEAR) || text.starts_with(TLS)
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(text: &str) -> Result<Self, String> {
        let (tls, rest) = match (text.strip_prefix(CLEAR), text.strip_prefix(TLS)) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(format!("\"{text}\" is no place in etcd: {FORM}")),
        };
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(
                "etcd's user and password do not belong into the address, where everybody who lists processes sees \
                 them: set SHARDWAY_ETCD_USER and SHARDWAY_ETCD_PASSWORD"
                    .to_owned(),
            );
        }
        if let Some(at) = prefix.find(['?', '#', '%']) {
            let odd = prefix.get(at..=at).unwrap_or_default();
            return Err(format!("a prefix in etcd is taken as it stands, without \"{odd}\": {FORM}"));
        }
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            return Err(format!("\"{text}\" has no prefix, under which the fleet's keys are: {FORM}"));
        }
        let endpoints = hosts.split(',').map(endpoint).collect::<Option<Vec<_>>>();
        let endpoints = endpoints.ok_or_else(|| format!("\"{hosts}\" are no hosts with ports: {FORM}"))?;
        Ok(Self { endpoints, tls, prefix: format!("/{prefix}/") })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { TLS } else { CLEAR })?;
        for (place, (host, port)) in self.endpoints.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        f.write_str(self.prefix.trim_end_matches('/'))
    }
}

fn endpoint(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(PORT), |it| it.parse().ok().filter(|it| *it != 0))?;
    let right = !host.is_empty() && host.chars().all(|it| it.is_ascii_alphanumeric() || ".-_:".contains(it));
    right.then(|| (host.to_owned(), port))
}

const CLEAR: &str = "etcd://";
const TLS: &str = "etcds://";
const PORT: u16 = 2379;
const FORM: &str = "write etcd://HOST[:PORT][,HOST…]/PREFIX, or etcds:// for TLS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_told() {
        for (text, told) in [
            ("etcd://a/shop", "etcd://a:2379/shop"),
            ("etcd://a,b:1,[::1]:2/x/shop/", "etcd://a:2379,b:1,[::1]:2/x/shop"),
            ("etcds://[fe80::1]/shop", "etcds://[fe80::1]:2379/shop"),
        ] {
            assert!(Place::is_meant(text));
            let place = Place::read(text).unwrap();
            assert_eq!(place.to_string(), told);
            assert_eq!(Place::read(told).unwrap(), place);
        }
        assert_eq!(Place::read("etcd://a//x/shop/").unwrap().prefix, "/x/shop/");
        assert!(!Place::is_meant("shard-map.yaml"));
    }

    #[test]
    fn what_is_no_place_says_why() {
        for (text, why) in [
            ("etcd://a", "no prefix"),
            ("etcd://a/", "no prefix"),
            ("etcd:///shop", "no hosts"),
            ("etcd://a,,b/shop", "no hosts"),
            ("etcd://a:0/shop", "no hosts"),
            ("etcd://a:x/shop", "no hosts"),
            ("etcd://root:secret@a/shop", "SHARDWAY_ETCD_PASSWORD"),
            ("etcd://a/shop?timeout=3", "without \"?\""),
            ("http://a/shop", "no place in etcd"),
        ] {
            assert!(Place::read(text).is_err_and(|it| it.contains(why)), "{text}");
        }
    }
}
