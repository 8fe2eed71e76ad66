//! Other programs that read from S3, if they are on PATH. `litestream` restores databases, and `s5cmd` fetches the
//! same objects.

use super::cost::{Cost, attempted, command, measured};
use super::server::Server;
use super::{fresh_dir, on_path};
use hydrant::sim::generate::GeneratedObject;
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

    /// Runs `litestream restore` for the database at `url`, which is on `server` if there is one.
    pub(crate) fn restore_one(&self, server: Option<&Server>, url: &str) -> Option<Cost> {
        let litestream = self.litestream.as_ref()?;
        let dir = fresh_dir("litestream");
        let mut restore = command(litestream);
        restore.args(["restore", "-o"]).arg(dir.join("db")).arg(url);
        let cost = measured(server, &mut restore);
        let _ = std::fs::remove_dir_all(dir);
        Some(cost)
    }

    /// Runs `litestream restore` for the databases with these roots under `xargs -P parallel`. Returns the cost and the number of
    /// databases that were restored.
    pub(crate) fn restore_all<'a>(
        &self,
        server: &Server,
        bucket: &str,
        roots: impl IntoIterator<Item = &'a str>,
        parallel: u64,
    ) -> Option<(Cost, usize)> {
        let litestream = self.litestream.as_ref()?;
        let dir = fresh_dir("litestream");
        let mut lines = String::new();
        let mut count = 0;
        for root in roots {
            let _ = writeln!(lines, "{} {}", dir.join(count.to_string()).display(), server.url(bucket, root));
            count += 1;
        }
        let list = dir.join("list");
        std::fs::write(&list, lines).expect("the list");
        let mut xargs = command("xargs");
        xargs.arg("-a").arg(&list).arg("-P").arg(parallel.to_string()).args(["-n", "2"]);
        let cost = attempted(Some(server), xargs.arg(litestream).args(["restore", "-o"]));
        let restored = (0..count).filter(|i| dir.join(i.to_string()).exists()).count();
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
