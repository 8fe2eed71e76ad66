//! The parameters in the query of an `s3://` URL: which have an effect, which have none, and which are a mistake
//! (docs/FORMAT.md, "Replica URLs").

use super::ConfigError;
use url::form_urlencoded;

/// Parameters that have an effect on reading, in the spelling that messages name.
const USED: [&str; 7] = [
    "endpoint",
    "region",
    "forcePathStyle",
    "skipVerify",
    "sseCustomerAlgorithm",
    "sseCustomerKey",
    "sseCustomerKeyMD5",
];
/// Litestream's parameters for writing. They have no effect here and are no mistake.
const FOR_WRITING: [&str; 6] =
    ["signPayload", "storageClass", "partSize", "concurrency", "requireContentMD5", "sseKmsKeyId"];
/// Words in the names of parameters that hold a key or a password, in the form of [`plain`].
const SECRET_PARTS: [&str; 8] =
    ["accesskey", "secret", "token", "password", "passwd", "signature", "credential", "apikey"];
/// A longer name is not shown: it may be a part of a secret.
const LONGEST_SHOWN: usize = 32;

const KEYS: &str = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or access-key-id and secret-access-key in the config";
const TOKEN: &str = "AWS_SESSION_TOKEN, or session-token in the config";

/// Checks the names of all parameters in `query`. Returns warnings about those without effect. Neither errors nor
/// warnings show a value.
pub(super) fn check(query: &str) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if is_known(&name) || name.is_empty() {
            continue;
        }
        let plain = plain(&name);
        if SECRET_PARTS.iter().any(|part| plain.contains(part)) {
            let instead = if plain.contains("token") { TOKEN } else { KEYS };
            return Err(ConfigError::KeyInUrl { instead });
        }
        // An @ belongs to a user and a password. Then what looks like a name may be a part of the password.
        let is_shown = name.len() <= LONGEST_SHOWN
            && !query.contains('@')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !is_shown {
            warnings.push("replica url: a parameter that is unknown has no effect".to_owned());
            continue;
        }
        if let Some(near) = near(&plain) {
            return Err(ConfigError::UnknownParameter { found: name.into_owned(), near });
        }
        warnings.push(format!("replica url: the parameter '{name}' is unknown and has no effect"));
    }
    warnings.dedup();
    Ok(warnings)
}

fn known() -> impl Iterator<Item = &'static str> {
    USED.into_iter().chain(FOR_WRITING)
}

/// Whether `name` is a parameter's name in one of its spellings: `partSize`, `part-size`; `sseCustomerKeyMD5`,
/// `sseCustomerKeyMd5`, `sse-customer-key-md5`.
fn is_known(name: &str) -> bool {
    known().any(|known| name == known || name == kebab(known))
        || matches!(name, "sseCustomerKeyMd5" | "requireContentMd5")
}

/// `partSize` as `part-size`. `MD5` is one word.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut in_capitals = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && !in_capitals {
            out.push('-');
        }
        in_capitals = c.is_ascii_uppercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// `name` in lower case, without hyphens, underscores and dots.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | '.')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The parameter that a typing error of one letter, or two letters swapped, or the case and hyphens tell from `plain`.
fn near(plain_name: &str) -> Option<&'static str> {
    known().find(|known| strsim::osa_distance(plain_name, &plain(known)) <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_are_known() {
        for name in [
            "endpoint",
            "force-path-style",
            "forcePathStyle",
            "sse-customer-key-md5",
            "sseCustomerKeyMd5",
            "require-content-md5",
            "requireContentMD5",
            "sse-kms-key-id",
            "part-size",
            "storageClass",
        ] {
            assert_eq!(check(&format!("{name}=x")), Ok(Vec::new()), "{name}");
        }
    }

    #[test]
    fn mistakes_are_errors_and_the_unknown_is_a_warning() {
        for (name, near) in [
            ("forcepathstyle", "forcePathStyle"),
            ("ForcePathStyle", "forcePathStyle"),
            ("force_path_style", "forcePathStyle"),
            ("forcePathStile", "forcePathStyle"),
            ("forcePathStyl", "forcePathStyle"),
            ("endpiont", "endpoint"),
            ("Region", "region"),
            ("regions", "region"),
            ("skip-verfy", "skipVerify"),
            ("partsize", "partSize"),
        ] {
            let error = check(&format!("region=r&{name}=hunter2")).unwrap_err();
            assert_eq!(error, ConfigError::UnknownParameter { found: name.to_owned(), near }, "{name}");
            assert_eq!(error.to_string(), format!("replica url: unknown parameter '{name}': did you mean {near}?"));
        }
        let warnings = check("x=1&forcePath=hunter2&x=2&region=r").unwrap();
        assert_eq!(warnings.len(), 3);
        assert_eq!(warnings[1], "replica url: the parameter 'forcePath' is unknown and has no effect");
    }

    #[test]
    fn keys_and_secrets_are_errors_and_never_shown() {
        for name in
            ["access-key-id", "accessKeyId", "secret_access_key", "AWSAccessKeyId", "X-Amz-Signature", "password"]
        {
            let error = check(&format!("{name}=hunter2")).unwrap_err();
            assert_eq!(error, ConfigError::KeyInUrl { instead: KEYS }, "{name}");
            assert!(error.to_string().starts_with("replica url: keys do not belong in a URL: set AWS_ACCESS_KEY_ID"));
        }
        assert_eq!(check("session-token=hunter2"), Err(ConfigError::KeyInUrl { instead: TOKEN }));
        for query in ["hunter2@host/p", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "a/b=hunter2", "hunter2=x&y=@"] {
            let shown = format!("{:?}", check(query));
            assert!(!shown.contains("hunter2") && !shown.contains("wJalr"), "{shown}");
        }
    }
}
