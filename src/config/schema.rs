//! The YAML structure of litestream.yml, as far as a restore needs it.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// The settings of a replica. Most of them are also allowed at the top level, as defaults. `type`, `path` and `url`
/// have no effect at the top level. The type is not `Debug` because it holds secrets.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct ReplicaYaml {
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub session_token: Option<String>,
    pub region: Option<String>,
    pub bucket: Option<String>,
    pub endpoint: Option<String>,
    pub force_path_style: Option<bool>,
    pub skip_verify: Option<bool>,
    pub sse_customer_algorithm: Option<String>,
    pub sse_customer_key: Option<String>,
    pub sse_customer_key_path: Option<String>,
    pub sse_customer_key_md5: Option<String>,
    pub age: Option<AgeYaml>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub path: Option<String>,
    pub url: Option<String>,
}

/// The keys of encryption with age. Litestream 0.3 reads `identities` and `recipients` and ignores any other key, so
/// that a misspelt one encrypts nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct AgeYaml {
    identities: Option<Vec<IgnoredAny>>,
    recipients: Option<Vec<IgnoredAny>>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

impl AgeYaml {
    /// Whether the files of the replica are encrypted.
    pub(super) fn is_used(&self) -> bool {
        [&self.identities, &self.recipients].into_iter().flatten().any(|list| !list.is_empty())
    }

    /// Whether there is a key that Litestream does not know.
    pub(super) fn has_unknown_key(&self) -> bool {
        !self.unknown.is_empty()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct FileYaml {
    pub dbs: Option<Vec<Option<Spanned<DatabaseYaml>>>>,
}

/// The top level again, for the section that only `restore-pattern` reads.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct SectionYaml {
    pub restore_pattern: Option<RestorePatternYaml>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct DatabaseYaml {
    pub path: Option<String>,
    pub dir: Option<String>,
    pub pattern: Option<String>,
    pub recursive: Option<bool>,
    pub replica: Option<ReplicaYaml>,
    pub replicas: Option<Vec<Option<ReplicaYaml>>>,
}

/// The section is Hydrant's own, so a key that it does not know is a mistake.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct RestorePatternYaml {
    pub parallel_workers: Option<Spanned<u32>>,
    pub max_retries: Option<Spanned<u32>>,
    pub retry_delay: Option<Spanned<String>>,
    pub owner: Option<Spanned<String>>,
    pub mode: Option<Spanned<String>>,
    pub dir_mode: Option<Spanned<String>>,
    pub connect_timeout: Option<Spanned<String>>,
    pub stall_timeout: Option<Spanned<String>>,
}
