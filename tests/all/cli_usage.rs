//! Tests of the program's command line as a script sees it: exit codes, what goes to stdout and to stderr, and
//! signals.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A command for the program with an empty environment.
fn hydrant(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(args).env_clear().env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    hydrant(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The exit code, stdout and stderr of a run.
fn seen(output: &Output) -> (i32, &str, &str) {
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn usage_errors_exit_2_and_speak_once_on_stderr() {
    let table: &[(&[&str], &str)] = &[
        (&["restore", "a", "b"], "Error: too many arguments\n"),
        (
            &["restore", "s3://b/p"],
            "Error: -o is required when restoring from a replica URL\nTry: hydrant restore -o /path/to/db s3://b/p\n",
        ),
        (
            &["restore", "-txid", "", "x"],
            "Error: invalid value \"\" for flag -txid: invalid txid format, expected 1 to 16 hexadecimal digits\n",
        ),
        (&["restore", "x", "-integrity-check=all"], "Error: invalid -integrity-check value: all\n"),
        (&["restore", "x", "-o"], "Error: flag needs an argument: -o\n"),
        (&["restore", "-f", "-dry-run", "x"], "Error: cannot use -dry-run with -f\n"),
        (&["ltx", "-level=10", "x"], "Error: invalid value \"10\" for flag -level: level must be between 0 and 9\n"),
        (&["restor"], "Error: hydrant restor: unknown command\nTry: hydrant restore -h\n"),
    ];
    for (args, stderr) in table {
        assert_eq!(seen(&run(args)), (2, "", *stderr), "{args:?}");
    }
}

#[test]
fn help_is_an_answer_and_its_absence_is_not() {
    for args in [&["-h"][..], &["--help"], &["help"], &["restore", "-h"], &["ltx", "x", "--help"], &["help", "ltx"]] {
        let output = run(args);
        let (code, stdout, stderr) = seen(&output);
        assert_eq!((code, stderr), (0, ""), "{args:?}");
        assert!(stdout.contains("Usage: hydrant"), "{stdout}");
    }
    let output = run(&[]);
    let (code, stdout, stderr) = seen(&output);
    assert_eq!((code, stdout), (2, ""));
    assert!(stderr.contains("hydrant restore-pattern"), "{stderr}");
    let version = format!("hydrant {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(seen(&run(&["--version"])), (0, &*version, ""));
}

#[test]
fn an_existing_database_is_skipped_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.db");
    std::fs::write(&empty, b"").unwrap();
    let dangling = dir.path().join("dangling.db");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
    let no_config = dir.path().join("none.yml");
    let restore = |output: &Path| {
        run(&[
            "restore",
            "-if-db-not-exists",
            "-force",
            "-dry-run",
            "-json",
            "-config",
            no_config.to_str().unwrap(),
            "-o",
            output.to_str().unwrap(),
            "/data/app.db",
        ])
    };
    for existing in [empty.as_path(), dir.path()] {
        assert_eq!(seen(&restore(existing)), (0, "", "database already exists, skipping\n"));
    }
    let not_found = format!("Error: config file not found: {}\n", no_config.display());
    for absent in [dangling.as_path(), &dir.path().join("absent.db")] {
        assert_eq!(seen(&restore(absent)), (1, "", &*not_found));
    }
}

#[test]
fn the_configuration_is_named_by_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("l.yml");
    std::fs::write(&config, "dbs: []\n").unwrap();
    let output = hydrant(&["ltx", "x.db"]).env("LITESTREAM_CONFIG", &config).current_dir(dir.path()).output().unwrap();
    let here = dir.path().canonicalize().unwrap().join("x.db");
    let expected = format!("Error: database not found in config: {}\n", here.display());
    assert_eq!(seen(&output), (1, "", &*expected));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = hydrant(&["help", "restore"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*stderr), (Some(0), ""));
}

#[test]
fn a_full_disk_is_not_quiet() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = hydrant(&["-h"]).stdout(full).output().unwrap();
    let (code, _, stderr) = seen(&output);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("Error: cannot write to stdout: "), "{stderr}");
}

#[test]
fn secrets_in_urls_are_not_repeated() {
    for args in [
        &["restore", "s3://AK:CANARY@b/p?sse-customer-key=CANARY"][..],
        &["restore", "-o", "x", "-config", "c", "s3://AK:CANARY@b/p"],
        &["restore-pattern", "s3://AK:CANARY@b/**", "extra"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(!text(&output.stderr).contains("CANARY"), "{}", text(&output.stderr));
    }
}

/// docs/GUARANTEES.md, 11: if certificates are not checked, a warning says so.
#[test]
fn skip_verify_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let url = "s3://bucket/app.db?endpoint=https://127.0.0.1:1&region=us-east-1&skipVerify=true";
    let run = |url: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hydrant"))
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .args(["restore", "-connect-timeout", "0", "-o"])
            .arg(dir.path().join("db"))
            .arg(url)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(url).contains("skip-verify"));
    assert!(!run(&url.replace("true", "false")).contains("skip-verify"));
}
