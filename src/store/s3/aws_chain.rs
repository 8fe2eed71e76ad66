//! The AWS credentials chain, provided by the crate aws-config over Hydrant's HTTP and TLS: profiles,
//! assume-role, SSO, credential processes, web identity, ECS, EKS and IMDSv2.
//!
//! Each call creates its own HTTP client. Calls are rare, may come from any worker, and a connection pool must
//! not be used from two async runtimes.

use super::aws_files::AwsFiles;
use super::aws_sso::{self, SsoProfile};
use super::config::DEFAULT_REGION;
use super::network::{Network, chain};
use crate::process::threads::{NoThread, try_one};
use aws_config::BehaviorVersion;
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_types::region::Region;
use std::fmt::Write;
use std::time::Duration;

const MAX_ANSWER_BYTES: usize = 1 << 20;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The credentials chain, and the AWS files that explain its failures.
pub(super) struct Chain {
    provider: SharedCredentialsProvider,
    files: AwsFiles,
}

impl Chain {
    /// Prepares the chain. `region` is the region for STS if neither the environment nor the profile names one.
    /// `profile` takes precedence over the variable `AWS_PROFILE`.
    pub(super) async fn new(network: &Network, region: Option<&str>, profile: Option<&str>) -> Result<Self, String> {
        let files = AwsFiles::read(profile, &|name| std::env::var(name).ok());
        let (contents, name) = (files.contents(), files.profile_name());
        let of_profile = ProfileFileRegionProvider::builder().profile_files(contents.clone()).profile_name(&name);
        // The EC2 metadata service is not asked for the region: on machines without that service, the request
        // would only end by time-out.
        let regions = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(of_profile.build())
            .or_else(Region::new(region.unwrap_or(DEFAULT_REGION).to_owned()));
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(Client { network: network.clone() })
            .profile_files(contents.clone())
            .profile_name(&name)
            .region(regions)
            .load()
            .await;
        let whole = config.credentials_provider().ok_or("the AWS configuration gives no credentials")?;
        let sso_profiles = SsoProfile::all(&files);
        if profile.is_none() && sso_profiles.is_empty() {
            return Ok(Self { provider: whole, files });
        }
        let config = ProviderConfig::without_region()
            .with_http_client(Client { network: network.clone() })
            .with_region(config.region().cloned());
        let mut of_profile = ProfileFileCredentialsProvider::builder()
            .configure(&config)
            .profile_files(aws_sso::contents(&files, &sso_profiles))
            .profile_name(name);
        for sso in &sso_profiles {
            of_profile = of_profile.with_custom_provider(sso.source.clone(), sso.provider(&config));
        }
        let provider = match profile {
            // A profile was given on the command line. Keys in the environment, which the chain would try
            // first, are skipped.
            Some(_) => SharedCredentialsProvider::new(of_profile.build()),
            // As the whole chain, whose first two sources these are.
            None => SharedCredentialsProvider::new(
                CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
                    .or_else("Profile", of_profile.build())
                    .or_else("Rest", whole),
            ),
        };
        Ok(Self { provider, files })
    }

    /// Gets credentials from the chain. The error names every source that was tried and contains no secret.
    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        self.provider.provide_credentials().await.map_err(|error| self.explained(&error))
    }

    fn explained(&self, error: &CredentialsError) -> String {
        if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
            let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            return missing(&set, &self.files.described());
        }
        // Some of the texts have several lines.
        let lines = self.files.unescaped(&chain(error));
        let mut text = lines.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        if let Some(file) = std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE")
            && let Err(reason) = std::fs::File::open(&file)
        {
            let _ = write!(text, "; AWS_WEB_IDENTITY_TOKEN_FILE {}: {reason}", file.to_string_lossy());
        }
        if let Some(login) = self.files.sso_login() {
            let _ = write!(text, "; a session of IAM Identity Center is renewed by: {login}");
        }
        text
    }
}

/// Returns the message that no source has credentials, with the reason for each source. `set` returns whether
/// an environment variable is set.
fn missing(set: &dyn Fn(&str) -> bool, profile: &str) -> String {
    let environment = match (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY")) {
        (true, false) => "AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not",
        (false, true) => "AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not",
        _ => "AWS_ACCESS_KEY_ID is not set",
    };
    let web_identity = match (set("AWS_WEB_IDENTITY_TOKEN_FILE"), set("AWS_ROLE_ARN")) {
        (false, _) => "AWS_WEB_IDENTITY_TOKEN_FILE is not set",
        (true, false) => "AWS_WEB_IDENTITY_TOKEN_FILE is set, AWS_ROLE_ARN is not",
        (true, true) => "none",
    };
    let container = if set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || set("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        "none"
    } else {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI is not set"
    };
    let metadata = if set("AWS_EC2_METADATA_DISABLED") { "disabled" } else { "no role, or no answer" };
    format!(
        "there are no credentials. Environment: {environment}. AWS files: {profile}. Web identity: {web_identity}. \
         Container: {container}. EC2 metadata: {metadata}"
    )
}

