//! Removes secrets from URLs before they are printed: user names and passwords before an `@`, and the values of
//! secret query parameters (docs/GUARANTEES.md, 10).

/// The text that replaces a secret in a URL.
const HIDDEN: &str = "***";

/// A query parameter is secret if its name contains one of these words. Case and the characters `-`, `_` and `.`
/// in the name do not matter.
const SECRET_PARTS: [&str; 6] = ["key", "secret", "token", "password", "signature", "credential"];

/// Returns `url` with user name, password and the values of secret query parameters replaced by `***`. A text
/// without `://` is not a URL and is returned unchanged.
pub fn url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    if let Some(shown) = unescaped_password(rest) {
        return format!("{scheme}://{HIDDEN}@{shown}");
    }
    let (before_fragment, fragment) = match rest.split_once('#') {
        Some((before, fragment)) => (before, Some(fragment)),
        None => (rest, None),
    };
    let (location, query) = match before_fragment.split_once('?') {
        Some((location, query)) => (location, Some(query)),
        None => (before_fragment, None),
    };
    let (authority, path) = location.split_at(location.find('/').unwrap_or(location.len()));
    // The user information ends at the last @, because a password may contain further ones.
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    let mut out = format!("{scheme}://{authority}{path}");
    if let Some(query) = query {
        out.push('?');
        out.push_str(&query.split('&').map(parameter).collect::<Vec<_>>().join("&"));
    }
    if let Some(fragment) = fragment {
        out.push('#');
        out.push_str(fragment);
    }
    out
}

/// Handles a password with an unescaped `/`, `?` or `#`, as in `user:pass/word@host…`. Such a URL is malformed:
/// a URL parser would take a part of the password for the path. If `rest` (the URL without its scheme) looks
/// like this, returns the text after the last `@`; otherwise None. A port (`host:9000/a@b`) and an ARN
/// (`arn:aws:…/a@b`) also have a colon before an `@`, but are not passwords.
fn unescaped_password(rest: &str) -> Option<&str> {
    let (user, after) = rest.split_once(':')?;
    let end = after.find(['/', '?', '#'])?;
    let (word, tail) = after.split_at_checked(end)?;
    let is_port = word.bytes().all(|b| b.is_ascii_digit());
    if user == "arn" || user.contains(['/', '?', '#', '@']) || is_port || word.contains('@') {
        return None;
    }
    tail.rsplit_once('@').map(|(_, host)| host)
}

/// Returns the query parameter `pair` (`name=value`), with its value replaced if it is secret.
fn parameter(pair: &str) -> String {
    let Some((name, value)) = pair.split_once('=') else { return pair.to_owned() };
    let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    let plain: String = decoded.chars().filter(|c| !matches!(c, '-' | '_' | '.')).collect();
    // The value may itself be a URL with a password, as in `endpoint=http://user:password@host`.
    let holds_user = value.contains('@') || value.contains("%40");
    let is_secret = holds_user || SECRET_PARTS.iter().any(|part| plain.contains(part));
    if is_secret { format!("{name}={HIDDEN}") } else { pair.to_owned() }
}

#[cfg(test)]
mod tests {
    use crate::cli::ui::redact::url;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let same = "s3://bucket/a@b/db?endpoint=http://h:9000&region=us-east-1&forcePathStyle=true";
        assert_eq!(url(same), same);
        assert_eq!(url("/plain/path?key=x"), "/plain/path?key=x");
        assert_eq!(url("s3://AKID:se@cret@bucket/db"), "s3://***@bucket/db");
        assert_eq!(url("s3://AKID:se/cr?et@bucket/db"), "s3://***@bucket/db");
        assert_eq!(url("s3://b.host:9000/a@b"), "s3://b.host:9000/a@b");
        assert_eq!(url("s3://arn:aws:s3:r:1:accesspoint/n/a@b"), "s3://arn:aws:s3:r:1:accesspoint/n/a@b");
        assert_eq!(
            url("s3://b/p?sse-customer-key=QUJD&sseCustomerKey=QUJD&access%2Dkey-id=1&sse-customer-algorithm=AES256"),
            "s3://b/p?sse-customer-key=***&sseCustomerKey=***&access%2Dkey-id=***&sse-customer-algorithm=AES256"
        );
        assert_eq!(url("s3://b/p?endpoint=http://u:se@h&region=r"), "s3://b/p?endpoint=***&region=r");
        assert_eq!(url("s3://b/p?endpoint=http%3A%2F%2Fu%3Ase%40h"), "s3://b/p?endpoint=***");
        assert_eq!(url("s3://b/p?session_token=x#f"), "s3://b/p?session_token=***#f");
    }
}
