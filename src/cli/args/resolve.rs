//! Converts the parsed flags of a command to its arguments: adds defaults and environment variables, and refuses
//! flags that exclude each other. Scripts rely on the texts of these errors (docs/CLI.md, "Texts that scripts rely
//! on"). Nothing in here reads a database, a bucket or the configuration file.

use crate::cli::args::flags::{
    BenchFlags, CatalogueFlags, CommonFlags, CompletionsFlags, ConfigFlags, FindFlags, LtxFlags, ManFlags,
    PatternFlags, PermissionFlags, ProgressFlags, RestoreFlags, VerifyFlags,
};
use crate::cli::args::promote_flags::PromoteFlags;
use crate::cli::args::resolved::*;
use crate::cli::args::store_flags::{PastFlags, StoreFlags};
use crate::cli::args::typed::{repeat_call, typed_call};
use crate::cli::args::{memory, values};
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::log::LogOptions;
use crate::cli::ui::redact;
use crate::config::{self, Env};
use crate::ltx::Txid;
use crate::plan::Target;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The default name of the error log of `restore-pattern` begins with this word, as Litestream's does. The extension
/// is `.log`.
const DEFAULT_ERROR_LOG: &str = "litestream-restore-errors";

/// Resolves the flags of `hydrant restore`.
///
/// # Errors
/// The source is missing, a value is invalid, or flags exclude each other.
pub fn restore(flags: RestoreFlags, env: &Env<'_>) -> Result<RestoreArgs, Failure> {
    let source = one_source(&flags.source, "hydrant restore -h")?;
    let integrity_check = integrity_check(&flags.integrity_check)?;
    let timestamp = values::timestamp(flags.timestamp.as_deref().unwrap_or_default())?;
    let past = past(&flags.past, true)?;
    let txid = flags.txid.filter(|txid| *txid != Txid(0));
    let output = given("o", flags.output.clone())?;
    let (source, source_shown) = resolve_source(source, &flags.config, env)?;
    if matches!(source, Source::Url(_)) && output.is_none() {
        return Err(Failure::usage("-o is required when restoring from a replica URL")
            .advised(Some(Advice::Value("o", "/path/to/db".to_owned()))));
    }
    if output.as_deref().and_then(Path::to_str).is_some_and(config::is_replica_url) {
        return Err(Failure::usage("-o is the path of the new database, not a URL: hydrant restore -o PATH URL"));
    }
    let target = match (txid, timestamp) {
        (Some(_), Some(_)) => return Err(Failure::usage("cannot specify index & timestamp to restore")),
        (Some(txid), None) => Target::Txid(txid),
        (None, Some(timestamp)) => Target::Timestamp(timestamp),
        (None, None) => Target::Latest,
    };
    if flags.newest_intact && matches!(target, Target::Txid(_)) {
        return Err(Failure::usage("-newest-intact cannot go with -txid: that state is reached exactly or not at all"));
    }
    if flags.generation.is_some() && matches!(target, Target::Txid(_)) {
        return Err(Failure::usage("cannot specify -generation and -txid"));
    }
    if flags.follow {
        check_follow(&flags, &target, past)?;
    }
    Ok(RestoreArgs {
        source,
        source_shown,
        output,
        target,
        generation: flags.generation,
        if_db_not_exists: flags.if_db_not_exists,
        if_replica_exists: flags.if_replica_exists,
        newest_intact: flags.newest_intact,
        dry_run: flags.dry_run,
        json: flags.json,
        force: flags.force,
        parallelism: flags.parallelism.and_then(|n| usize::try_from(n).ok()).and_then(NonZeroUsize::new),
        integrity_check,
        permissions: permissions(flags.permissions),
        follow: flags.follow,
        follow_interval: flags.follow_interval,
        progress: progress(&flags.progress, &flags.common),
        metrics_textfile: given("metrics-textfile", flags.metrics.metrics_textfile)?,
        common: common(flags.common, past, env)?,
    })
}

