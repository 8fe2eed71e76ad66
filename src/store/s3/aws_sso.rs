//! Sessions of IAM Identity Center (SSO) whose names hold characters that aws-config does not accept, such as spaces.
//!
//! aws-config sees such a name in an encoded form (`aws_files`), and looks for the session's token in the file named
//! by the SHA-1 of what it sees. `aws sso login` has written the file named by the SHA-1 of the real name. So
//! these profiles get a credential source of their own, which knows the real name.

use super::aws_files::AwsFiles;
use aws_config::profile::ProfileSet;
use aws_config::provider_config::ProviderConfig;
use aws_config::sso::SsoCredentialsProvider;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::region::Region;
use percent_encoding::percent_decode_str;

/// A profile that uses such a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SsoProfile {
    /// The profile's name, encoded.
    profile: String,
    /// The name of the credential source that takes the place of the session. No other source has it.
    pub(super) source: String,
    /// The session's real name.
    session: String,
    account_id: String,
    role_name: String,
    region: String,
    start_url: String,
}

impl SsoProfile {
    /// The profiles that use such a session and say all that is needed. aws-config says what others lack.
    pub(super) fn all(files: &AwsFiles) -> Vec<Self> {
        let Some(set) = &files.sections() else { return Vec::new() };
        let mut names: Vec<&str> = set.profiles().collect();
        names.sort_unstable();
        names.into_iter().enumerate().filter_map(|(n, name)| Self::of(set, name, n)).collect()
    }

    fn of(set: &ProfileSet, name: &str, n: usize) -> Option<Self> {
        let profile = set.get_profile(name)?;
        let encoded = profile.get("sso_session")?;
        let session = percent_decode_str(encoded).decode_utf8().ok()?.into_owned();
        // A profile that assumes a role takes its credentials from another one.
        if session == encoded || profile.get("role_arn").is_some() {
            return None;
        }
        let of_session = set.sso_session(encoded)?;
        Some(Self {
            profile: name.to_owned(),
            source: format!("hydrant-sso-{n}"),
            session,
            account_id: profile.get("sso_account_id")?.to_owned(),
            role_name: profile.get("sso_role_name")?.to_owned(),
            region: of_session.get("sso_region")?.to_owned(),
            start_url: of_session.get("sso_start_url")?.to_owned(),
        })
    }

    /// The provider of the profile's credentials.
    pub(super) fn provider(&self, config: &ProviderConfig) -> SsoCredentialsProvider {
        SsoCredentialsProvider::builder()
            .configure(config)
            .account_id(&self.account_id)
            .role_name(&self.role_name)
            .region(Region::new(self.region.clone()))
            .start_url(&self.start_url)
            .session_name(&self.session)
            .build()
    }
}

/// The texts of `files`, in which each of `profiles` names its credential source in place of its session.
pub(super) fn contents(files: &AwsFiles, profiles: &[SsoProfile]) -> EnvConfigFiles {
    let (config, credentials) = files.texts();
    EnvConfigFiles::builder()
        .with_contents(EnvConfigFileKind::Config, with_sources(&config, profiles))
        .with_contents(EnvConfigFileKind::Credentials, with_sources(&credentials, profiles))
        .build()
}

/// `text`, which is normalised, with other credential sources.
fn with_sources(text: &str, profiles: &[SsoProfile]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let name = name.strip_prefix("profile ").unwrap_or(name);
            current = profiles.iter().find(|profile| profile.profile == name);
        }
        match current.filter(|_| is_session(line)) {
            Some(profile) => out.push_str(&format!("credential_source = {}", profile.source)),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// Whether a line sets the session.
fn is_session(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| key.trim_end().eq_ignore_ascii_case("sso_session"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_encoded_get_a_source() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let of_profile = "sso_account_id = 1\nsso_role_name = r\n";
        let session = "sso_region = eu-west-1\nsso_start_url = https://x\n";
        let config = format!(
            "[default]\nSSO_Session = My Org\n{of_profile}[profile a b]\nsso_session = My Org # comment\n{of_profile}\
             [profile plain]\nsso_session = org\n{of_profile}[profile partial]\nsso_session = My Org\n\
             [sso-session My Org]\n{session}[sso-session org]\n{session}"
        );
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        let home = home.path().to_str().unwrap().to_owned();
        let files = AwsFiles::read(None, &|name| (name == "HOME").then(|| home.clone()));
        let profiles = SsoProfile::all(&files);
        let found: Vec<_> = profiles.iter().map(|p| (p.profile.as_str(), p.session.as_str())).collect();
        assert_eq!(found, [("a%20b", "My Org"), ("default", "My Org")]);
        let (text, _) = files.texts();
        let changed = with_sources(&text, &profiles);
        let sources: Vec<_> = changed.lines().filter(|line| line.starts_with("credential_source")).collect();
        let [named, default] = &profiles[..] else { panic!() };
        let line = |profile: &SsoProfile| format!("credential_source = {}", profile.source);
        assert_eq!(sources, [line(default), line(named)]);
        assert!(changed.contains("sso_session = org\n") && changed.contains("sso_session = My%20Org\n"), "{changed}");
    }
}
