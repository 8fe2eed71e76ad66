//! Access to environment variables, and the default path of litestream.yml.

use std::path::PathBuf;

/// A source of environment variables. It returns the value of the named variable, or None if the variable is not
/// set. Tests pass their own.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Reads a variable of this process's environment. A value that is not UTF-8 counts as not set.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The path of litestream.yml if `-config` is not given: `$LITESTREAM_CONFIG`, else `/etc/litestream.yml`
/// (docs/CLI.md, "hydrant restore").
pub fn default_config_path(env: &Env<'_>) -> PathBuf {
    env("LITESTREAM_CONFIG")
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from("/etc/litestream.yml"), PathBuf::from)
}
