//! Replaces variables in the text of litestream.yml, as Litestream does.

use super::Env;

/// At most this many variables without a value are remembered, for messages.
const MOST_UNSET: usize = 1000;

/// A text whose variables were replaced.
pub(super) struct Expanded {
    pub text: String,
    /// The variables without a value that may be named, in the order of the text.
    pub unset: Vec<Unset>,
}

/// A variable that is not set, or empty.
pub(super) struct Unset {
    pub name: String,
    /// Its line in the expanded text, from 1.
    pub line: u64,
}

/// Replaces `$NAME` and `${NAME}` as Go's `os.Expand` does. A variable that is not set becomes empty.
/// `${NAME:-default}` has no special meaning: it names a variable that does not exist. A `$` before any other
/// character stays. Malformed braces are removed. Returns None if the result is larger than `limit_bytes`.
pub(super) fn expand(text: &str, env: &Env<'_>, limit_bytes: usize) -> Option<Expanded> {
    let mut out = String::with_capacity(text.len());
    let mut unset = Vec::new();
    let (mut line, mut counted) = (1, 0);
    let mut rest = text;
    // This loop ends: each turn takes a `$` from the text.
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = match shell_name(after) {
            Reference::Name(name, after) => {
                let value = value_of(name, env);
                if value.is_empty() && unset.len() < MOST_UNSET && may_be_named(name, &out) {
                    let new = out.get(counted..).unwrap_or_default();
                    line += new.bytes().filter(|b| *b == b'\n').count() as u64;
                    counted = out.len();
                    unset.push(Unset { name: name.to_owned(), line });
                }
                out.push_str(&value);
                after
            }
            Reference::Malformed(after) => after,
            Reference::None => {
                out.push('$');
                after
            }
        };
        if out.len() > limit_bytes {
            return None;
        }
    }
    out.push_str(rest);
    (out.len() <= limit_bytes).then_some(Expanded { text: out, unset })
}

/// Whether messages may name the variable `name` that follows `before`. A `$` in a password is no reference, and
/// what follows it is a part of a secret. A variable in a comment matters to nobody.
fn may_be_named(name: &str, before: &str) -> bool {
    let is_name = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let line = before.rsplit('\n').next().unwrap_or_default();
    let lower = line.to_ascii_lowercase();
    is_name && !line.contains('#') && !["secret", "key", "token", "passw"].iter().any(|word| lower.contains(word))
}

fn value_of(name: &str, env: &Env<'_>) -> String {
    if name == "PID" { std::process::id().to_string() } else { env(name).unwrap_or_default() }
}

/// What follows a `$`. The second text of `Name`, and the text of `Malformed`, is the rest of the input.
enum Reference<'a> {
    Name(&'a str, &'a str),
    Malformed(&'a str),
    None,
}

fn shell_name(text: &str) -> Reference<'_> {
    let is_special = |c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9');
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.split_once('}') {
            Some(("", after)) => Reference::Malformed(after),
            Some((name, after)) => Reference::Name(name, after),
            None => Reference::Malformed(inner),
        };
    }
    let end = match text.chars().next() {
        Some(c) if is_special(c) => c.len_utf8(),
        _ => text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len()),
    };
    match text.split_at_checked(end) {
        Some((name, after)) if !name.is_empty() => Reference::Name(name, after),
        _ => Reference::None,
    }
}