/// Checks that a thread can be started if AWS_CONTAINER_CREDENTIALS_FULL_URI is set. The chain then resolves a
/// host name with tokio's `spawn_blocking`, which panics if the operating system starts no thread.
pub(super) fn check_threads() -> Result<(), NoThread> {
    match std::env::var_os("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        Some(_) => try_one(),
        None => Ok(()),
    }
}

#[derive(Debug, Clone)]
struct Client {
    network: Network,
}

impl HttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            network: self.network.clone(),
            connect: settings.connect_timeout().unwrap_or(DEFAULT_TIMEOUT),
            read: settings.read_timeout().unwrap_or(DEFAULT_TIMEOUT),
        })
    }
}

#[derive(Debug, Clone)]
struct Connector {
    network: Network,
    connect: Duration,
    read: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.send(request).await })
    }
}

impl Connector {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let user = |e: String| ConnectorError::user(e.into());
        let request = request.try_into_http1x().map_err(|e| user(e.to_string()))?;
        let (parts, body) = request.into_parts();
        let body = body.bytes().map(<[u8]>::to_vec).ok_or_else(|| user("a streaming body".to_owned()))?;
        let proxies = !parts.uri.host().is_some_and(is_metadata_host);
        let client = self.network.build_client(self.connect, proxies).map_err(user)?;
        let request = reqwest::Request::try_from(http::Request::from_parts(parts, body)).map_err(failed)?;
        let exchange = async {
            let mut answer = client.execute(request).await.map_err(failed)?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                    return Err(ConnectorError::io(format!("an answer of more than {MAX_ANSWER_BYTES} bytes").into()));
                }
                body.extend_from_slice(&chunk);
            }
            let mut whole = http::Response::new(SdkBody::from(body));
            *whole.status_mut() = answer.status();
            *whole.headers_mut() = std::mem::take(answer.headers_mut());
            HttpResponse::try_from(whole).map_err(|e| ConnectorError::user(e.into()))
        };
        // The HTTP client limits only the time to connect. This time-out covers the request and the whole response.
        match tokio::time::timeout(self.connect + self.read, exchange).await {
            Ok(result) => result,
            Err(_) => Err(ConnectorError::timeout("no answer in time".into())),
        }
    }
}

fn failed(error: reqwest::Error) -> ConnectorError {
    let timeout = error.is_timeout();
    let text = chain(&error.without_url());
    if timeout { ConnectorError::timeout(text.into()) } else { ConnectorError::io(text.into()) }
}

/// Returns whether `host` is this machine or a metadata service. Requests to them bypass proxies, which cannot
/// reach them.
fn is_metadata_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    matches!(
        host,
        "169.254.169.254"
            | "169.254.170.2"
            | "169.254.170.23"
            | "fd00:ec2::254"
            | "fd00:ec2::23"
            | "localhost"
            | "127.0.0.1"
            | "::1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_without_credentials_is_named_with_what_is_missing() {
        let text = |variables: &[&str]| missing(&|name| variables.contains(&name), "profile p: none has it");
        assert_eq!(
            text(&[]),
            "there are no credentials. Environment: AWS_ACCESS_KEY_ID is not set. AWS files: profile p: none has it. \
             Web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set. Container: AWS_CONTAINER_CREDENTIALS_FULL_URI is \
             not set. EC2 metadata: no role, or no answer"
        );
        for (variables, part) in [
            (&["AWS_ACCESS_KEY_ID"][..], "Environment: AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not. "),
            (&["AWS_SECRET_ACCESS_KEY"], "Environment: AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not. "),
            (&["AWS_WEB_IDENTITY_TOKEN_FILE"], "AWS_WEB_IDENTITY_TOKEN_FILE is set, AWS_ROLE_ARN is not. "),
            (&["AWS_EC2_METADATA_DISABLED"], "EC2 metadata: disabled"),
        ] {
            assert!(text(variables).contains(part) && !text(variables).contains('\n'), "{}", text(variables));
        }
    }
}
