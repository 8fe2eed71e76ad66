//! The texts that help and man pages show besides the flags: the meaning of the positionals, examples, exit codes.

/// The texts that help and man page of one command show besides its flags.
pub struct HelpText {
    /// A paragraph before the examples: the meaning of the positionals, and further notes. May be empty.
    pub description: &'static str,
    /// Example command lines of the command, each with a comment line above it.
    pub examples: &'static str,
    /// The text after the examples. If it lists exit codes, it begins with [`EXIT`].
    pub ending: &'static str,
}

/// The word that a text about exit codes begins with. By it `man` finds the text for its section EXIT STATUS.
pub(super) const EXIT: &str = "Exit: ";

impl HelpText {
    /// The text that help shows below the flags.
    pub fn after_help(&self) -> String {
        let begin = if self.description.is_empty() { String::new() } else { format!("{}\n\n", self.description) };
        format!("{begin}Examples:\n{}\n\n{}", self.examples, self.ending)
    }
}

pub(super) const RESTORE: HelpText = HelpText {
    description: "\
DB_PATH is a database of the configuration file. REPLICA_URL is s3://bucket/path (endpoint and
region may follow: ?endpoint=…&region=…) or file:///path.
Flags are written -name or --name, -name VALUE or -name=VALUE, before or after the path.",
    examples: "  # the newest state, to the configured path
  hydrant restore /path/to/db

  # the state at a point in time, to another path
  hydrant restore -timestamp 2026-01-31T12:00:00Z -o /tmp/db /path/to/db

  # from the URL of a replica
  hydrant restore -o /tmp/db s3://bucket/path/to/db

  # in an entrypoint: only where there is a backup and no database yet
  hydrant restore -if-db-not-exists -if-replica-exists /path/to/db

  # a warm standby, kept up to date until it is stopped
  hydrant restore -f -o /srv/standby/app.db s3://bucket/app.db",
    ending: "Exit: 0 restored or skipped as asked, 1 failed, 2 usage, 129/130/143 interrupted.",
};

pub(super) const LTX: HelpText = HelpText {
    description: "",
    examples: "  # everything that is there, of all levels
  hydrant ltx -level all /path/to/db

  # the snapshots, with their own times
  hydrant ltx -level 9 -times s3://bucket/path/to/db",
    ending: "Exit: 0 (also when there are none), 1 failed, 2 usage.",
};

pub(super) const RESTORE_PATTERN: HelpText = HelpText {
    description: "\
PATTERN is a glob over the paths of the configured databases, or s3://bucket/prefix/glob,
file:///dir/glob. ** crosses slashes, * and ? do not; [a-z], {a,b}. ? and [a-z] match one byte:
letters beyond ASCII take a *. In a URL a ? begins the query; as a wildcard it is written %3F.",
    examples: "  # all configured databases below a directory
  hydrant restore-pattern '/data/projects/**/*.db'

  # all databases of a bucket, below another directory
  hydrant restore-pattern -output-dir /restored 's3://bucket/projects/**'",
    ending: "Exit: 0 all restored or skipped, 3 some failed, 1 none succeeded, 2 usage, 129/130/143 interrupted.",
};

pub(super) const VERIFY: HelpText = HelpText {
    description: "\
PATTERN, DB_PATH and REPLICA_URL are as for restore-pattern and restore. Nothing is written but to
-scratch, where databases are removed again. Each database is restorable, degraded (only around
damaged files), stale (-max-age) or not restorable.",
    examples: "  # every file of every database fetched, decoded and checked
  hydrant verify 's3://bucket/backups/**'

  # the monthly drill: SQLite looks at each database, none older than a day, none lost since
  hydrant verify -depth sqlite -scratch /mnt/scratch -max-age 24h -expect last.json '/data/**'

  # a seventh of the fleet each day
  hydrant verify -sample 0/7 's3://bucket/backups/**'",
    ending: "Exit: 0 all pass, 3 some fail, 1 failed, 2 usage, 129/130/143 interrupted.",
};