/// Refuses what cannot go with `-f` (follow mode).
fn check_follow(flags: &RestoreFlags, target: &Target, past: PastArgs) -> Result<(), Failure> {
    let refusal = match target {
        _ if past.as_of.is_some() => "cannot use follow mode with -as-of",
        _ if flags.dry_run => "cannot use -dry-run with -f",
        Target::Txid(_) => "cannot use follow mode with -txid",
        Target::Timestamp(_) => "cannot use follow mode with -timestamp",
        _ if flags.generation.is_some() => "cannot use follow mode with -generation",
        _ if flags.if_db_not_exists => {
            "cannot use follow mode with -if-db-not-exists: with -f, a database that exists is followed from where it is"
        }
        _ if flags.follow_interval.is_zero() => "-follow-interval must be above 0",
        Target::Latest | Target::Pinned(_) => return Ok(()),
    };
    Err(Failure::usage(refusal))
}

/// Resolves the flags of `hydrant ltx`. `level_is_default` says that `-level` was not given.
///
/// # Errors
/// The source is missing, or flags exclude each other.
pub fn ltx(flags: LtxFlags, level_is_default: bool, env: &Env<'_>) -> Result<LtxArgs, Failure> {
    let source = one_source(&flags.source, "hydrant ltx -h")?;
    let (source, source_shown) = resolve_source(source, &flags.config, env)?;
    let past = past(&flags.past, true)?;
    if flags.versions && (past.as_of.is_some() || flags.times) {
        return Err(Failure::usage("-versions lists the whole history: it cannot go with -as-of or -times"));
    }
    Ok(LtxArgs {
        source,
        source_shown,
        level: flags.level,
        level_is_default,
        json: flags.json,
        times: flags.times,
        versions: flags.versions,
        common: common(flags.common, past, env)?,
    })
}

/// Resolves the flags of `hydrant restore-pattern`. `words` is the command line as `argv` has rewritten it.
///
/// # Errors
/// The pattern is missing or malformed, a value is invalid, or flags exclude each other.
pub fn restore_pattern(flags: PatternFlags, words: &[OsString], env: &Env<'_>) -> Result<RestorePatternArgs, Failure> {
    let pattern = match flags.pattern.as_slice() {
        [] => None,
        [pattern] => Some(pattern).filter(|pattern| !pattern.is_empty()),
        // The shell replaces a pattern without quotes by the files that it matches.
        _ => return Err(Failure::usage("too many arguments").try_call("hydrant restore-pattern -h")),
    };
    let pattern = pattern.ok_or_else(|| Failure::usage("pattern required").try_call("hydrant restore-pattern -h"))?;
    let Some(pattern) = pattern.to_str() else {
        return Err(Failure::usage("the pattern must be UTF-8"));
    };
    let integrity_check = integrity_check(&flags.integrity_check)?;
    let timestamp = values::timestamp(flags.timestamp.as_deref().unwrap_or_default())?;
    let source = pattern_source(pattern, &flags.config, env)?;
    let follow = flags.follow.resolve(&[
        (
            flags.if_db_not_exists,
            "--if-db-not-exists: with --follow, a database that exists is followed from where it is",
        ),
        (flags.dry_run, "--dry-run"),
        (flags.timestamp.is_some(), "--timestamp"),
        (flags.past.as_of.is_some(), "--as-of"),
        (flags.fail_fast, "--fail-fast"),
        (flags.only.is_some(), "--only"),
        (flags.catalogue.catalogue.is_some(), "--catalogue"),
        (flags.catalogue.save_catalogue.is_some(), "--save-catalogue"),
    ])?;
    let error_log = given("error-log", flags.error_log)?;
    let output_dir = given("output-dir", flags.output_dir)?;
    let repeat = repeat_call("restore-pattern", "restore", words, pattern, Some(output_dir.is_some())).map(Box::new);
    let past = past(&flags.past, false)?;
    let catalogue = catalogue(flags.catalogue)?;
    if past.as_of.is_some() && catalogue.path().is_some() {
        return Err(Failure::usage("cannot specify -as-of and a catalogue: a catalogue has no versions"));
    }
    Ok(RestorePatternArgs {
        source,
        source_shown: redact::url(pattern),
        output_dir,
        parallel: flags.parallel,
        if_replica_exists: flags.if_replica_exists,
        newest_intact: flags.newest_intact,
        if_db_not_exists: flags.if_db_not_exists,
        force: flags.force,
        timestamp,
        integrity_check,
        permissions: permissions(flags.permissions),
        dry_run: flags.dry_run,
        json: flags.json,
        progress: progress(&flags.progress, &flags.common),
        max_retries: flags.max_retries,
        retry_delay: flags.retry_delay,
        error_log_is_default: error_log.is_none(),
        error_log: error_log.unwrap_or_else(|| default_error_log(flags.shard)),
        only: given("only", flags.only)?,
        fail_fast: flags.fail_fast,
        typed: typed_call("restore-pattern", words),
        repeat,
        first: flags.first,
        shard: flags.shard,
        reports: all_given("report", flags.report)?,
        catalogue,
        metrics_textfile: given("metrics-textfile", flags.metrics.metrics_textfile)?,
        follow,
        common: common(flags.common, past, env)?,
    })
}

