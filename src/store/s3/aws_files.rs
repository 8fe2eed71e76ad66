//! Reads the AWS config and credentials files as the AWS CLI and the SDKs for Go and Rust do.
//!
//! aws-config rejects a whole file because of lines that those tools accept: an indented setting, text after a
//! section's `]`, or a line without `=`. [`normalised`] rewrites such lines one by one, so line numbers in
//! error messages stay right. It also makes names with spaces possible: every character of a name outside
//! `A-Za-z0-9_-/.@:+` is written as `%XX` wherever the name occurs.

use aws_config::profile::{ProfileSet, load};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::env_config::property::PropertiesKey;
use aws_types::os_shim_internal::{Env, Fs};
use futures_util::FutureExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Maximum size of an AWS config or credentials file in bytes. A larger file is not read.
const FILE_LIMIT_BYTES: u64 = 4 << 20;
/// Characters of a name that are percent-encoded. `%` is one of them, so that `a%20b` and `a b` stay different
/// names.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'/').remove(b'.').remove(b'@').remove(b':').remove(b'+');
/// Settings whose value is the name of another section. The name is encoded there too.
const NAMES_A_SECTION: [&str; 3] = ["source_profile", "sso_session", "services"];

/// The AWS config file, the credentials file and the profile in use. `Debug` hides the files' texts, which
/// contain keys.
#[derive(Clone)]
pub struct AwsFiles {
    config: AwsFile,
    credentials: AwsFile,
    /// Name of the profile as the user typed it.
    profile: String,
    /// Whether a flag or a variable names the profile. Otherwise it is `default`.
    named: bool,
}

#[derive(Clone)]
struct AwsFile {
    path: PathBuf,
    /// The file's normalised text, or the reason why it cannot be read.
    text: Result<String, String>,
}

/// Settings of a profile that decide the S3 endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileEndpoint {
    /// `endpoint_url` of the profile's `services` section for `s3`, or else the profile's own `endpoint_url`.
    pub endpoint_url: Option<String>,
    /// True if the profile sets `ignore_configured_endpoint_urls = true`.
    pub ignore: bool,
    /// Region that the profile sets. None: it sets none.
    pub region: Option<String>,
}

impl fmt::Debug for AwsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsFiles").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl AwsFiles {
    /// Reads both files. `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE` name them, else they are
    /// `~/.aws/config` and `~/.aws/credentials`. The profile is `profile`, else `AWS_PROFILE`, else
    /// `AWS_DEFAULT_PROFILE`, else `default`. `lookup` returns environment variables. A file that cannot be
    /// read counts as empty, and `AwsFiles::described` says why.
    pub fn read(profile: Option<&str>, lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let home = variable("HOME").map(PathBuf::from);
        let path = |name: &str, default: &str| {
            let path = variable(name).unwrap_or_else(|| format!("~/.aws/{default}"));
            match (path.strip_prefix("~/"), &home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => PathBuf::from(path),
            }
        };
        let named = profile.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
        let named = named.or_else(|| variable("AWS_DEFAULT_PROFILE"));
        Self {
            config: AwsFile::read(path("AWS_CONFIG_FILE", "config"), EnvConfigFileKind::Config),
            credentials: AwsFile::read(
                path("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
                EnvConfigFileKind::Credentials,
            ),
            named: named.is_some(),
            profile: named.unwrap_or_else(|| "default".to_owned()),
        }
    }

    /// Returns both files' normalised texts: of the config file and of the credentials file.
    pub(super) fn texts(&self) -> (String, String) {
        (self.config.text(), self.credentials.text())
    }

    /// Returns both files' normalised texts in the form that aws-config takes.
    pub(super) fn contents(&self) -> EnvConfigFiles {
        EnvConfigFiles::builder()
            .with_contents(EnvConfigFileKind::Config, self.config.text())
            .with_contents(EnvConfigFileKind::Credentials, self.credentials.text())
            .build()
    }

    /// Returns the profile's name in the encoded form that aws-config sees.
    pub(super) fn profile_name(&self) -> String {
        escaped(&self.profile)
    }

    /// Replaces the encoded name of the profile in a message of aws-config with the name that the user typed.
    pub(super) fn unescaped(&self, text: &str) -> String {
        text.replace(&self.profile_name(), &self.profile)
    }

    /// Returns what the profile says about the S3 endpoint. If the files cannot be parsed, returns the default,
    /// and the credentials chain reports the error.
    pub fn endpoint(&self) -> ProfileEndpoint {
        let Some(set) = self.sections() else { return ProfileEndpoint::default() };
        let value = |name| set.get(name).map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned);
        let of_service = value("services").and_then(|services| {
            let key = PropertiesKey::builder()
                .section_key("services")
                .section_name(services)
                .property_name("s3")
                .sub_property_name("endpoint_url")
                .build();
            set.other_sections().get(&key.ok()?).map(|v| v.to_string())
        });
        ProfileEndpoint {
            endpoint_url: of_service.or_else(|| value("endpoint_url")),
            ignore: value("ignore_configured_endpoint_urls").is_some_and(|v| v.eq_ignore_ascii_case("true")),
            region: value("region"),
        }
    }

    /// Describes for an error message whether the profile exists and in which files it was looked for.
    pub(super) fn described(&self) -> String {
        let (config, credentials) = (self.config.path.display(), self.credentials.path.display());
        let known = self.sections().is_some_and(|set| set.get_profile(&self.profile_name()).is_some());
        let mut text = format!("profile {}", self.profile);
        if known {
            text.push_str(&format!(": no keys in {config} or {credentials}"));
        } else if self.named {
            text.push_str(&format!(": neither {config} nor {credentials} has it"));
        } else {
            text.push_str(&format!(": neither in {config} nor in {credentials}"));
        }
        for file in [&self.config, &self.credentials] {
            if let Err(reason) = &file.text {
                text.push_str(&format!("; {}: {reason}", file.path.display()));
            }
        }
        text
    }

    /// If the profile uses IAM Identity Center, returns the `aws sso login` command that renews its session.
    pub(super) fn sso_login(&self) -> Option<String> {
        let set = self.sections()?;
        (set.get("sso_session").or_else(|| set.get("sso_start_url")))
            .map(|_| format!("aws sso login --profile {}", self.profile))
    }

    /// Returns the sections of both files, their names encoded. None if the files cannot be parsed.
    pub(super) fn sections(&self) -> Option<ProfileSet> {
        let name = Cow::Owned(self.profile_name());
        // The contents are passed in, so this future reads nothing and is ready at once.
        let env = Env::from_slice(&[]);
        load(&Fs::real(), &env, &self.contents(), Some(name)).now_or_never()?.ok()
    }
}

