//! Other programs that read from S3, if they are on PATH. `litestream` restores databases, and `s5cmd` fetches the
//! same objects.

use super::cost::{Cost, attempted, command, measured};
use super::server::Server;
use super::{fresh_dir, on_path};
use hydrant::sim::generate::{GeneratedDatabase, GeneratedObject};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

pub(crate) struct Rivals {
    pub litestream: Option<PathBuf>,
    pub s5cmd: Option<PathBuf>,
}

impl Rivals {
    pub(crate) fn on_path() -> Self {
        Self { litestream: on_path("litestream"), s5cmd: on_path("s5cmd") }
    }

    /// Runs `litestream restore` for one database.
    pub(crate) fn restore_one(&self, server: &Server, bucket: &str, root: &str) -> Option<Cost> {
        let litestream = self.litestream.as_ref()?;
        let dir = fresh_dir("litestream");
        let mut restore = command(litestream);
        restore.args(["restore", "-o"]).arg(dir.join("db")).arg(server.url(bucket, root));
        let cost = measured(Some(server), &mut restore);
        let _ = std::fs::remove_dir_all(dir);
        Some(cost)
    }

    /// Runs `litestream restore` for these databases under `xargs -P parallel`. Returns the cost and the number of
    /// databases that were restored.
    pub(crate) fn restore_all(
        &self,
        server: &Server,
        bucket: &str,
        databases: &[GeneratedDatabase],
        parallel: u64,
    ) -> Option<(Cost, usize)> {
        let litestream = self.litestream.as_ref()?;
        let dir = fresh_dir("litestream");
        let mut lines = String::new();
        for (i, database) in databases.iter().enumerate() {
            let _ = writeln!(lines, "{} {}", dir.join(i.to_string()).display(), server.url(bucket, &database.root));
        }
        let list = dir.join("list");
        std::fs::write(&list, lines).expect("the list");
        let mut xargs = command("xargs");
        xargs.arg("-a").arg(&list).arg("-P").arg(parallel.to_string()).args(["-n", "2"]);
        let cost = attempted(Some(server), xargs.arg(litestream).args(["restore", "-o"]));
        let restored = (0..databases.len()).filter(|i| dir.join(i.to_string()).exists()).count();
        Some((cost, restored))
    }

    /// Runs `s5cmd` to fetch these objects without writing them.
    pub(crate) fn fetch<'a>(
        &self,
        server: &Server,
        bucket: &str,
        objects: impl IntoIterator<Item = &'a GeneratedObject>,
    ) -> Option<Cost> {
        let mut s5cmd = self.s5cmd(server)?;
        let mut lines = String::new();
        for object in objects {
            let _ = writeln!(lines, "cat --concurrency 16 --part-size 8 s3://{bucket}/{}", object.key);
        }
        let list = fresh_dir("s5cmd").join("commands");
        std::fs::write(&list, lines).expect("the list");
        Some(measured(Some(server), s5cmd.arg("run").arg(list)))
    }

    fn s5cmd(&self, server: &Server) -> Option<Command> {
        let mut s5cmd = command(self.s5cmd.as_ref()?);
        s5cmd.arg("--endpoint-url").arg(&server.endpoint);
        Some(s5cmd)
    }
}