/// Resolves the flags of `hydrant verify`. `words` is the command line as `argv` has rewritten it.
///
/// # Errors
/// The pattern is missing or malformed, a value is invalid, or flags exclude each other.
pub fn verify(flags: VerifyFlags, words: &[OsString], env: &Env<'_>) -> Result<VerifyArgs, Failure> {
    const CALL: &str = "hydrant verify -h";
    let pattern = match flags.pattern.as_slice() {
        [pattern] => pattern.to_str().ok_or_else(|| Failure::usage("the pattern must be UTF-8"))?,
        [] => "",
        _ => return Err(Failure::usage("too many arguments").try_call(CALL)),
    };
    if pattern.is_empty() {
        return Err(Failure::usage("pattern, database or URL required").try_call(CALL));
    }
    let check = integrity_check(&flags.integrity_check)?.mode();
    if check.is_none() {
        return Err(Failure::usage("-integrity-check must be quick or full: -depth full has no check of SQLite's"));
    }
    if !flags.sql.is_empty() && flags.depth != VerifyDepth::Sqlite {
        return Err(Failure::usage("-sql needs the database itself")
            .advised(Some(Advice::Value("depth", VerifyDepth::Sqlite.as_str().to_owned()))));
    }
    if flags.sample.is_some() && flags.shard.is_some() {
        return Err(Failure::usage("cannot specify -sample and -shard"));
    }
    let source = pattern_source(pattern, &flags.config, env)?;
    let past = past(&flags.past, false)?;
    let catalogue = catalogue(flags.catalogue)?;
    if past.as_of.is_some() && catalogue.path().is_some() {
        return Err(Failure::usage("cannot specify -as-of and a catalogue: a catalogue has no versions"));
    }
    Ok(VerifyArgs {
        source,
        source_shown: redact::url(pattern),
        depth: flags.depth,
        scratch: given("scratch", flags.scratch)?,
        scratch_bytes: flags.scratch_size,
        queries: flags.sql,
        check,
        max_age: flags.max_age,
        expect: given("expect", flags.expect)?,
        sample: flags.sample.map(|share| Sample { share, seed: flags.seed }),
        timestamp: flags.timestamp.as_deref().map(values::timestamp).transpose()?.flatten(),
        if_replica_exists: flags.if_replica_exists,
        output_dir: given("output-dir", flags.output_dir)?,
        parallel: flags.parallel,
        json: flags.json,
        progress: progress(&flags.progress, &flags.common),
        max_retries: flags.max_retries,
        retry_delay: flags.retry_delay,
        shard: flags.shard,
        reports: all_given("report", flags.report)?,
        typed: typed_call("verify", words),
        repeat: repeat_call("verify", "verify", words, pattern, None).map(Box::new),
        catalogue,
        metrics_textfile: given("metrics-textfile", flags.metrics.metrics_textfile)?,
        common: common(flags.common, past, env)?,
    })
}

/// Resolves the flags of `hydrant find`.
///
/// # Errors
/// The source or the query is missing, or a value is invalid.
pub fn find(flags: FindFlags, env: &Env<'_>) -> Result<FindArgs, Failure> {
    const CALL: &str = "hydrant find -h";
    let source = one_source(&flags.source, CALL)?;
    let (source, source_shown) = resolve_source(source, &flags.config, env)?;
    let sql = flags.sql.filter(|sql| !sql.trim().is_empty());
    Ok(FindArgs {
        source,
        source_shown,
        sql: sql.ok_or_else(|| Failure::usage("-sql is required: the question").try_call(CALL))?,
        from: values::timestamp_of("from", flags.from.as_deref().unwrap_or_default())?,
        to: values::timestamp_of("to", flags.to.as_deref().unwrap_or_default())?,
        all: flags.all,
        json: flags.json,
        scratch: given("scratch", flags.scratch)?,
        common: common(flags.common, PastArgs::default(), env)?,
    })
}

