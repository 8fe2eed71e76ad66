//! Access to environment variables, and the default path of litestream.yml.

use crate::store::s3::{AwsFiles, ProfileEndpoint};
use std::cell::OnceCell;
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

/// The environment, and what the AWS profile says about endpoints. The files of the profile are read
/// when first needed, once for all replicas of a configuration.
pub(super) struct Ambient<'a> {
    env: &'a Env<'a>,
    profile: OnceCell<ProfileEndpoint>,
}

impl<'a> Ambient<'a> {
    pub(super) fn new(env: &'a Env<'a>) -> Self {
        Self { env, profile: OnceCell::new() }
    }

    pub(super) fn env(&self) -> &'a Env<'a> {
        self.env
    }

    /// The value of a variable that is set and not empty, without white space around it: secrets
    /// from files often end with a line feed.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(super) fn profile(&self) -> &ProfileEndpoint {
        self.profile.get_or_init(|| AwsFiles::read(None, self.env).endpoint())
    }
}