pub(super) const FIND: HelpText = HelpText {
    description: "\
Restores states of the database to scratch, compares the query's first row, and says after which
state it changed, with the command that restores the state just before. Between two states with
the same answer nothing is looked for, unless -all is given.",
    examples: "  # when did the table become empty?
  hydrant find -sql 'SELECT count(*) > 0 FROM orders' /path/to/db

  # every change of a price since Monday
  hydrant find -all -from 2026-01-26T00:00:00Z -sql 'SELECT price FROM items WHERE id = 7' s3://bucket/db",
    ending: "Exit: 0 a change was found, 1 none or failed, 2 usage, 129/130/143 interrupted.",
};

pub(super) const PROMOTE: HelpText = HelpText {
    description: "\
Ends the standby's follower, applies what the replica still has, lets SQLite check the database,
and removes its -txid. Before: make sure that the old primary is off and stays off. After: start
the application and litestream replicate.",
    examples: "  # the standby at the configured path
  hydrant promote /path/to/db

  # another standby
  hydrant promote -o /srv/standby/app.db s3://bucket/backups/app.db

  # all standbys of a fleet
  hydrant promote -output-dir /srv/standby 's3://bucket/backups/**'",
    ending: "\
Exit: 0 promoted, 1 failed and still a standby, 3 some databases of a fleet failed, 2 usage,
129/130/143 interrupted.",
};

pub(super) const BENCH: HelpText = HelpText {
    description: "\
SOURCE is what restore-pattern takes: s3://bucket/prefix/glob, file:///dir/glob, or the URL of
one replica. Stages: list; fetch (GET alone); decode (fetch, decode and check, write nothing); all
(list, fetch, decode, write, sync). In the table, `fetch/first_byte` is the time to first byte while
fetch was measured, and so on; CPU s/GB is per GB of databases, for fetch per GB fetched.",
    examples: "  # how fast bucket, network and decoder are; nothing is written
  hydrant bench 's3://bucket/projects/**'

  # with the disk, each stage for half a minute
  hydrant bench -output-dir /data -duration 30s 's3://bucket/projects/**'

  # one replica, fetching alone, with its latencies second by second
  hydrant bench -stage fetch -duration 1m -hlog fetch.hlog s3://bucket/path/to/db",
    ending: "\
Exit: 0 measured, 3 some databases failed, 1 all failed or nothing matched, 2 usage, 129/130/143
interrupted (what was measured until then is shown).",
};

pub(super) const TOP: HelpText = HelpText {
    description: "",
    examples: "  hydrant restore -o /tmp/app.db s3://bucket/app.db
  hydrant ltx -level all s3://bucket/app.db
  hydrant restore-pattern -output-dir /restored 's3://bucket/projects/**'
  hydrant verify 's3://bucket/projects/**'
  hydrant find -sql 'SELECT count(*) FROM orders' s3://bucket/app.db
  hydrant promote -o /srv/standby/app.db s3://bucket/app.db
  hydrant bench 's3://bucket/projects/**'
  hydrant completions bash
  hydrant man restore",
    ending: "`hydrant COMMAND -h` shows the flags of a command. They are written -name or --name.",
};

pub(super) const COMPLETIONS: HelpText = HelpText {
    description: "\
SHELL is bash, zsh or fish. The script goes to stdout. It completes both forms of a flag.",
    examples: "  # bash, for the current shell, and for every new one
  source <(hydrant completions bash)
  hydrant completions bash > /etc/bash_completion.d/hydrant

  # zsh: into a directory of $fpath
  hydrant completions zsh > /usr/local/share/zsh/site-functions/_hydrant

  # fish
  hydrant completions fish > ~/.config/fish/completions/hydrant.fish",
    ending: "Exit: 0 printed, 2 usage.",
};

pub(super) const MAN: HelpText = HelpText {
    description: "\
Without COMMAND the page is hydrant(1), with it hydrant-COMMAND(1). It goes to stdout as roff.",
    examples: "  # read a page
  hydrant man restore | man -l -

  # install a page
  hydrant man restore > /usr/local/share/man/man1/hydrant-restore.1",
    ending: "Exit: 0 printed, 2 usage.",
};
