//! The check for URLs of replicas and of patterns, as a user types them. Parsing must never panic. The text that is
//! shown of a URL must never hold its user info or a key.

use hydrant::config::{Env, parse_pattern_url, parse_replica_url};

const SECRET: &str = "c2VjcmV0LWthbmFyeQ";

pub(super) fn check(text: &str) {
    // A fuzzer learns the secret from the comparison and may insert it where a URL holds no secrets. Such inputs
    // are skipped.
    if text.contains(&SECRET[..4]) {
        return;
    }
    check_both(text, &no_env);
    check_both(text, &some_env);
    // A known secret is inserted in each place where a URL may hold one, to see that no output shows it.
    check_both(&format!("s3://AK:{SECRET}@{text}"), &no_env);
    if !text.contains(['?', '#']) {
        check_both(&format!("{text}?sse-customer-key={SECRET}"), &no_env);
    }
}

fn check_both(url: &str, env: &Env<'_>) {
    for parsed in [parse_replica_url(url, env), parse_pattern_url(url, env).map(|(location, _)| location)] {
        let shown = match parsed {
            Ok(location) => format!("{location:?} {}", location.display),
            Err(error) => format!("{error:?} {error}"),
        };
        assert!(!shown.contains(SECRET), "shown: {shown}");
    }
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn some_env(name: &str) -> Option<String> {
    Some(
        match name {
            "AWS_ACCESS_KEY_ID" => "AKID",
            "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN" => SECRET,
            "AWS_ENDPOINT_URL" => "https://s3.example.com",
            "AWS_REGION" => "eu-west-1",
            "HOME" => "/home/user",
            _ => return None,
        }
        .to_owned(),
    )
}