/// Resolves the flags of `hydrant promote`.
///
/// # Errors
/// The source is missing, or a value is invalid.
pub fn promote(flags: PromoteFlags, env: &Env<'_>) -> Result<PromoteArgs, Failure> {
    let typed = one_source(&flags.source, "hydrant promote -h")?;
    let (output, output_dir) = (given("o", flags.output)?, given("output-dir", flags.output_dir)?);
    let (what, source_shown) = match output_dir {
        Some(_) if output.is_some() => return Err(Failure::usage("cannot specify -o and -output-dir")),
        Some(output_dir) => {
            let pattern = typed.to_str().ok_or_else(|| Failure::usage("the pattern must be UTF-8"))?;
            (
                Promotee::Fleet { pattern: pattern_source(pattern, &flags.config, env)?, output_dir },
                redact::url(pattern),
            )
        }
        None => {
            let (source, source_shown) = resolve_source(typed, &flags.config, env)?;
            if matches!(source, Source::Url(_)) && output.is_none() {
                return Err(Failure::usage("-o is required when promoting from a replica URL")
                    .advised(Some(Advice::Value("o", "/path/to/db".to_owned()))));
            }
            (Promotee::One { source, output }, source_shown)
        }
    };
    Ok(PromoteArgs {
        what,
        source_shown,
        integrity_check: integrity_check(&flags.integrity_check)?,
        force: flags.force,
        json: flags.json,
        common: common(flags.common, PastArgs::default(), env)?,
    })
}

/// Resolves the flags of `hydrant bench`. `words` is the command line as `argv` has rewritten it.
///
/// # Errors
/// The source is missing or not a URL, or flags exclude each other.
pub fn bench(flags: BenchFlags, words: &[OsString], env: &Env<'_>) -> Result<BenchArgs, Failure> {
    const CALL: &str = "hydrant bench -h";
    let source = match flags.source.as_slice() {
        [] => None,
        [source] => source.to_str().filter(|source| !source.is_empty()),
        _ => return Err(Failure::usage("too many arguments").try_call(CALL)),
    };
    let url = source.ok_or_else(|| Failure::usage("source required").try_call(CALL))?;
    if !config::is_replica_url(url) {
        let message = format!("not a URL: {}: bench takes s3://… or file:///…", redact::url(url));
        return Err(Failure::usage(message).try_call(CALL));
    }
    let output_dir = given("output-dir", flags.output_dir)?;
    let stages = match (flags.stage, &output_dir) {
        (_, Some(_)) if flags.discard => {
            return Err(Failure::usage("cannot specify -discard and -output-dir"));
        }
        (Some(BenchStage::All), None) => {
            return Err(Failure::usage("-stage all writes databases: -output-dir is required")
                .advised(Some(Advice::Value("output-dir", ".".to_owned()))));
        }
        (Some(stage), Some(_)) if stage != BenchStage::All => {
            return Err(Failure::usage(format!("-stage {} writes nothing: -output-dir has no use", stage.as_str())));
        }
        (Some(stage), _) => vec![stage],
        (None, Some(_)) => BenchStage::EACH.to_vec(),
        (None, None) => vec![BenchStage::List, BenchStage::Fetch, BenchStage::Decode],
    };
    let past = past(&flags.past, false)?;
    Ok(BenchArgs {
        url: url.to_owned(),
        source_shown: redact::url(url),
        stages,
        output_dir,
        duration: flags.duration.unwrap_or_default(),
        parallel: flags.parallel,
        json: flags.json,
        hlog: given("hlog", flags.hlog)?,
        reports: all_given("report", flags.report)?,
        typed: typed_call("bench", words),
        common: common(flags.common, past, env)?,
    })
}

/// The shell for which `hydrant completions` prints a script, as typed.
///
/// # Errors
/// No shell was given, or more than one.
pub fn shell(flags: &CompletionsFlags) -> Result<String, Failure> {
    const CALL: &str = "hydrant completions bash";
    match flags.shell.as_slice() {
        [] => Err(Failure::usage("shell required: bash, zsh or fish").try_call(CALL)),
        [shell] => Ok(shell.to_string_lossy().into_owned()),
        _ => Err(Failure::usage("too many arguments").try_call(CALL)),
    }
}