impl AwsFile {
    fn read(path: PathBuf, kind: EnvConfigFileKind) -> Self {
        let text = read_text(&path).map(|text| normalised(&text, kind));
        Self { path, text }
    }

    fn text(&self) -> String {
        self.text.as_ref().cloned().unwrap_or_default()
    }
}

/// Returns the text of the file. Returns an empty text if the file does not exist.
fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(format!("it cannot be read: {error}")),
        Ok(_) if bytes.len() as u64 > FILE_LIMIT_BYTES => return Err("it is larger than 4 MiB".to_owned()),
        Ok(_) => {}
    }
    // Only comments and values can contain bytes that are not UTF-8. They are replaced, so the rest stays
    // readable.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Rewrites `text` line by line into the form that aws-config's parser accepts.
fn normalised(text: &str, kind: EnvConfigFileKind) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut section = false;
    // Indentation of the latest setting, and whether its value continues in indented sub-settings.
    let mut setting: Option<(usize, bool)> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start().len();
        let line = if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            Cow::Borrowed("")
        } else if let Some((_, sub_settings)) = setting.filter(|&(of_setting, _)| indent > of_setting) {
            // The line is indented more than the setting before it, so it belongs to that setting's value.
            match parsed(trimmed) {
                Some((key, value)) => Cow::Owned(format!(" {key} = {value}")),
                None if sub_settings => Cow::Borrowed(""),
                None => Cow::Owned(format!(" {trimmed}")),
            }
        } else if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| Some(rest.split_once(']')?.0)) {
            (section, setting) = (true, None);
            Cow::Owned(header(name, kind))
        } else {
            // A line before the first section, or without `=` or `:`, has no meaning and becomes empty.
            match parsed(trimmed).filter(|_| section) {
                Some((key, value)) => {
                    setting = Some((indent, value.is_empty()));
                    Cow::Owned(format!("{key} = {}", with_name_escaped(key, value)))
                }
                None => Cow::Borrowed(""),
            }
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// Returns a section header such as `[profile NAME]` with the name encoded. In the credentials file the whole
/// text between the brackets is the name.
fn header(inside: &str, kind: EnvConfigFileKind) -> String {
    let inside = inside.trim();
    match (kind, inside.split_once([' ', '\t'])) {
        (EnvConfigFileKind::Config, Some((before, name))) => format!("[{before} {}]", escaped(unquoted(name.trim()))),
        _ => format!("[{}]", escaped(unquoted(inside))),
    }
}

fn unquoted(name: &str) -> &str {
    let quoted = |quote| name.strip_prefix(quote).and_then(|name| name.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(name)
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, ESCAPED).to_string()
}

/// Splits `key = value` or `key: value`. Returns None if the line has neither separator or no key.
fn parsed(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=').or_else(|| line.split_once(':'))?;
    let key = key.trim();
    (!key.is_empty()).then(|| (key, value.trim()))
}

/// Returns `value`. If the setting `key` names another section, the name is encoded as in that section's
/// header.
fn with_name_escaped<'a>(key: &str, value: &'a str) -> Cow<'a, str> {
    if !NAMES_A_SECTION.iter().any(|known| key.eq_ignore_ascii_case(known)) {
        return Cow::Borrowed(value);
    }
    // A comment begins with `#` or `;` after a space or tab.
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    Cow::Owned(escaped(unquoted(value.split_at(end.unwrap_or(value.len())).0.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: EnvConfigFileKind = EnvConfigFileKind::Config;

    fn files(config: &str, credentials: &str, profile: Option<&str>) -> (tempfile::TempDir, AwsFiles) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(dir.path().join(".aws/config"), config).unwrap();
        std::fs::write(dir.path().join(".aws/credentials"), credentials).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let files = AwsFiles::read(profile, &|name| (name == "HOME").then(|| home.clone()));
        (dir, files)
    }

    fn setting(files: &AwsFiles, name: &str) -> Option<String> {
        files.sections().unwrap().get(name).map(str::to_owned)
    }

    #[test]
    fn lines_that_aws_config_refuses_are_read_as_the_other_tools_read_them() {
        for (config, expected) in [
            ("[default]\nregion = a", "a"),
            ("\u{feff}[default]\nregion = a", "a"),
            ("[default]\r\nregion = a\r\n", "a"),
            ("[profile other]\n username = x\n[default]\nregion = a", "a"),
            ("[default]\n    output = x\n    region = a", "a"),
            ("[default] # text\nregion = a", "a"),
            ("[default] text\nregion = a", "a"),
            ("  [default]\nregion = a", "a"),
            ("[default]\nregion: a", "a"),
            ("[default]\nno equals sign\nregion = a", "a"),
            ("stray = x\n[default]\nregion = a", "a"),
            ("[default]\n  # a comment\nregion = a", "a"),
            ("[default]\noutput =\n  # a comment\n  words only\nregion = a", "a"),
            ("[default]\nregion = a=\n", "a="),
            ("[default]\nregion = a # comment", "a"),
            ("[default]\nREGION = a", "a"),
        ] {
            let (_dir, files) = files(config, "", None);
            assert_eq!(setting(&files, "region").as_deref(), Some(expected), "{config:?}");
        }
    }

    #[test]
    fn line_numbers_stay() {
        let text = "# one\n[a] b\n\n  k = v\nwords\n[c]";
        assert_eq!(normalised(text, CONFIG).lines().count(), text.lines().count());
    }

    #[test]
    fn names_may_hold_spaces_and_quotes() {
        for header in ["profile Foo Bar", "profile \"Foo Bar\"", "profile 'Foo Bar'"] {
            let (_dir, files) = files(&format!("[{header}]\nregion = a"), "", Some("Foo Bar"));
            assert_eq!(setting(&files, "region").as_deref(), Some("a"), "{header}");
        }
        let (_dir, files) = files("", "[Foo Bar]\naws_access_key_id = A", Some("Foo Bar"));
        assert_eq!(setting(&files, "aws_access_key_id").as_deref(), Some("A"));
        assert_eq!(files.unescaped("profile Foo%20Bar"), "profile Foo Bar");
    }

    #[test]
    fn an_endpoint_is_the_services_section_s_own_or_the_profile_s() {
        let (_dir, plain) = files("[default]\nendpoint_url = http://a\nregion = r", "", None);
        let expected =
            ProfileEndpoint { endpoint_url: Some("http://a".to_owned()), ignore: false, region: Some("r".to_owned()) };
        assert_eq!(plain.endpoint(), expected);
        let services = "[services my own]\ns3 =\n  endpoint_url = http://b\ndynamodb =\n  endpoint_url = http://c\n";
        let config = format!("[default]\nservices = my own\nendpoint_url = http://a\n{services}");
        assert_eq!(files(&config, "", None).1.endpoint().endpoint_url.as_deref(), Some("http://b"));
        let (_dir, ignoring) = files("[profile p]\nignore_configured_endpoint_urls = TRUE", "", Some("p"));
        assert!(ignoring.endpoint().ignore);
        assert_eq!(files("[default", "", None).1.endpoint(), ProfileEndpoint::default());
    }

    #[test]
    fn what_is_missing_is_named() {
        let (dir, files) = files("[default]\nregion = a", "", Some("prod"));
        let path = dir.path().display();
        assert_eq!(
            files.described(),
            format!("profile prod: neither {path}/.aws/config nor {path}/.aws/credentials has it")
        );
        assert!(!format!("{files:?}").contains("region"));
    }
}
