//! The command line as typed, in parts: to run a command again for what failed, or for one database of its pattern.

use crate::cli::args::call::Call;
use crate::cli::args::repeat::RepeatCall;
use crate::cli::args::resolved::TypedCall;
use crate::cli::args::shell::shell_word;
use crate::cli::ui::redact;
use crate::config;
use std::ffi::OsString;

/// The command line of `command` with the flags and positionals of `words`, without the flags that a suggestion gives
/// anew, for a person to run again.
pub(super) fn typed_call(command: &str, words: &[OsString]) -> TypedCall {
    let mut call = TypedCall { flags: format!("hydrant {command}"), pattern: String::new() };
    let mut words = words.iter().map(|word| word.to_string_lossy());
    for word in words.by_ref().take_while(|word| word != "--") {
        let (flag, value) = word.split_once('=').map_or((word.as_ref(), None), |(flag, value)| (flag, Some(value)));
        if matches!(flag, "--only" | "--save-catalogue" | "--catalogue") {
            continue;
        }
        call.flags.push_str(&format!(" {flag}"));
        if let Some(value) = value {
            call.flags.push_str(&format!(" {}", shell_word(&redact::url(value))));
        }
    }
    call.pattern = words.map(|word| format!(" {}", shell_word(&redact::url(&word)))).collect();
    call
}

/// The call of `command` for one database of the `pattern` that the command line `words` of `typed` names. `is_moved`:
/// whether configured databases are restored to other paths than their own; None: `command` writes no database. None:
/// the call would hold a secret.
pub(super) fn repeat_call(
    typed: &str,
    command: &str,
    words: &[OsString],
    pattern: &str,
    is_moved: Option<bool>,
) -> Option<RepeatCall> {
    /// What is about the run, not about one database.
    const OF_THE_RUN: [&str; 13] = [
        "progress",
        "no-progress",
        "if-db-not-exists",
        "if-replica-exists",
        "dry-run",
        "metrics-textfile",
        "catalogue",
        "save-catalogue",
        "report",
        "expect",
        "sample",
        "seed",
        "shard",
    ];
    let args: Vec<OsString> = std::iter::once(typed.into()).chain(words.iter().cloned()).collect();
    let call = OF_THE_RUN.iter().fold(Call::of(&args)?.into_command(command), |call, flag| call.without(flag));
    let url = match config::is_replica_url(pattern) {
        false => None,
        true if redact::url(pattern) != pattern => return None,
        true => Some(around_path(pattern)?),
    };
    Some(RepeatCall { flags: call.without_positionals().shown()?, url, is_moved })
}

/// What stands before and behind the path of a replica URL.
fn around_path(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (location, query) = rest.split_once('?').map_or((rest, String::new()), |(l, q)| (l, format!("?{q}")));
    if scheme.eq_ignore_ascii_case("file") {
        return Some((format!("{scheme}://"), query));
    }
    // The name of an access point is behind the slash of its ARN.
    let slashes = if location.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("arn:")) { 2 } else { 1 };
    let bucket: Vec<&str> = location.splitn(slashes + 1, '/').take(slashes).collect();
    (bucket.len() == slashes).then(|| (format!("{scheme}://{}/", bucket.join("/")), query))
}