/// The command whose man page `hydrant man` prints, as typed. None stands for the page of the program itself.
///
/// # Errors
/// More than one command was given.
pub fn man_command(flags: &ManFlags) -> Result<Option<String>, Failure> {
    match flags.command.as_slice() {
        [] => Ok(None),
        [command] => Ok(Some(command.to_string_lossy().into_owned())),
        _ => Err(Failure::usage("too many arguments").try_call("hydrant man restore")),
    }
}

/// The default path of the error log. With `-shard` the name holds the share, so that processes that restore
/// different shares in the same directory write different logs.
fn default_error_log(shard: Option<Shard>) -> PathBuf {
    PathBuf::from(match shard {
        None => format!("{DEFAULT_ERROR_LOG}.log"),
        Some(Shard { index, of }) => format!("{DEFAULT_ERROR_LOG}-{index}-of-{of}.log"),
    })
}

/// The only positional argument of a command: a database path or a replica URL. `call` is the command line that
/// the error suggests if it is missing.
fn one_source<'a>(sources: &'a [OsString], call: &str) -> Result<&'a OsStr, Failure> {
    match sources {
        [_, _, ..] => Err(Failure::usage("too many arguments")),
        [source] if !source.is_empty() => Ok(source),
        _ => Err(Failure::usage("database path or replica URL required").try_call(call)),
    }
}

/// Converts the positional argument to a [`Source`]: a replica URL, else the path of a configured database. Also
/// returns the text by which messages name it, with the secrets in a URL replaced.
fn resolve_source(source: &OsStr, flags: &ConfigFlags, env: &Env<'_>) -> Result<(Source, String), Failure> {
    let shown = redact::url(&source.to_string_lossy());
    if let Some(url) = source.to_str().filter(|text| config::is_replica_url(text)) {
        refuse_config_with_url(flags)?;
        return Ok((Source::Url(url.to_owned()), shown));
    }
    let path = config::clean_path(Path::new(source), env).map_err(|e| Failure::failed(e.class(), e.to_string()))?;
    Ok((Source::Database { path, config: config_file(flags, env) }, shown))
}

/// Converts a pattern to a [`PatternSource`]: a URL with a glob, else a glob over the paths of configured databases.
fn pattern_source(pattern: &str, flags: &ConfigFlags, env: &Env<'_>) -> Result<PatternSource, Failure> {
    if config::is_replica_url(pattern) {
        refuse_config_with_url(flags)?;
        return Ok(PatternSource::Url(pattern.to_owned()));
    }
    let glob = values::glob(pattern).map_err(|e| Failure::usage(format!("invalid pattern \"{pattern}\": {e}")))?;
    Ok(PatternSource::Configured { glob, config: config_file(flags, env) })
}

/// Refuses `-config` together with a URL, for which no configuration file is read.
fn refuse_config_with_url(flags: &ConfigFlags) -> Result<(), Failure> {
    match flags.config.as_deref() {
        None => Ok(()),
        Some(path) if path.is_empty() => Ok(()),
        Some(_) => Err(Failure::usage("cannot specify a replica URL and the -config flag")),
    }
}

/// Finds the configuration file (litestream.yml) to read: the path that `-config` gives, else the default path.
fn config_file(flags: &ConfigFlags, env: &Env<'_>) -> ConfigFile {
    // A `~/` in this path is expanded when the file is read.
    let typed = flags.config.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = typed.unwrap_or_else(|| config::default_config_path(env));
    ConfigFile { path, expand_env: !flags.no_expand_env }
}

/// Converts the value of the flag `name` to the path of a file or directory to write. An empty value (`-o ""`) counts
/// as if the flag was not given (None), as in Litestream.
///
/// # Errors
/// The value is `-`, which programs often take for stdout, or begins with a `~` that no shell has expanded. A file of
/// that name is never meant.
fn given(name: &str, value: Option<OsString>) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = value.filter(|value| !value.is_empty()).map(PathBuf::from) else { return Ok(None) };
    if path.as_os_str() == "-" {
        return Err(Failure::usage(format!("-{name} -: this is not stdout here; a file of that name is written ./-")));
    }
    if path.starts_with("~") {
        return Err(Failure::usage(format!(
            "-{name} {}: the shell has not expanded the ~; a directory of that name is written ./~",
            path.display()
        )));
    }
    Ok(Some(path))
}

