//! Tests of parsing: command lines and the arguments that they result in, and every error text about a wrong command
//! line (docs/CLI.md, "Texts that scripts rely on").

use super::*;
use crate::catalogue::Generation;
use crate::cli::args::resolved::*;
use crate::cli::args::values;
use crate::io::BackendChoice;
use crate::ltx::{Level, Txid};
use crate::plan::Target;
use crate::timestamp::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn empty(_: &str) -> Option<String> {
    None
}

fn parsed(args: &[&str]) -> Result<Command, Failure> {
    parse(args.iter().map(OsString::from), &empty)
}

fn restore(args: &[&str]) -> RestoreArgs {
    match parsed(&[&["restore"], args].concat()) {
        Ok(Command::Restore(args)) => args,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn ltx(args: &[&str]) -> LtxArgs {
    match parsed(&[&["ltx"], args].concat()) {
        Ok(Command::Ltx(args)) => args,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn pattern(args: &[&str]) -> RestorePatternArgs {
    match parsed(&[&["restore-pattern"], args].concat()) {
        Ok(Command::RestorePattern(args)) => args,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn what_a_bench_measures() {
    let stages = |args: &[&str]| match parsed(&[&["bench", "s3://AK:CANARY@b/**"], args].concat()) {
        Ok(Command::Bench(args)) => {
            assert!(!format!("{args:?}").contains("CANARY"));
            args.stages.iter().map(|stage| stage.as_str()).collect::<Vec<_>>().join(" ")
        }
        other => panic!("{args:?}: {other:?}"),
    };
    assert_eq!(stages(&[]), "list fetch decode");
    assert_eq!(stages(&["-discard"]), "list fetch decode");
    assert_eq!(stages(&["-output-dir", "d"]), "list fetch decode all");
    assert_eq!(stages(&["-output-dir", "d", "-stage", "all"]), "all");
    assert_eq!(stages(&["-stage", "fetch", "-duration", "1m"]), "fetch");
}

#[test]
fn where_databases_are_known_from() {
    let catalogue = |args: &[&str]| pattern(&[args, &["s3://b/**"]].concat()).catalogue;
    assert_eq!(catalogue(&[]), CatalogueArgs::List);
    assert_eq!(catalogue(&["-catalogue", "a", "-save-catalogue="]), CatalogueArgs::Saved("a".into()));
    assert_eq!(catalogue(&["-save-catalogue", "a"]).written(), Some(Path::new("a")));
    let both = parsed(&["verify", "-catalogue", "a", "-save-catalogue", "b", "s3://b/**"]);
    assert_eq!(both.unwrap_err().message(), "cannot specify -save-catalogue and -catalogue");
    // A suggestion says anew which catalogue is meant.
    let typed = pattern(&["-save-catalogue", "a", "-catalogue=", "-json", "s3://b/**"]).typed;
    assert_eq!(typed.with("--catalogue a"), "hydrant restore-pattern --json --catalogue a 's3://b/**'");
}

#[test]
fn the_flag_definitions_are_sound() {
    for name in help::COMMANDS {
        help::definition(name).unwrap().0.debug_assert();
    }
}

#[test]
fn flags_by_gos_rules() {
    let expected = restore(&["-o", "out", "-force", "-txid", "1000", "s3://b/p"]);
    assert_eq!(expected.target, Target::Txid(Txid(0x1000)));
    assert_eq!(expected.output, Some(PathBuf::from("out")));
    assert!(expected.force && !expected.json);
    let spellings: [&[&str]; 8] = [
        &["--o", "out", "--force", "--txid", "1000", "s3://b/p"],
        &["-o=out", "-force=true", "-txid=0000000000001000", "s3://b/p"],
        &["--o=out", "-force=1", "-txid=1000", "--", "s3://b/p"],
        &["s3://b/p", "-o", "out", "-force", "-txid", "1000"],
        &["-o", "out", "s3://b/p", "-force", "-txid", "1000", "--"],
        &["-o", "first", "-o", "out", "-txid", "2", "-txid", "1000", "-force", "s3://b/p"],
        &["-force=false", "-json", "-json=f", "-o", "out", "-force", "-txid", "1000", "s3://b/p"],
        &["-o", "out", "-txid", "1000", "-force=T", "-timestamp=", "-config", "", "s3://b/p"],
    ];
    for spelling in spellings {
        assert_eq!(restore(spelling), expected, "{spelling:?}");
    }
    assert!(!restore(&["-force", "-force=false", "db"]).force);
    assert!(restore(&["-force=false", "-force", "db"]).force);
}

#[test]
fn values_may_begin_with_dashes_and_a_dash_is_a_path() {
    let args = restore(&["-o", "-force", "-parallelism", "-1", "/db"]);
    assert_eq!(args.output, Some(PathBuf::from("-force")));
    assert!(!args.force);
    assert_eq!(args.parallelism, None);
    assert_eq!(restore(&["-o", "--", "s3://b/p"]).output, Some(PathBuf::from("--")));
    let Source::Database { path, .. } = restore(&["-"]).source else { panic!() };
    assert_eq!(path.file_name().unwrap(), "-");
    let Source::Database { path, .. } = restore(&["-json", "--", "-json"]).source else { panic!() };
    assert_eq!(path.file_name().unwrap(), "-json");
}

#[test]
fn restore_defaults_and_all_flags() {
    let args = restore(&["/data/../data/./a.db"]);
    let config = ConfigFile { path: PathBuf::from("/etc/litestream.yml"), expand_env: true };
    assert_eq!(args.source, Source::Database { path: PathBuf::from("/data/a.db"), config });
    assert_eq!(args.source_shown, "/data/../data/./a.db");
    assert_eq!((args.output, args.target, args.parallelism), (None, Target::Latest, None));
    assert_eq!(args.integrity_check, IntegrityCheck::None);
    assert_eq!(args.follow_interval, Duration::from_secs(1));
    assert_eq!(args.progress, ProgressMode::Auto);
    assert!(!(args.if_db_not_exists || args.if_replica_exists || args.dry_run || args.json || args.force));
    assert_eq!(args.common.io_engine, BackendChoice::Auto);
    assert_eq!((args.common.log.verbosity, args.common.max_requests, args.common.log.no_color), (0, None, false));
    assert_eq!(args.common.log.format, LogFormat::Text);
    assert!((32 << 20..=256 << 20).contains(&args.common.memory_bytes));
    assert_eq!((args.common.connect_timeout, args.common.stall_timeout), (None, None));
    let section = crate::config::RestorePattern { connect_timeout: Some(Duration::from_secs(5)), ..Default::default() };
    let mut common = restore(&["-connect-timeout", "7s", "db"]).common;
    common.use_defaults(&section);
    assert_eq!(common.connect_timeout, Some(Duration::from_secs(7)), "flags are stronger than the file");
    let mut common = restore(&["db"]).common;
    common.use_defaults(&section);
    assert_eq!((common.connect_timeout, common.stall_timeout), (section.connect_timeout, None));

    let args = restore(&[
        "-config",
        "c.yml",
        "-no-expand-env",
        "-timestamp",
        "2026-01-02T03:04:05.5+01:00",
        "-if-db-not-exists",
        "-if-replica-exists",
        "-dry-run",
        "-json",
        "-force",
        "-parallelism",
        "0x10",
        "-integrity-check",
        "full",
        "-follow-interval",
        "500ms",
        "-no-progress",
        "--memory",
        "1.5GiB",
        "--io-engine",
        "pwrite",
        "--max-requests",
        "7",
        "--connect-timeout",
        "1m",
        "--stall-timeout",
        "0",
        "-vv",
        "--log-format",
        "json",
        "--no-color",
        "sqlite:///data/a.db",
    ]);
    let config = ConfigFile { path: PathBuf::from("c.yml"), expand_env: false };
    assert_eq!(args.source, Source::Database { path: PathBuf::from("/data/a.db"), config });
    assert_eq!(args.target, Target::Timestamp(Timestamp::parse_rfc3339("2026-01-02T02:04:05.5Z").unwrap()));
    assert!(args.if_db_not_exists && args.if_replica_exists && args.dry_run && args.json && args.force);
    assert_eq!(args.parallelism.map(usize::from), Some(16));
    assert_eq!(args.integrity_check, IntegrityCheck::Full);
    assert_eq!(args.progress, ProgressMode::Never);
    assert_eq!(args.common.memory_bytes, 3 << 29);
    assert_eq!(args.common.io_engine, BackendChoice::Pwrite);
    assert_eq!(args.common.max_requests.map(usize::from), Some(7));
    assert_eq!(args.common.connect_timeout, Some(Duration::from_secs(60)));
    assert_eq!(args.common.stall_timeout, Some(Duration::ZERO));
    assert_eq!((args.common.log.verbosity, args.common.log.format), (2, LogFormat::Json));
    assert!(args.common.log.no_color);
    assert_eq!(restore(&["-progress", "db"]).progress, ProgressMode::Always);
    assert_eq!(restore(&["-v", "db"]).common.log.verbosity, 1);
    assert_eq!(restore(&["-v", "-v", "-v", "db"]).common.log.verbosity, 2);
    assert_eq!(restore(&["-txid", "0000", "db"]).target, Target::Latest);
    let args = restore(&["-generation", "00000000000000ff", "-txid", "0", "-timestamp", "2026-01-02T03:04:05Z", "db"]);
    assert_eq!(args.generation, Some(Generation(255)));
    assert_eq!(restore(&["db"]).generation, None);
    assert_eq!(
        restore(&["-txid", "0", "-timestamp", "2026-01-02T03:04:05Z", "db"]).target,
        Target::Timestamp(Timestamp::parse_rfc3339("2026-01-02T03:04:05Z").unwrap())
    );
}

#[test]
fn the_environment_names_the_config_and_turns_colours_off() {
    let env = |name: &str| match name {
        "LITESTREAM_CONFIG" => Some("/other.yml".to_owned()),
        "NO_COLOR" => Some("1".to_owned()),
        _ => None,
    };
    let Ok(Command::Restore(args)) = parse(["restore", "/db"].iter().map(OsString::from), &env) else { panic!() };
    assert!(args.common.log.no_color);
    assert!(matches!(args.source, Source::Database { config, .. } if config.path == Path::new("/other.yml")));
    let Ok(Command::Ltx(args)) = parse(["ltx", "-config=x", "/db"].iter().map(OsString::from), &env) else { panic!() };
    assert!(matches!(args.source, Source::Database { config, .. } if config.path == Path::new("x")));
}

#[test]
fn a_flag_s_default_may_stand_in_the_environment() {
    let with = |variables: &[(&str, &str)], args: &[&str]| {
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        parse(args.iter().map(OsString::from), &env)
    };
    let restore = |variables: &[(&str, &str)], args: &[&str]| match with(variables, args) {
        Ok(Command::Restore(args)) => args,
        other => panic!("{other:?}"),
    };
    let set = [
        ("HYDRANT_OUTPUT", "out"),
        ("HYDRANT_MEMORY", "64MiB"),
        ("HYDRANT_JSON", "true"),
        ("HYDRANT_FORCE", "0"),
        ("HYDRANT_VERBOSE", "2"),
        ("HYDRANT_REGION", "r"),
        ("HYDRANT_TXID", ""),
        ("HYDRANT_GENERATION", "172497b1f17ea34a"),
    ];
    let args = restore(&set, &["restore", "s3://b/p"]);
    assert_eq!(args.output, Some(PathBuf::from("out")));
    assert_eq!(args.generation.map(|generation| generation.to_string()).as_deref(), Some("172497b1f17ea34a"));
    assert_eq!((args.common.memory_bytes, args.json, args.force), (64 << 20, true, false));
    assert_eq!((args.common.log.verbosity, args.common.store.region.as_deref()), (2, Some("r")));
    let args = restore(&set, &["restore", "-o", "typed", "-json=false", "-memory", "65MiB", "s3://b/p"]);
    assert_eq!((args.output, args.json, args.common.memory_bytes), (Some(PathBuf::from("typed")), false, 65 << 20));
    for (variable, value) in [
        ("HYDRANT_GENERATION", "latest"),
        ("HYDRANT_MEMORY", "much"),
        ("HYDRANT_JSON", "maybe"),
        ("HYDRANT_VERBOSE", "9"),
    ] {
        let failure = with(&[(variable, value)], &["restore", "-o", "x", "s3://b/p"]).unwrap_err();
        assert!(failure.message().contains(variable), "{}", failure.message());
    }
    // -config has its own variable.
    restore(&[("HYDRANT_CONFIG", "c.yml")], &["restore", "-o", "x", "s3://b/p"]);
}

#[test]
fn a_store_s_flags() {
    let args = restore(&["-endpoint", "minio:9000", "-region", "ENAM", "-no-sign-request", "-o", "x", "s3://b/p"]);
    let expected = StoreArgs {
        endpoint: Some("https://minio:9000".to_owned()),
        region: Some("ENAM".to_owned()),
        profile: None,
        anonymous: true,
        past: args.common.store.past,
    };
    let past = args.common.store.past;
    assert_eq!((past.as_of, past.allow_incomplete), (None, false));
    assert_eq!(args.common.store, expected);
    for bad in [&["-endpoint", "ftp://h"][..], &["-profile", "p", "-no-sign-request"]] {
        let all: Vec<&str> = ["restore", "-o", "x"].iter().chain(bad).chain(&["s3://b/p"]).copied().collect();
        assert_eq!(parsed(&all).unwrap_err().exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn ltx_flags() {
    let args = ltx(&["s3://b/p"]);
    assert_eq!(args.level, LevelFilter::Only(Level::new(0).unwrap()));
    assert!(args.level_is_default && !args.times && !args.json);
    let args = ltx(&["-level", "all", "-times", "-json", "s3://b/p"]);
    assert_eq!(args.level, LevelFilter::All);
    assert!(!args.level_is_default && args.times && args.json);
    assert!(!ltx(&["-level=0", "s3://b/p"]).level_is_default);
    assert_eq!(ltx(&["-level=9", "db"]).level, LevelFilter::Only(Level::SNAPSHOT));
}

#[test]
fn restore_pattern_flags() {
    let args = pattern(&["/data/**/*.db"]);
    assert!(matches!(&args.source, PatternSource::Configured { glob, .. } if glob == "/data/**/*.db"));
    assert_eq!(args.error_log, Path::new("litestream-restore-errors.log"));
    assert_eq!((args.parallel, args.max_retries, args.retry_delay, args.shard), (None, None, None, None));
    let args = pattern(&[
        "--output-dir",
        "/out",
        "--parallel",
        "64",
        "--if-db-not-exists",
        "--if-replica-exists",
        "--force",
        "-timestamp",
        "2026-01-02T03:04:05Z",
        "-integrity-check",
        "quick",
        "-dry-run",
        "-json",
        "--progress",
        "--max-retries",
        "0",
        "--retry-delay",
        "5s",
        "--first",
        "a/**",
        "--first",
        "b/*",
        "--shard",
        "2/8",
        "--report",
        "r.json",
        "-report=r.html",
        "s3://b/p/**?endpoint=http://h:9000",
    ]);
    assert!(matches!(&args.source, PatternSource::Url(url) if url.starts_with("s3://b/p/**?")));
    assert_eq!(args.output_dir.as_deref(), Some(Path::new("/out")));
    assert_eq!(args.parallel.map(usize::from), Some(64));
    assert!(args.if_db_not_exists && args.if_replica_exists && args.force && args.dry_run && args.json);
    assert_eq!(args.timestamp, Timestamp::parse_rfc3339("2026-01-02T03:04:05Z"));
    assert_eq!(args.integrity_check, IntegrityCheck::Quick);
    assert_eq!(args.progress, ProgressMode::Always);
    assert_eq!((args.max_retries, args.retry_delay), (Some(0), Some(Duration::from_secs(5))));
    assert_eq!(args.first, ["a/**", "b/*"]);
    assert_eq!(args.shard, Some(Shard { index: 2, of: 8 }));
    assert_eq!(args.error_log, Path::new("litestream-restore-errors-2-of-8.log"));
    assert_eq!(args.reports, [Path::new("r.json"), Path::new("r.html")]);
    assert_eq!(pattern(&["--error-log", "e", "x"]).error_log, Path::new("e"));
}

/// A wrong command line (its arguments) and the text of its error.
type Refusal = (&'static [&'static str], &'static str);

const REFUSED: &[Refusal] = &[
    (&["restore"], "database path or replica URL required"),
    (&["restore", ""], "database path or replica URL required"),
    (&["ltx", "-json"], "database path or replica URL required"),
    (&["restore", "a", "b"], "too many arguments"),
    (&["restore", "-o", "x", "a", "-force", "b"], "too many arguments"),
    (&["ltx", "a", "b"], "too many arguments"),
    (&["restore", "s3://b/p"], "-o is required when restoring from a replica URL"),
    (&["restore", "-o", "", "s3://b/p"], "-o is required when restoring from a replica URL"),
    (&["restore", "-config", "c", "-o", "x", "s3://b/p"], "cannot specify a replica URL and the -config flag"),
    (&["ltx", "-config", "c", "s3://b/p"], "cannot specify a replica URL and the -config flag"),
    (&["restore-pattern", "-config", "c", "s3://b/**"], "cannot specify a replica URL and the -config flag"),
    (
        &["restore", "-txid", "1", "-timestamp", "2026-01-02T03:04:05Z", "db"],
        "cannot specify index & timestamp to restore",
    ),
    (
        &["restore", "-timestamp", "2026-01-02 03:04:05Z", "db"],
        "invalid -timestamp, must specify in ISO 8601 format (e.g. 2000-01-01T00:00:00Z)",
    ),
    (
        &["restore", "-timestamp", "2026-01-02", "db"],
        "invalid -timestamp, must specify in ISO 8601 format (e.g. 2000-01-01T00:00:00Z)",
    ),
    (
        &["restore-pattern", "-timestamp", "now", "x"],
        "invalid -timestamp, must specify in ISO 8601 format (e.g. 2000-01-01T00:00:00Z)",
    ),
    (
        &["restore", "-txid", "", "db"],
        "invalid value \"\" for flag -txid: invalid txid format, expected 1 to 16 hexadecimal digits",
    ),
    (
        &["restore", "-txid=xyz", "db"],
        "invalid value \"xyz\" for flag -txid: invalid txid format, expected 1 to 16 hexadecimal digits",
    ),
    (
        &["restore", "-txid", "-1", "db"],
        "invalid value \"-1\" for flag -txid: invalid txid format, expected 1 to 16 hexadecimal digits",
    ),
    (
        &["restore", "-txid", "+1", "db"],
        "invalid value \"+1\" for flag -txid: invalid txid format, expected 1 to 16 hexadecimal digits",
    ),
    (
        &["restore", "-txid", "00000000000000001", "db"],
        "invalid value \"00000000000000001\" for flag -txid: invalid txid format, expected 1 to 16 hexadecimal digits",
    ),
    (&["restore", "-generation", "172497b1f17ea34a", "-txid", "1", "db"], "cannot specify -generation and -txid"),
    (&["restore", "-f", "-generation", "172497b1f17ea34a", "db"], "cannot use follow mode with -generation"),
    (
        &["restore", "-generation", "172497B1F17EA34A", "db"],
        "invalid value \"172497B1F17EA34A\" for flag -generation: must be 16 lower-case hexadecimal digits, the name of \
         a folder below generations/",
    ),
    (
        &["restore", "-generation", "", "db"],
        "invalid value \"\" for flag -generation: must be 16 lower-case hexadecimal digits, the name of a folder below \
         generations/",
    ),
    (&["restore-pattern", "-generation", "172497b1f17ea34a", "x"], "flag provided but not defined: -generation"),
    (&["restore", "-parallelism", "x", "db"], "invalid value \"x\" for flag -parallelism: parse error"),
    (
        &["restore", "-parallelism", "99999999999999999999", "db"],
        "invalid value \"99999999999999999999\" for flag -parallelism: value out of range",
    ),
    (&["restore", "-force=maybe", "db"], "invalid value \"maybe\" for flag -force: parse error"),
    (&["restore", "-follow-interval", "1", "db"], "invalid value \"1\" for flag -follow-interval: parse error"),
    (&["restore", "-bogus", "db"], "flag provided but not defined: -bogus"),
    (&["restore", "--bogus=1", "db"], "flag provided but not defined: -bogus"),
    (&["restore", "db", "-bogus"], "flag provided but not defined: -bogus"),
    (&["restore", "-O", "x", "db"], "flag provided but not defined: -O"),
    (&["restore", "-level", "1", "db"], "flag provided but not defined: -level"),
    (&["restore", "---o", "db"], "bad flag syntax: ---o"),
    (&["restore", "-=x", "db"], "bad flag syntax: -=x"),
    (&["restore", "db", "-o"], "flag needs an argument: -o"),
    (&["restore", "db", "--txid"], "flag needs an argument: -txid"),
    (&["restore", "-integrity-check", "deep", "db"], "invalid -integrity-check value: deep"),
    (&["restore", "-f", "-dry-run", "db"], "cannot use -dry-run with -f"),
    (&["restore", "-f", "-txid", "1", "db"], "cannot use follow mode with -txid"),
    (&["restore", "-f", "-timestamp", "2026-01-02T03:04:05Z", "db"], "cannot use follow mode with -timestamp"),
    (
        &["restore", "-f", "-if-db-not-exists", "db"],
        "cannot use follow mode with -if-db-not-exists: with -f, a database that exists is followed from where it is",
    ),
    (&["restore", "-f", "-follow-interval", "0s", "db"], "-follow-interval must be above 0"),
    (&["ltx", "-level", "10", "db"], "invalid value \"10\" for flag -level: level must be between 0 and 9"),
    (&["ltx", "-level", "-1", "db"], "invalid value \"-1\" for flag -level: level must be between 0 and 9"),
    (&["ltx", "-level", "", "db"], "invalid value \"\" for flag -level: level must be between 0 and 9"),
    (&["restore", "--memory", "lots", "db"], "invalid value \"lots\" for flag -memory: must be a size, e.g. 256MiB"),
    (
        &["restore", "--memory", "256", "db"],
        "invalid value \"256\" for flag -memory: must be at least 1MiB; a unit may follow, e.g. 256MiB",
    ),
    (&["restore", "--memory", "0", "db"], "invalid value \"0\" for flag -memory: must be more than 0"),
    (&["restore", "--io-engine", "x", "db"], "invalid value \"x\" for flag -io-engine: must be auto, uring or pwrite"),
    (&["restore", "--max-requests", "0", "db"], "invalid value \"0\" for flag -max-requests: must be at least 1"),
    (&["restore", "--log-format", "x", "db"], "invalid value \"x\" for flag -log-format: must be text or json"),
    (&["restore-pattern"], "pattern required"),
    (&["bench"], "source required"),
    (&["bench", "/data/**"], "not a URL: /data/**: bench takes s3://… or file:///…"),
    (&["bench", "-discard", "-output-dir", "d", "s3://b/**"], "cannot specify -discard and -output-dir"),
    (&["bench", "-stage", "all", "s3://b/**"], "-stage all writes databases: -output-dir is required"),
    (
        &["bench", "-stage", "list", "-output-dir", "d", "s3://b/**"],
        "-stage list writes nothing: -output-dir has no use",
    ),
    (&["bench", "-stage", "x", "s3://b"], "invalid value \"x\" for flag -stage: must be list, fetch, decode or all"),
    (&["restore-pattern", "a", "b"], "too many arguments"),
    (&["restore-pattern", "--shard", "4/4", "x"], "invalid value \"4/4\" for flag -shard: must be I/N with 0 <= I < N"),
    (&["restore-pattern", "--shard", "4", "x"], "invalid value \"4\" for flag -shard: must be I/N, e.g. 0/4"),
    (&["restore-pattern", "--shard", "+1/4", "x"], "invalid value \"+1/4\" for flag -shard: must be I/N, e.g. 0/4"),
    (&["restore-pattern", "--parallel", "0", "x"], "invalid value \"0\" for flag -parallel: must be at least 1"),
    (
        &["restore-pattern", "--max-retries", "-1", "x"],
        "invalid value \"-1\" for flag -max-retries: must not be negative",
    ),
    (&["completions"], "shell required: bash, zsh or fish"),
    (&["completions", "tcsh"], "unknown shell: tcsh: must be bash, zsh or fish"),
    (&["completions", "bash", "zsh"], "too many arguments"),
    (&["completions", "-json", "bash"], "flag provided but not defined: -json"),
    (&["man", "restor"], "hydrant restor: unknown command"),
    (&["man", "restore", "ltx"], "too many arguments"),
    (&["restor"], "hydrant restor: unknown command"),
    (
        &["replicate", "-h"],
        "hydrant replicate: unknown command: it is Litestream's. Hydrant reads replicas and writes none: go on with \
         litestream",
    ),
    (&["restore", "-o", "-", "s3://b/p"], "-o -: this is not stdout here; a file of that name is written ./-"),
    (&["restore-pattern", "-report=-", "x"], "-report -: this is not stdout here; a file of that name is written ./-"),
    (
        &["restore-pattern", "-error-log", "~/log", "x"],
        "-error-log ~/log: the shell has not expanded the ~; a directory of that name is written ./~",
    ),
    (
        &["restore", "-o", "s3://b/p", "x.db"],
        "-o is the path of the new database, not a URL: hydrant restore -o PATH URL",
    ),
    (&["help", "nothing"], "hydrant nothing: unknown command"),
    (&["-force", "restore"], "flag provided but not defined: -force"),
];

#[test]
fn every_usage_text() {
    for (args, text) in REFUSED {
        match parsed(args) {
            Err(failure @ Failure::Usage { .. }) => assert_eq!(failure.message(), *text, "{args:?}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
}

#[test]
fn globs_that_are_none() {
    for args in [["restore-pattern", "--first", "a[", "x"].as_slice(), &["restore-pattern", "{a,b"]] {
        let failure = parsed(args).unwrap_err();
        assert!(failure.message().starts_with("invalid "), "{failure:?}");
        assert_eq!(failure.exit_code(), 2);
    }
}

#[test]
fn help_and_version() {
    let show = |args: &[&str]| match parsed(args) {
        Ok(Command::Show(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    };
    let top = show(&["-h"]);
    assert_eq!((&show(&["--help"]), &show(&["help"]), &show(&["-help"])), (&top, &top, &top));
    for name in help::COMMANDS {
        assert!(top.contains(&format!("\n  {name} ")), "{top}");
        assert!(top.contains(&format!("\n  hydrant {name} ")), "{top}");
        let help = show(&["help", name]);
        assert_eq!(show(&[name, "-h"]), help);
        assert_eq!(show(&[name, "x", "-help", "-bogus"]), help);
        assert!(help.contains("Usage: hydrant "), "{help}");
    }
    let help = show(&["help", "restore-pattern"]);
    for text in ["[default: 3]", "[default: 5s]", "one byte", "%3F"] {
        assert!(help.contains(text), "{text} is missing:\n{help}");
    }
    let help = show(&["help", "restore"]);
    for flag in [
        "--config",
        "--no-expand-env",
        "-o ",
        "--txid",
        "--timestamp",
        "--generation",
        "--if-db-not-exists",
        "--if-replica-exists",
        "--dry-run",
        "--json",
        "--force",
        "--parallelism",
        "--integrity-check",
        "-f ",
        "--follow-interval",
        "--progress",
        "--no-progress",
        "--memory",
        "--io-engine",
        "--max-requests",
        "--connect-timeout",
        "--stall-timeout",
        "-v",
        "--log-format",
        "--no-color",
    ] {
        assert!(help.contains(flag), "{flag} is missing:\n{help}");
    }
    assert_eq!(show(&["--version"]), format!("hydrant {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn debug_output_holds_no_secret() {
    let args = restore(&["-o", "x", "s3://AK:CANARY@b/p?sse-customer-key=CANARY"]);
    assert!(!format!("{args:?}").contains("CANARY"));
    assert!(!format!("{:?}", pattern(&["s3://AK:CANARY@b/**"])).contains("CANARY"));
}

#[test]
fn paths_that_are_not_utf8_survive() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"/data/\xff.db".to_vec());
    let args = [OsString::from("restore"), "-o".into(), odd.clone(), odd.clone()];
    let Ok(Command::Restore(args)) = parse(args.into_iter(), &empty) else { panic!() };
    assert_eq!(args.output, Some(PathBuf::from(odd.clone())));
    assert!(matches!(args.source, Source::Database { path, .. } if path.as_os_str() == odd));
    let args = [OsString::from("restore"), "-txid".into(), odd, "db".into()];
    assert!(matches!(parse(args.into_iter(), &empty), Err(Failure::Usage { .. })));
}

#[test]
fn sizes_and_integers() {
    let table = [
        ("1", Ok(1)),
        ("256MiB", Ok(256 << 20)),
        ("256mib", Ok(256 << 20)),
        ("1G", Ok(1 << 30)),
        ("1 GiB", Ok(1 << 30)),
        ("1GB", Ok(1_000_000_000)),
        ("0.5k", Ok(512)),
        ("16777216T", Err("value out of range")),
        ("1.2.3", Err("must be a size, e.g. 256MiB")),
        ("1.", Err("must be a size, e.g. 256MiB")),
        (".5G", Err("must be a size, e.g. 256MiB")),
        ("-1", Err("must be a size, e.g. 256MiB")),
        ("1é", Err("must be a size, e.g. 256MiB")),
        ("", Err("must be a size, e.g. 256MiB")),
    ];
    for (text, expected) in table {
        assert_eq!(values::size(text), expected.map_err(str::to_owned), "{text}");
    }
    assert_eq!(values::integer("-0x10"), Ok(-16));
    assert_eq!(values::integer("-9223372036854775808"), Ok(i64::MIN));
    assert!(values::integer("--1").is_err() && values::integer("0x").is_err() && values::integer("é").is_err());
}