/// The same for a flag that may be repeated.
fn all_given(name: &str, values: Vec<OsString>) -> Result<Vec<PathBuf>, Failure> {
    values.into_iter().filter_map(|value| given(name, Some(value)).transpose()).collect()
}

fn integrity_check(text: &str) -> Result<IntegrityCheck, Failure> {
    match text {
        "none" => Ok(IntegrityCheck::None),
        "quick" => Ok(IntegrityCheck::Quick),
        "full" => Ok(IntegrityCheck::Full),
        other => Err(Failure::usage(format!("invalid -integrity-check value: {other}"))),
    }
}

fn catalogue(flags: CatalogueFlags) -> Result<CatalogueArgs, Failure> {
    match (given("save-catalogue", flags.save_catalogue)?, given("catalogue", flags.catalogue)?) {
        (Some(_), Some(_)) => Err(Failure::usage("cannot specify -save-catalogue and -catalogue")),
        (Some(path), None) => Ok(CatalogueArgs::Save(path)),
        (None, Some(path)) => Ok(CatalogueArgs::Saved(path)),
        (None, None) => Ok(CatalogueArgs::List),
    }
}

/// `is_one` says that the command is about one database.
fn past(flags: &PastFlags, is_one: bool) -> Result<PastArgs, Failure> {
    let as_of = flags.as_of.as_deref().map(values::as_of).transpose()?;
    if as_of == Some(AsOf::Last) && !is_one {
        return Err(Failure::usage("-as-of last is for one database: give a time, or call restore for each"));
    }
    if as_of.is_none() && flags.allow_incomplete_history {
        return Err(Failure::usage("-allow-incomplete-history has no use without -as-of"));
    }
    Ok(PastArgs { as_of, allow_incomplete: flags.allow_incomplete_history, limit_bytes: 0 })
}

fn permissions(flags: PermissionFlags) -> PermissionArgs {
    let PermissionFlags { owner, mode, dir_mode } = flags;
    PermissionArgs { owner: owner.filter(|owner| !owner.is_empty()), mode, dir_mode }
}

fn progress(flags: &ProgressFlags, common: &CommonFlags) -> ProgressMode {
    match flags {
        _ if common.quiet => ProgressMode::Never,
        ProgressFlags { no_progress: true, .. } => ProgressMode::Never,
        ProgressFlags { progress: true, .. } => ProgressMode::Always,
        _ => ProgressMode::Auto,
    }
}

fn common(flags: CommonFlags, past: PastArgs, env: &Env<'_>) -> Result<CommonArgs, Failure> {
    if flags.quiet && (flags.very_verbose || flags.verbose > 0) {
        return Err(Failure::usage("cannot specify -quiet and -v"));
    }
    let memory_bytes = flags.memory.unwrap_or_else(memory::default_budget_bytes);
    let catalogue = memory::catalogue_limit(memory_bytes, flags.memory.is_some());
    Ok(CommonArgs {
        memory_bytes,
        catalogue,
        io_engine: flags.io_engine,
        max_requests: flags.max_requests,
        limit_rate: flags.limit_rate,
        connect_timeout: flags.connect_timeout,
        stall_timeout: flags.stall_timeout,
        store: StoreArgs { past: PastArgs { limit_bytes: catalogue.limit_bytes, ..past }, ..store(flags.store)? },
        log: LogOptions {
            verbosity: if flags.very_verbose { 2 } else { flags.verbose.min(2) },
            quiet: flags.quiet,
            format: flags.log_format,
            no_color: flags.no_color || no_color(env),
        },
    })
}

fn store(flags: StoreFlags) -> Result<StoreArgs, Failure> {
    let given = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let endpoint = given(flags.endpoint).map(|text| config::parse_endpoint(&text)).transpose();
    let store = StoreArgs {
        endpoint: endpoint.map_err(|e| Failure::usage(format!("-endpoint: {e}")))?,
        region: given(flags.region),
        profile: given(flags.profile),
        anonymous: flags.no_sign_request,
        past: PastArgs::default(),
    };
    if store.anonymous && store.profile.is_some() {
        return Err(Failure::usage("cannot specify -profile and -no-sign-request"));
    }
    Ok(store)
}

/// Whether the environment variable `NO_COLOR` forbids colours (no-color.org): it is set and not empty.
pub fn no_color(env: &Env<'_>) -> bool {
    env("NO_COLOR").is_some_and(|value| !value.is_empty())
}
